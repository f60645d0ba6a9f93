// SPDX-License-Identifier: Apache-2.0
//! Keys that came with the process's environment.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use cap_core::entropy::Entropy;
use cap_core::envelope::{Kek, KekError, KekVersion};
use cap_core::secret::SecretKey;

use super::KekFolderError;
use super::held::Held;

/// The provider `env`: the keys that it was given at start, for good. A new version needs a restart.
#[derive(Debug)]
pub struct EnvKek {
    held: Held,
}

impl EnvKek {
    /// A provider of these keys.
    ///
    /// # Errors
    /// When there is none.
    pub fn new(
        keys: BTreeMap<KekVersion, SecretKey>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, KekFolderError> {
        if keys.is_empty() {
            let origin = "the environment".to_owned();
            return Err(KekFolderError::Empty { origin });
        }
        Ok(Self { held: Held::new(keys, entropy) })
    }
}

#[async_trait]
impl Kek for EnvKek {
    fn provider(&self) -> &'static str {
        "env"
    }

    async fn versions(&self) -> Result<Vec<KekVersion>, KekError> {
        Ok(self.held.versions())
    }

    async fn wrap(
        &self,
        version: KekVersion,
        key: &SecretKey,
        associated_data: &[u8],
    ) -> Result<Vec<u8>, KekError> {
        self.held.wrap(version, key, associated_data)
    }

    async fn unwrap(
        &self,
        version: KekVersion,
        wrapped: &[u8],
        associated_data: &[u8],
    ) -> Result<SecretKey, KekError> {
        self.held.unwrap(version, wrapped, associated_data)
    }
}
