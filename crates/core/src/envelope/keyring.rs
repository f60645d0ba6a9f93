// SPDX-License-Identifier: Apache-2.0
//! The keyring: project keys, wrapped in the database, unwrapped for a while in memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretSlice};
use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::entropy::{self, Entropy};
use crate::envelope::{
    CannotOpen, Context, Kek, KekError, KekVersion, KeyId, KeyOwner, Sealed, Slot, open, seal,
};
use crate::id::ClusterId;
use crate::limits;
use crate::secret::{SecretKey, secret_key};

/// A project key as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrappedKey {
    /// Which key: `owner/purpose`.
    pub key: String,
    /// Its version.
    pub version: u32,
    /// The KEK version that wraps it.
    pub kek_version: KekVersion,
    /// The wrapped bytes.
    #[serde(with = "serde_bytes")]
    pub wrapped: Vec<u8>,
}

/// A known value wrapped under a KEK version when that version came into use: whoever opens it has the right KEK.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canary {
    /// Which cluster.
    pub cluster: ClusterId,
    /// The KEK version.
    pub kek_version: KekVersion,
    /// The wrapped canary.
    #[serde(with = "serde_bytes")]
    pub wrapped: Vec<u8>,
}

/// The store behind the keyring could not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the project keys cannot be read now: {0}")]
pub struct KeyStoreError(pub String);

/// Where wrapped project keys are kept.
#[async_trait]
pub trait KeyStore: Send + Sync {
    /// The newest version of a key, or the version asked for.
    async fn find(&self, key: &str, version: Option<u32>) -> Result<Option<WrappedKey>, KeyStoreError>;

    /// Adds a key unless that version is there already; answers what is there.
    async fn insert(&self, wrapped: WrappedKey) -> Result<WrappedKey, KeyStoreError>;
}

