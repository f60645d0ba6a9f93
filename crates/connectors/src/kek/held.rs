// SPDX-License-Identifier: Apache-2.0
//! Keys in this process's memory, and what is done with them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use cap_core::entropy::Entropy;
use cap_core::envelope::{self, KekError, KekVersion};
use cap_core::secret::{ExposeSecret, SecretKey, equal};

/// Keys by version.
pub(super) type Keys = BTreeMap<KekVersion, SecretKey>;

/// Keys and luck. Versions are added, never replaced and never dropped.
pub(super) struct Held {
    keys: RwLock<Keys>,
    entropy: Arc<dyn Entropy>,
}

impl Held {
    pub(super) fn new(keys: Keys, entropy: Arc<dyn Entropy>) -> Self {
        let keys = RwLock::new(keys);
        Self { keys, entropy }
    }

    pub(super) fn versions(&self) -> Vec<KekVersion> {
        self.keys().keys().copied().collect()
    }

    pub(super) fn has(&self, version: KekVersion) -> bool {
        self.keys().contains_key(&version)
    }

    /// Takes in the versions that are new. Answers with one that we hold as another key; then none was taken.
    pub(super) fn add(&self, more: Keys) -> Result<(), KekVersion> {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        let is_other = |(version, key): &(&KekVersion, &SecretKey)| {
            keys.get(version).is_some_and(|held| !equal(held.expose_secret(), key.expose_secret()))
        };
        if let Some((version, _)) = more.iter().find(is_other) {
            return Err(*version);
        }
        for (version, key) in more {
            keys.entry(version).or_insert(key);
        }
        Ok(())
    }

    pub(super) fn wrap(
        &self,
        version: KekVersion,
        key: &SecretKey,
        associated_data: &[u8],
    ) -> Result<Vec<u8>, KekError> {
        let keys = self.keys();
        let kek = keys.get(&version).ok_or(KekError::UnknownVersion(version))?;
        Ok(envelope::wrap_key(kek, associated_data, key, self.entropy.as_ref()))
    }

    pub(super) fn unwrap(
        &self,
        version: KekVersion,
        wrapped: &[u8],
        associated_data: &[u8],
    ) -> Result<SecretKey, KekError> {
        let keys = self.keys();
        let kek = keys.get(&version).ok_or(KekError::UnknownVersion(version))?;
        envelope::unwrap_key(kek, associated_data, wrapped).map_err(|_| KekError::Wrong(version))
    }

    fn keys(&self) -> RwLockReadGuard<'_, Keys> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("versions", &self.versions()).finish_non_exhaustive()
    }
}
