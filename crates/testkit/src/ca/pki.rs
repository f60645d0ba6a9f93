// SPDX-License-Identifier: Apache-2.0
//! The little PKI that gives Pebble and the proxy their own TLS. It has nothing to do with what a CA issues.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};

/// Names under which a server on this machine is reached.
const LOOPBACK_NAMES: &[&str] = &["localhost", "127.0.0.1", "::1"];
/// Only the owner reads a key.
const KEY_MODE: u32 = 0o600;

/// A certificate file and its key file.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

/// Files of one root and of the servers that it vouches for.
#[derive(Debug)]
pub(super) struct Pki {
    pub(super) root: PathBuf,
    pub(super) pebble: Identity,
    pub(super) proxy: Identity,
}

impl Pki {
    /// Makes them all in this folder.
    pub(super) fn create(folder: &Path) -> anyhow::Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, "CertAutoPilot test servers");
        let root = CertifiedIssuer::self_signed(params, key)?;
        let root_file = folder.join("root.pem");
        fs::write(&root_file, root.pem()).with_context(|| format!("writing {}", root_file.display()))?;
        let server = |name: &str| -> anyhow::Result<Identity> {
            let key = KeyPair::generate()?;
            let names: Vec<String> = LOOPBACK_NAMES.iter().map(ToString::to_string).collect();
            let mut params = CertificateParams::new(names)?;
            params.distinguished_name.push(DnType::CommonName, name);
            let certificate = params.signed_by(&key, &root)?;
            let files = Identity {
                certificate: folder.join(format!("{name}.pem")),
                key: folder.join(format!("{name}.key")),
            };
            fs::write(&files.certificate, certificate.pem())?;
            write_key(&files.key, &key.serialize_pem())?;
            Ok(files)
        };
        Ok(Self { root: root_file, pebble: server("pebble")?, proxy: server("proxy")? })
    }
}

pub(super) fn write_key(path: &Path, pem: &str) -> anyhow::Result<()> {
    let mut file = fs::File::options().create(true).write(true).truncate(true).mode(KEY_MODE).open(path)?;
    file.write_all(pem.as_bytes()).with_context(|| format!("writing {}", path.display()))
}
