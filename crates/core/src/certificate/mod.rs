// SPDX-License-Identifier: Apache-2.0
//! Certificates: what is wanted, what was issued, and when to renew it.

mod issued;
mod key;
mod renewal;
mod revocation;
mod spec;

pub use issued::{BadChain, Issued, Presented, leaf_der, presented, spki_sha256};
pub use key::{CannotMakeKey, KeyMaterial, KeyType, account_key};
pub(crate) use renewal::left_at_renewal;
pub use renewal::{due_time, renewal_time};
pub use revocation::{Affected, BadReason, RevocationReason, is_replaced, may_ask_by_key};
pub use spec::{BadSpec, ChainName, ChallengeType, Names, Profile, Spec};

use jiff::Timestamp;
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
    /// There was a version that was good, and nothing is being done about it: it is not renewed by itself. Never stored:
    /// time alone makes it so.
    Expired,
    /// The CA has revoked its version, and nothing is being done about it. Never stored: the version says so.
    Revoked,
}

impl Status {
    /// Every status, in the order of a certificate's life.
    pub const ALL: [Self; 7] = [
        Self::Requested,
        Self::Issuing,
        Self::Valid,
        Self::Renewing,
        Self::Failing,
        Self::Expired,
        Self::Revoked,
    ];

    /// The word used in the API and in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Issuing => "issuing",
            Self::Valid => "valid",
            Self::Renewing => "renewing",
            Self::Failing => "failing",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }

    /// What it is at `now`, of a certificate whose current version is valid until `not_after`, unless it was revoked.
    #[must_use]
    pub fn at(self, now: Timestamp, not_after: Option<Timestamp>, is_revoked: bool) -> Self {
        match self {
            Self::Valid if is_revoked => Self::Revoked,
            Self::Valid if not_after.is_some_and(|end| end <= now) => Self::Expired,
            status => status,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_that_ended_is_expired_unless_something_is_being_done_about_it() {
        let now = Timestamp::from_second(1_790_000_000).unwrap();
        for status in Status::ALL {
            let ended = if status == Status::Valid { Status::Expired } else { status };
            assert_eq!(status.at(now, Some(now), false), ended);
            assert_eq!(status.at(now, None, false), status);
            let revoked = if status == Status::Valid { Status::Revoked } else { status };
            assert_eq!(status.at(now, Some(now), true), revoked);
        }
        assert_eq!(Status::Valid.at(now, Some(Timestamp::MAX), false), Status::Valid);
    }
}
