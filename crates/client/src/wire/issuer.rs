// SPDX-License-Identifier: Apache-2.0
//! Issuers.

use cap_core::id::{IssuerId, ProjectId};
use cap_core::issuer::IssuerStatus;
use cap_core::problem::Problem;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{SecretText, given};

/// `POST /projects/{p}/issuers`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateIssuer {
    /// Its name.
    pub name: String,
    /// Where the CA's directory is.
    pub directory_url: String,
    /// What the CA's HTTPS server is trusted by, PEM; the public roots when unset.
    #[serde(default)]
    pub trust_roots_pem: Option<String>,
    /// Whom the CA may write to, as `mailto:` URLs.
    #[serde(default)]
    pub contact: Vec<String>,
    /// What the CA calls the external account that it wants this one bound to (RFC 8555, 7.3.4).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eab_kid: Option<String>,
    /// The key that the CA handed out with it, base64url; never answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eab_hmac_key: Option<SecretText>,
}

/// `PATCH /projects/{p}/issuers/{i}`: what is absent stays, and null clears.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpdateIssuer {
    /// What the CA's HTTPS server is trusted by, PEM; the public roots when null.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub trust_roots_pem: Option<Option<String>>,
    /// Whom the CA may write to, as `mailto:` URLs; nobody when null.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub contact: Option<Option<Vec<String>>>,
    /// What the CA calls the external account; not bound to any when null. Only before the account is registered.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub eab_kid: Option<Option<String>>,
    /// The key that the CA handed out with it, base64url; never answered.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub eab_hmac_key: Option<Option<SecretText>>,
}

/// An issuer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Issuer {
    /// Its id.
    pub id: IssuerId,
    /// Whose.
    pub project: ProjectId,
    /// Its name.
    pub name: String,
    /// Where the CA's directory is.
    pub directory_url: String,
    /// What the CA's HTTPS server is trusted by, PEM.
    pub trust_roots_pem: Option<String>,
    /// Whom the CA may write to.
    pub contact: Vec<String>,
    /// What the CA calls the external account that its account is bound to.
    #[serde(default)]
    pub eab_kid: Option<String>,
    /// How far it is.
    pub status: IssuerStatus,
    /// The account's URL, once it is registered.
    pub account_url: Option<String>,
    /// The change of its account's key that is under way, or was given up.
    #[serde(default)]
    pub key_rollover: Option<KeyRollover>,
    /// Why it is failing.
    pub problem: Option<Problem>,
    /// When registration is tried again.
    pub next_attempt_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A change of an account's key (RFC 8555, 7.3.5).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct KeyRollover {
    /// When it was asked for.
    pub requested_at: Timestamp,
    /// Why the CA did not take the key; nothing while it is under way.
    pub problem: Option<Problem>,
}

/// `POST /projects/{p}/issuers/{i}/deactivate`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeactivateIssuer {
    /// Also where certificates use it, none of which is renewed then.
    #[serde(default)]
    pub even_if_used: bool,
}
