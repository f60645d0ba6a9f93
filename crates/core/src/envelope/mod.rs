// SPDX-License-Identifier: Apache-2.0
//! Sealed state: what is secret is sealed before it reaches the database.
//!
//! A KEK, which lives in a provider and never in the database, wraps project keys. From a project key every write
//! derives a key, a nonce and a commitment of its own, so there is no nonce to run out of, no key that opens what
//! another sealed, and a KEK rotation touches project keys only.

mod context;
mod kek;
mod keyring;
mod seal;
mod slot;

pub use context::Context;
pub use kek::{Kek, KekError, KekVersion};
pub use keyring::{Canary, KeyStore, KeyStoreError, Keyring, KeyringError, WrappedKey};
pub use seal::{CannotOpen, Sealed, open, seal, unwrap_key, wrap_key};
pub use slot::Slot;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::ProjectId;

/// What a key is for; keys of different purposes are different keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// Seals the secret fields of records.
    Secrets,
    /// Peppers the digests of tokens.
    TokenPepper,
    /// Authenticates audit rows until they are numbered.
    AuditMac,
}

/// Whose key: a project's, or the cluster's own (the reserved project `_cluster`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyOwner {
    /// A project.
    Project(ProjectId),
    /// The cluster.
    Cluster,
}

/// Which key, whatever its version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId {
    /// Whose.
    pub owner: KeyOwner,
    /// What for.
    pub purpose: Purpose,
}

impl KeyId {
    /// The key that seals a project's secrets.
    #[must_use]
    pub fn secrets(project: ProjectId) -> Self {
        Self { owner: KeyOwner::Project(project), purpose: Purpose::Secrets }
    }

    /// The key that peppers token digests.
    pub const TOKEN_PEPPER: Self = Self { owner: KeyOwner::Cluster, purpose: Purpose::TokenPepper };
    /// The key that authenticates audit rows.
    pub const AUDIT_MAC: Self = Self { owner: KeyOwner::Cluster, purpose: Purpose::AuditMac };
}

impl fmt::Display for KeyOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Project(id) => id.fmt(f),
            Self::Cluster => f.write_str("_cluster"),
        }
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let purpose = match self.purpose {
            Purpose::Secrets => "secrets",
            Purpose::TokenPepper => "token-pepper",
            Purpose::AuditMac => "audit-mac",
        };
        write!(f, "{}/{purpose}", self.owner)
    }
}
