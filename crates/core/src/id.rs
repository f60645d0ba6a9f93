// SPDX-License-Identifier: Apache-2.0
//! Typed ids: a UUIDv7 (RFC 9562) behind a prefix that says whose it is, such as `crt_0192f0c1a3d27b4e8f6a5c4d3e2f1a0b`.
//!
//! Names never contain an underscore, so a path segment is either an id or a name and never both.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::Clock;
use crate::entropy::{self, Entropy};

/// A text that is not an id of the kind asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not an id of this kind; it looks like {prefix}_ and 32 hex digits")]
pub struct BadId {
    given: String,
    prefix: &'static str,
}

/// A new UUIDv7.
pub fn uuid_v7(clock: &dyn Clock, entropy: &dyn Entropy) -> Uuid {
    let millis = u64::try_from(clock.now().as_millisecond()).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &entropy::bytes(entropy)).into_uuid()
}

macro_rules! typed_id {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(into = "String", try_from = "String")]
        pub struct $name(Uuid);

        impl $name {
            /// What every id of this kind starts with, before the underscore.
            pub const PREFIX: &'static str = $prefix;

            /// A new id; later ones sort behind earlier ones, to the millisecond.
            #[must_use]
            pub fn generate(clock: &dyn Clock, entropy: &dyn Entropy) -> Self {
                Self(uuid_v7(clock, entropy))
            }

            /// When it was made, to the millisecond, by the clock of whoever made it.
            #[must_use]
            pub fn made_at(self) -> Timestamp {
                let (high, _) = self.0.as_u64_pair();
                i64::try_from(high >> 16)
                    .ok()
                    .and_then(|millis| Timestamp::from_millisecond(millis).ok())
                    .unwrap_or(Timestamp::MAX)
            }

            /// What every id that was made at `at` or later sorts behind, and every earlier one before.
            #[must_use]
            pub fn text_from(at: Timestamp) -> String {
                format!("{}_{:012x}", $prefix, at.as_millisecond().max(0))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}_{}", $prefix, self.0.simple())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = BadId;

            fn from_str(text: &str) -> Result<Self, BadId> {
                parse($prefix, text).map(Self)
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadId;

            fn try_from(text: String) -> Result<Self, BadId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.to_string()
            }
        }
    )*};
}

typed_id! {
    /// A cluster: one database and what runs on it.
    ClusterId = "cls";
    /// A project: the wall between tenants.
    ProjectId = "prj";
    /// An issuer: an ACME account at a CA.
    IssuerId = "iss";
    /// A certificate that is kept valid.
    CertificateId = "crt";
    /// One issued version of a certificate.
    VersionId = "ver";
    /// An order at a CA.
    OrderId = "ord";
    /// A job.
    JobId = "job";
    /// One claim of jobs by one process.
    ClaimId = "clm";
    /// An API token.
    TokenId = "tok";
    /// A running process.
    InstanceId = "ins";
    /// An audit event.
    EventId = "evt";
    /// A request, as told to the client and written to the log.
    RequestId = "req";
}

fn parse(prefix: &'static str, text: &str) -> Result<Uuid, BadId> {
    let bad = || BadId { given: text.chars().take(64).collect(), prefix };
    let hex = text.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('_')).ok_or_else(bad)?;
    let canonical = hex.len() == 32 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if !canonical {
        return Err(bad());
    }
    Uuid::try_parse(hex).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_tells_when_it_was_made_and_sorts_by_it() {
        let id: OrderId = "ord_0192f0c1a3d27b4e8f6a5c4d3e2f1a0b".parse().unwrap();
        let made_at = id.made_at();
        assert_eq!(made_at.as_millisecond(), 0x0192_f0c1_a3d2);
        assert!(OrderId::text_from(made_at) < id.to_string());
        assert!(OrderId::text_from(made_at + std::time::Duration::from_millis(1)) > id.to_string());
    }

    #[test]
    fn an_id_reads_back_and_no_other_kind_does() {
        let text = "crt_0192f0c1a3d27b4e8f6a5c4d3e2f1a0b";
        let id: CertificateId = text.parse().unwrap();
        assert_eq!(id.to_string(), text);
        assert!(text.parse::<ProjectId>().is_err());
        for wrong in
            ["crt_", "crt_0192F0C1A3D27B4E8F6A5C4D3E2F1A0B", "0192f0c1a3d27b4e8f6a5c4d3e2f1a0b", "crt_$ne"]
        {
            assert!(wrong.parse::<CertificateId>().is_err(), "{wrong}");
        }
    }
}
