// SPDX-License-Identifier: Apache-2.0
//! What is known of an order. Each state carries the facts that it adds, and nothing that it does not know.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::certificate::{Names, Profile};
use crate::challenge::ChallengeToken;
use crate::envelope::Sealed;
use crate::id::{CertificateId, IssuerId, OrderId, ProjectId, VersionId};
use crate::order::LedgerError;
use crate::problem::Problem;
use crate::renewal_info::AriId;

/// An order for one version of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Its id with us.
    pub id: OrderId,
    /// Whose.
    pub project: ProjectId,
    /// For which certificate.
    pub certificate: CertificateId,
    /// The version that was current when it was made.
    pub made_for: Option<VersionId>,
    /// At which issuer.
    pub issuer: IssuerId,
    /// The names that it is for.
    pub names: Names,
    /// The CA's profile.
    pub profile: Option<Profile>,
    /// The key that it is for.
    pub key: OrderKey,
    /// The fence of the claim that may write it.
    pub fence: i64,
    /// Counts the writes.
    pub revision: i64,
    /// How far it is.
    pub state: OrderState,
}

/// The key of an order, stored before the order is placed: whoever resumes uses the same one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderKey {
    /// The private key, PKCS #8 DER, sealed.
    pub sealed: Sealed,
    /// The certificate signing request, DER.
    #[serde(with = "serde_bytes")]
    pub csr: Vec<u8>,
    /// SHA-256 of the SubjectPublicKeyInfo.
    #[serde(with = "serde_bytes")]
    pub spki_sha256: Vec<u8>,
    /// Whether it is the key of the version before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub kept: bool,
}

impl OrderKey {
    /// SHA-256 of its SubjectPublicKeyInfo.
    pub(super) fn spki(&self) -> Result<[u8; 32], LedgerError> {
        let spki = <[u8; 32]>::try_from(self.spki_sha256.as_slice());
        spki.map_err(|_| LedgerError::Corrupt("spki_sha256 of an order is not 32 bytes".to_owned()))
    }
}

/// An order as the CA knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// Its URL: set once, never re-created.
    pub url: String,
    /// When the CA forgets it.
    pub expires: Option<Timestamp>,
}

/// A challenge that we answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Duty {
    /// The token that the CA asks for.
    pub token: ChallengeToken,
}

/// How far an order is. Whoever reads it knows what may have happened at the CA after it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum OrderState {
    /// Its key is stored; it is, or is about to be, placed.
    Keyed {
        /// The certificate that the CA is told it replaces (RFC 9773, 5).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        replaces: Option<AriId>,
    },
    /// It is placed; its challenges are being read.
    Ordered {
        /// As the CA knows it.
        placed: Placed,
    },
    /// Its challenges are answered; the CA is, or is about to be, told so.
    Challenged {
        /// As the CA knows it.
        placed: Placed,
        /// What we answer.
        duties: Vec<Duty>,
    },
    /// The CA was told that its challenges are answered; it is finalized as soon as the CA lets us.
    Ready {
        /// As the CA knows it.
        placed: Placed,
        /// When this was written down.
        since: Timestamp,
    },
    /// Its certificate is stored.
    Stored {
        /// As the CA knows it.
        placed: Placed,
        /// As which version.
        version: VersionId,
    },
    /// It is over without a certificate.
    Failed {
        /// As the CA knows it, if it does.
        placed: Option<Placed>,
        /// Why.
        problem: Problem,
    },
}

impl OrderState {
    /// The order as the CA knows it, once it does.
    #[must_use]
    pub fn placed(&self) -> Option<&Placed> {
        match self {
            Self::Keyed { .. } => None,
            Self::Ordered { placed }
            | Self::Challenged { placed, .. }
            | Self::Ready { placed, .. }
            | Self::Stored { placed, .. } => Some(placed),
            Self::Failed { placed, .. } => placed.as_ref(),
        }
    }

    /// Whether the CA may have its signing request, and so may issue.
    #[must_use]
    pub fn may_be_finalized(&self) -> bool {
        match self {
            Self::Ready { .. } | Self::Stored { .. } => true,
            Self::Keyed { .. } | Self::Ordered { .. } | Self::Challenged { .. } | Self::Failed { .. } => {
                false
            }
        }
    }

    /// Whether there is anything left to do.
    #[must_use]
    pub fn is_live(&self) -> bool {
        match self {
            Self::Keyed { .. } | Self::Ordered { .. } | Self::Challenged { .. } | Self::Ready { .. } => true,
            Self::Stored { .. } | Self::Failed { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_that_was_keyed_before_replacements_were_known_is_still_read() {
        let state: OrderState = serde_json::from_value(serde_json::json!({ "phase": "keyed" })).unwrap();
        assert_eq!(state, OrderState::Keyed { replaces: None });
        assert_eq!(serde_json::to_value(&state).unwrap(), serde_json::json!({ "phase": "keyed" }));
        let replaces = AriId::new(&[1], &[2]);
        let state = OrderState::Keyed { replaces };
        let stored = serde_json::to_value(&state).unwrap();
        assert_eq!(stored, serde_json::json!({ "phase": "keyed", "replaces": "AQ.Ag" }));
        assert_eq!(serde_json::from_value::<OrderState>(stored).unwrap(), state);
    }

    #[test]
    fn duties_that_name_their_authorization_are_still_read() {
        let stored = serde_json::json!({
            "phase": "challenged",
            "placed": { "url": "https://ca.example.test/order/1", "expires": null },
            "duties": [{ "authorization_url": "https://ca.example.test/authz/1", "token": "dG9rZW4" }],
        });
        let OrderState::Challenged { duties, .. } = serde_json::from_value(stored).unwrap() else {
            panic!("read as another state");
        };
        assert_eq!(duties, [Duty { token: "dG9rZW4".to_owned().try_into().unwrap() }]);
    }
}
