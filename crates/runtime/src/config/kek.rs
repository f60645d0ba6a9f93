// SPDX-License-Identifier: Apache-2.0
//! Who holds the key encryption keys.

use std::collections::BTreeMap;
use std::path::PathBuf;

use cap_core::secret::{SecretKey, secret_key};
use secrecy::ExposeSecret;

use super::{Config, Fault, Group};

/// Providers of the design that this build does not have.
const ABSENT: [&str; 4] = ["pkcs11", "vault-transit", "kms-plugin", "aws-kms"];

/// Who holds the key encryption keys.
#[derive(Debug)]
pub struct KekConfig {
    /// The provider.
    pub provider: KekProvider,
}

/// A provider and what it needs to start.
#[derive(Debug)]
pub enum KekProvider {
    /// A folder of `v<N>.key` files.
    File {
        /// The folder.
        dir: PathBuf,
    },
    /// The environment.
    Env {
        /// The keys by version; one at least.
        keys: BTreeMap<u32, SecretKey>,
    },
}

impl Group for KekConfig {
    fn read(config: &mut Config) -> Option<Self> {
        let keys = numbered(config);
        let name = config.parse("CAP_KEK_PROVIDER", "write file or env", |text| match text {
            "file" | "env" => Ok(text.to_owned()),
            _ if ABSENT.contains(&text) => Err("not available in this build".to_owned()),
            _ => Err("no such provider".to_owned()),
        })?;
        let provider = if name == "env" { env(config, keys?) } else { file(config) };
        Some(Self { provider: provider? })
    }
}

fn file(config: &mut Config) -> Option<KekProvider> {
    let dir = config.path("CAP_KEK_DIR");
    if dir.is_none() {
        config.fault(Fault::new(
            "CAP_KEK_DIR",
            "CAP_KEK_PROVIDER=file needs it and it is not given",
            "set it to the folder of v<N>.key files; `certautopilot kek generate` makes one",
        ));
    }
    Some(KekProvider::File { dir: dir? })
}

/// The numbered keys, whichever provider uses them; nothing when one of them is no key.
fn numbered(config: &mut Config) -> Option<BTreeMap<u32, SecretKey>> {
    let (mut keys, mut faults) = (BTreeMap::new(), Vec::new());
    for (version, given) in config.kek_values() {
        let mut key = [0; 32];
        match hex::decode_to_slice(given.value.expose_secret(), &mut key) {
            Ok(()) => {
                keys.insert(version, secret_key(key));
            }
            Err(_) => faults.push(Fault::new(given.origin.as_str(), "not a key", "write 64 hex digits")),
        }
    }
    let is_good = faults.is_empty();
    for fault in faults {
        config.misspelt(fault);
    }
    is_good.then_some(keys)
}

fn env(config: &mut Config, keys: BTreeMap<u32, SecretKey>) -> Option<KekProvider> {
    if keys.is_empty() {
        config.fault(Fault::new(
            "CAP_KEK_V1",
            "CAP_KEK_PROVIDER=env needs one key at least and none is given",
            "set CAP_KEK_V<N> (or CAP_KEK_V<N>_FILE) to 64 hex digits",
        ));
        return None;
    }
    Some(KekProvider::Env { keys })
}
