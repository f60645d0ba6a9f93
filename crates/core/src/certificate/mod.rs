// SPDX-License-Identifier: Apache-2.0
//! Certificates: what is wanted, what was issued, and when to renew it.

mod issued;
mod key;
mod renewal;
mod spec;

pub use issued::{BadChain, Issued, spki_sha256};
pub use key::{CannotMakeKey, KeyMaterial, KeyType, account_key};
pub use renewal::renewal_time;
pub use spec::{BadSpec, ChallengeType, Names, Profile, Spec};

use serde::{Deserialize, Serialize};

/// Where a certificate is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Asked for; nobody has started yet.
    Requested,
    /// The first version is being issued.
    Issuing,
    /// There is a version that is good.
    Valid,
    /// There is a version, and the next one is being issued.
    Renewing,
    /// The last attempt failed; it says why and when the next one is.
    Failing,
}

impl Status {
    /// Every status, in the order of a certificate's life.
    pub const ALL: [Self; 5] = [Self::Requested, Self::Issuing, Self::Valid, Self::Renewing, Self::Failing];

    /// The word used in the API and in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Issuing => "issuing",
            Self::Valid => "valid",
            Self::Renewing => "renewing",
            Self::Failing => "failing",
        }
    }
}