/// Why a key could not be had, or a secret not be opened.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// The KEK provider failed.
    #[error(transparent)]
    Kek(#[from] KekError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] KeyStoreError),
    /// The key that sealed the value is gone.
    #[error("project key {key} version {version} is not in the database; restore it from a backup")]
    Missing {
        /// Which key.
        key: String,
        /// Which version.
        version: u32,
    },
    /// The value does not open.
    #[error(transparent)]
    CannotOpen(#[from] CannotOpen),
}

/// A key in memory, and when it must be forgotten.
#[derive(Clone)]
struct Held {
    version: u32,
    key: Arc<SecretKey>,
    until: Duration,
}

/// Seals and opens for one cluster.
pub struct Keyring {
    cluster: ClusterId,
    kek: Arc<dyn Kek>,
    active: KekVersion,
    store: Arc<dyn KeyStore>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    held: Mutex<HashMap<(String, Option<u32>), Held>>,
}

impl Keyring {
    /// A keyring for the cluster whose canary is given.
    pub fn new(
        canary: &Canary,
        kek: Arc<dyn Kek>,
        store: Arc<dyn KeyStore>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Self {
        let held = Mutex::new(HashMap::new());
        Self { cluster: canary.cluster, active: canary.kek_version, kek, store, clock, entropy, held }
    }

    /// The cluster that this keyring seals for.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// Seals `secret` for this slot.
    ///
    /// # Errors
    /// When the project key cannot be had.
    pub async fn seal(&self, slot: &Slot, secret: &[u8]) -> Result<Sealed, KeyringError> {
        let id = KeyId { owner: slot.owner, purpose: crate::envelope::Purpose::Secrets };
        let held = self.newest(id).await?;
        let context = Context::of(self.cluster, slot);
        let name = (id.to_string(), held.version);
        Ok(seal(&held.key, name, &context.associated_data(), secret, self.entropy.as_ref()))
    }

    /// Opens what [`Keyring::seal`] sealed for the same slot.
    ///
    /// # Errors
    /// When the project key cannot be had, or the value does not open in this slot.
    pub async fn open(&self, slot: &Slot, sealed: &Sealed) -> Result<SecretSlice<u8>, KeyringError> {
        let id = KeyId { owner: slot.owner, purpose: crate::envelope::Purpose::Secrets };
        // The key's name comes from the database: a value that names another owner's key is refused, not tried.
        if sealed.pk_id != id.to_string() {
            return Err(CannotOpen.into());
        }
        let key = self.version(id, sealed.pk_ver).await?;
        let context = Context::of(self.cluster, slot);
        Ok(open(&key, &context.associated_data(), sealed)?)
    }

    /// The newest version of a key and its number; it is made when there is none yet.
    ///
    /// # Errors
    /// When the provider or the database fails.
    pub async fn current(&self, id: KeyId) -> Result<(u32, Arc<SecretKey>), KeyringError> {
        let held = self.newest(id).await?;
        Ok((held.version, held.key))
    }

    /// One version of a key.
    ///
    /// # Errors
    /// When there is no such version, or the provider or the database fails.
    pub async fn version(&self, id: KeyId, version: u32) -> Result<Arc<SecretKey>, KeyringError> {
        let name = id.to_string();
        if let Some(held) = self.recall(&name, Some(version)) {
            return Ok(held.key);
        }
        let wrapped = self.store.find(&name, Some(version)).await?;
        let wrapped = wrapped.ok_or(KeyringError::Missing { key: name, version })?;
        Ok(self.unwrap(&wrapped, Some(version)).await?.key)
    }

    async fn newest(&self, id: KeyId) -> Result<Held, KeyringError> {
        let name = id.to_string();
        if let Some(held) = self.recall(&name, None) {
            return Ok(held);
        }
        let wrapped = match self.store.find(&name, None).await? {
            Some(wrapped) => wrapped,
            None => self.store.insert(self.make(&name, 1).await?).await?,
        };
        self.unwrap(&wrapped, None).await
    }

    async fn make(&self, key: &str, version: u32) -> Result<WrappedKey, KeyringError> {
        let fresh = secret_key(entropy::bytes(self.entropy.as_ref()));
        let associated_data = key_context(self.cluster, key, version);
        let wrapped = self.kek.wrap(self.active, &fresh, &associated_data).await?;
        Ok(WrappedKey { key: key.to_owned(), version, kek_version: self.active, wrapped })
    }

    async fn unwrap(&self, wrapped: &WrappedKey, asked: Option<u32>) -> Result<Held, KeyringError> {
        let associated_data = key_context(self.cluster, &wrapped.key, wrapped.version);
        let key = self.kek.unwrap(wrapped.kek_version, &wrapped.wrapped, &associated_data).await?;
        let until = self.clock.boottime() + limits::PROJECT_KEY_CACHE;
        let held = Held { version: wrapped.version, key: Arc::new(key), until };
        let mut all = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= limits::PROJECT_KEY_CACHE_ENTRIES {
            all.clear();
        }
        all.insert((wrapped.key.clone(), asked), held.clone());
        Ok(held)
    }

    fn recall(&self, key: &str, version: Option<u32>) -> Option<Held> {
        let all = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let held = all.get(&(key.to_owned(), version))?;
        (self.clock.boottime() < held.until).then(|| held.clone())
    }
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyring")
            .field("cluster", &self.cluster)
            .field("active", &self.active)
            .finish_non_exhaustive()
    }
}

impl Canary {
    /// A canary for a KEK version that comes into use.
    ///
    /// # Errors
    /// When the provider cannot wrap under this version.
    pub async fn make(
        cluster: ClusterId,
        kek_version: KekVersion,
        kek: &dyn Kek,
        entropy: &dyn Entropy,
    ) -> Result<Self, KekError> {
        let value = secret_key(entropy::bytes(entropy));
        let wrapped = kek.wrap(kek_version, &value, &canary_context(cluster, kek_version)).await?;
        Ok(Self { cluster, kek_version, wrapped })
    }

    /// Proves that `kek` holds the key that this canary was wrapped under.
    ///
    /// # Errors
    /// [`KekError::Wrong`] and [`KekError::UnknownVersion`] when it does not, [`KekError::Unavailable`] when it cannot say.
    pub async fn check(&self, kek: &dyn Kek) -> Result<(), KekError> {
        let value = kek
            .unwrap(self.kek_version, &self.wrapped, &canary_context(self.cluster, self.kek_version))
            .await?;
        debug_assert_eq!(value.expose_secret().len(), 32);
        Ok(())
    }
}

fn key_context(cluster: ClusterId, key: &str, version: u32) -> Vec<u8> {
    let version = version.to_string();
    place(cluster, "project_keys", key, &version)
}

fn canary_context(cluster: ClusterId, kek_version: KekVersion) -> Vec<u8> {
    place(cluster, "kek_versions", &kek_version.to_string(), "canary")
}

fn place(cluster: ClusterId, collection: &str, record: &str, field: &str) -> Vec<u8> {
    Context { cluster, owner: KeyOwner::Cluster, collection, record, field, format: 1 }.associated_data()
}
