// SPDX-License-Identifier: Apache-2.0
//! Revocation (RFC 8555, 7.6): why, and what becomes of the certificate.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a version is revoked: those of the reasons of RFC 5280 (5.3.1) that lie with whoever has a certificate. The others
/// are for CAs to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RevocationReason {
    /// No reason is given.
    Unspecified,
    /// Somebody else has the private key, or may have.
    KeyCompromise,
    /// Whoever it speaks for is called something else now.
    AffiliationChanged,
    /// Another certificate took its place.
    Superseded,
    /// What it was for has ended.
    CessationOfOperation,
}

/// A text that is none of the reasons.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a reason that can be given; use unspecified, keyCompromise, affiliationChanged, superseded or \
     cessationOfOperation (RFC 5280, 5.3.1): the others are for CAs"
)]
pub struct BadReason(String);

/// Characters of a wrong reason that are repeated.
const REPEATED_CHARS: usize = 40;

impl RevocationReason {
    /// Every reason, in the order of their codes.
    pub const ALL: [Self; 5] = [
        Self::Unspecified,
        Self::KeyCompromise,
        Self::AffiliationChanged,
        Self::Superseded,
        Self::CessationOfOperation,
    ];

    /// The word used in the API and in the database: the standard's.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::KeyCompromise => "keyCompromise",
            Self::AffiliationChanged => "affiliationChanged",
            Self::Superseded => "superseded",
            Self::CessationOfOperation => "cessationOfOperation",
        }
    }

    /// Whether the key is to blame, so that no other certificate may have it either.
    #[must_use]
    pub fn is_about_key(self) -> bool {
        match self {
            Self::KeyCompromise => true,
            Self::Unspecified | Self::AffiliationChanged | Self::Superseded | Self::CessationOfOperation => {
                false
            }
        }
    }
}

impl fmt::Display for RevocationReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for RevocationReason {
    type Err = BadReason;

    fn from_str(text: &str) -> Result<Self, BadReason> {
        let known = Self::ALL.into_iter().find(|reason| reason.as_str() == text);
        known.ok_or_else(|| BadReason(text.chars().take(REPEATED_CHARS).collect()))
    }
}

/// What a revoked version was to its certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Affected {
    /// It is the current one.
    pub is_current: bool,
    /// The current one has the same key.
    pub shares_key: bool,
}

/// Whether the current version of a certificate is replaced at once after one was revoked for `reason`: if what is in use is
/// no good any more, unless that was `asked` for otherwise, or the certificate is not renewed by itself.
#[must_use]
pub fn is_replaced(
    reason: RevocationReason,
    affected: Affected,
    asked: Option<bool>,
    auto_renew: bool,
) -> bool {
    let is_useless = affected.is_current || (affected.shares_key && reason.is_about_key());
    is_useless && asked.unwrap_or(auto_renew)
}

/// Whether the version's own key may ask for its revocation where no account can. CAs may take such a request as proof that the
/// key is compromised, whatever the reason says, and then revoke all certificates that have it.
#[must_use]
pub fn may_ask_by_key(reason: RevocationReason, affected: Affected) -> bool {
    reason.is_about_key() || affected.is_current || !affected.shares_key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_spelled_as_the_standard_spells_it_and_no_other_is_taken() {
        for reason in RevocationReason::ALL {
            assert_eq!(reason.as_str().parse(), Ok(reason));
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
        }
        for wrong in ["", "keycompromise", "caCompromise", "certificateHold", "removeFromCRL", "1"] {
            let refused = wrong.parse::<RevocationReason>().unwrap_err().to_string();
            assert!(refused.contains("cessationOfOperation") && refused.contains(wrong), "{refused}");
        }
    }

    #[test]
    fn no_key_that_is_in_use_by_another_version_asks_unless_it_is_to_blame() {
        for reason in RevocationReason::ALL {
            for (is_current, shares_key) in [(true, true), (false, false), (true, false)] {
                assert!(may_ask_by_key(reason, Affected { is_current, shares_key }));
            }
            let in_use = Affected { is_current: false, shares_key: true };
            assert_eq!(may_ask_by_key(reason, in_use), reason == RevocationReason::KeyCompromise);
        }
    }

    #[test]
    fn what_is_in_use_and_no_good_any_more_is_replaced_and_nothing_else() {
        use RevocationReason::{KeyCompromise, Superseded};
        let current = Affected { is_current: true, shares_key: true };
        let earlier = Affected { is_current: false, shares_key: false };
        let same_key = Affected { is_current: false, shares_key: true };
        for reason in RevocationReason::ALL {
            assert!(is_replaced(reason, current, None, true));
            assert!(!is_replaced(reason, current, None, false));
            assert!(is_replaced(reason, current, Some(true), false));
            assert!(!is_replaced(reason, current, Some(false), true));
            assert!(!is_replaced(reason, earlier, Some(true), true));
        }
        assert!(is_replaced(KeyCompromise, same_key, None, true));
        assert!(!is_replaced(Superseded, same_key, None, true));
    }
}
