// SPDX-License-Identifier: Apache-2.0
//! The port to whoever holds the key encryption keys.

use std::fmt::Debug;

use async_trait::async_trait;

use crate::secret::SecretKey;

/// The version of a KEK: 1, 2, 3 and so on.
pub type KekVersion = u32;

/// Why a KEK provider did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KekError {
    /// The provider does not have this version.
    #[error(
        "the KEK provider has no version {0}; give every process the key that was in use when the data was sealed"
    )]
    UnknownVersion(KekVersion),
    /// The version that the provider has does not open this.
    #[error(
        "KEK version {0} does not open what it is said to have wrapped: it is another key, or the data was changed"
    )]
    Wrong(KekVersion),
    /// The provider cannot be reached now.
    #[error("the KEK provider cannot be used now: {0}")]
    Unavailable(String),
}

/// Wraps and unwraps project keys. The KEK itself never leaves the provider.
#[async_trait]
pub trait Kek: Debug + Send + Sync {
    /// The provider's name, as configured.
    fn provider(&self) -> &'static str;

    /// The versions that the provider has, lowest first.
    async fn versions(&self) -> Result<Vec<KekVersion>, KekError>;

    /// Wraps `key` under `version`, bound to `associated_data`.
    async fn wrap(
        &self,
        version: KekVersion,
        key: &SecretKey,
        associated_data: &[u8],
    ) -> Result<Vec<u8>, KekError>;

    /// Unwraps what [`Kek::wrap`] wrapped.
    async fn unwrap(
        &self,
        version: KekVersion,
        wrapped: &[u8],
        associated_data: &[u8],
    ) -> Result<SecretKey, KekError>;
}
