// SPDX-License-Identifier: Apache-2.0
//! Values of arguments.

use std::time::Duration;

use cap_core::job::Work;
use cap_runtime::config::parse_duration;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// One of a few words of the API, listed in the help.
pub(crate) fn word<T>(words: &'static [&'static str]) -> impl TypedValueParser<Value = T>
where
    T: DeserializeOwned + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(words).try_map(|word| serde_json::from_value(Value::String(word)))
}

/// A duration.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|error| error.to_string())
}

/// A duration that the API reads again: kept as it was written.
pub(crate) fn duration_text(text: &str) -> Result<String, String> {
    duration(text).map(|_| text.to_owned())
}

/// The words of [`cap_core::certificate::Status`].
pub(crate) const STATUSES: &[&str] =
    &["requested", "issuing", "valid", "renewing", "failing", "expired", "revoked"];
/// The words of [`cap_core::job::JobState`].
pub(crate) const JOB_STATES: &[&str] = &["queued", "running", "succeeded", "dead", "cancelled"];
/// The kinds of [`cap_core::job::Work`].
pub(crate) const JOB_KINDS: &[&str] = &Work::KINDS;
/// The words of [`cap_core::drift::DriftState`].
pub(crate) const DRIFT_STATES: &[&str] = &["served", "drifted", "unreachable"];
/// The words of [`cap_core::actor::Role`].
pub(crate) const ROLES: &[&str] = &["viewer", "operator", "admin", "owner"];
/// The words of [`cap_core::certificate::KeyType`].
pub(crate) const KEY_TYPES: &[&str] = &["ecdsa-p256", "ecdsa-p384", "rsa-2048", "rsa-3072", "rsa-4096"];
/// The words of [`cap_core::certificate::RevocationReason`].
pub(crate) const REVOCATION_REASONS: &[&str] =
    &["unspecified", "keyCompromise", "affiliationChanged", "superseded", "cessationOfOperation"];

#[cfg(test)]
mod tests {
    use super::*;
    use cap_core::actor::Role;
    use cap_core::certificate::{KeyType, RevocationReason, Status};
    use cap_core::drift::DriftState;
    use cap_core::job::JobState;

    fn all_read<T: DeserializeOwned>(words: &[&str]) {
        for word in words {
            assert!(serde_json::from_value::<T>(Value::String((*word).to_owned())).is_ok(), "{word}");
        }
    }

    #[test]
    fn every_word_that_is_offered_is_read() {
        all_read::<Status>(STATUSES);
        all_read::<JobState>(JOB_STATES);
        all_read::<DriftState>(DRIFT_STATES);
        assert_eq!(DRIFT_STATES, DriftState::ALL.map(DriftState::as_str));
        all_read::<Role>(ROLES);
        all_read::<KeyType>(KEY_TYPES);
        assert_eq!(KEY_TYPES, KeyType::ALL.map(KeyType::as_str));
        all_read::<RevocationReason>(REVOCATION_REASONS);
        assert_eq!(REVOCATION_REASONS, RevocationReason::ALL.map(RevocationReason::as_str));
        assert_eq!(STATUSES, Status::ALL.map(Status::as_str));
    }
}
