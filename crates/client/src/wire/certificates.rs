// SPDX-License-Identifier: Apache-2.0
//! Certificates, their versions and keys, and what is asked of them.

use cap_core::certificate::{ChallengeType, KeyType, RevocationReason, Status};
use cap_core::id::{CertificateId, IssuerId, ProjectId, VersionId};
use cap_core::problem::Problem;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Drift, DriftTarget, RenewalInfo};

/// The key of a certificate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// Its algorithm.
    #[serde(default, rename = "type")]
    pub kind: KeyType,
    /// Whether a renewal keeps the key of the version before, as long as that is of the same type and the CA takes it.
    #[serde(default)]
    pub reuse: bool,
}

/// A change of the key of a certificate's next versions: what is absent stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpdateKey {
    /// Its algorithm.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<KeyType>,
    /// Whether renewals keep it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reuse: Option<bool>,
}

/// `POST /projects/{p}/certificates`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateCertificate {
    /// DNS names and IP addresses.
    pub names: Vec<String>,
    /// The issuer, by id or name.
    pub issuer: String,
    /// Its key.
    #[serde(default)]
    pub key: Key,
    /// How the names are validated.
    #[serde(default)]
    pub challenge: ChallengeType,
    /// The CA's profile; its default when unset.
    #[serde(default)]
    pub profile: Option<String>,
    /// The chain that is taken where the CA offers it, by the common name of the issuer of its topmost certificate; the
    /// CA's default when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_chain: Option<String>,
    /// Whether it is renewed without being asked.
    #[serde(default = "yes")]
    pub auto_renew: bool,
    /// Where it is served, where that is not at its names and the project's port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<DriftTarget>,
}

/// `PATCH /projects/{p}/certificates/{c}`: what is absent stays. Key, profile and chain are those of orders that begin after
/// it: of the next version, unless that is being issued already.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpdateCertificate {
    /// Whether it is renewed without being asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_renew: Option<bool>,
    /// The key of the next versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<UpdateKey>,
    /// The CA's profile; its default when null.
    #[serde(default, deserialize_with = "super::given", skip_serializing_if = "Option::is_none")]
    pub profile: Option<Option<String>>,
    /// The chain that is taken where the CA offers it; its default when null.
    #[serde(default, deserialize_with = "super::given", skip_serializing_if = "Option::is_none")]
    pub preferred_chain: Option<Option<String>>,
    /// Where it is served, as a whole; at its names and the project's port when null.
    #[serde(default, deserialize_with = "super::given", skip_serializing_if = "Option::is_none")]
    pub drift: Option<Option<DriftTarget>>,
}

/// A certificate.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Certificate {
    /// Its id.
    pub id: CertificateId,
    /// Whose.
    pub project: ProjectId,
    /// Its names, as they stand in the certificate (A-labels).
    pub names: Vec<String>,
    /// Its names, as somebody typed them.
    pub display_names: Vec<String>,
    /// Its issuer.
    pub issuer: IssuerId,
    /// Its key.
    pub key: Key,
    /// How its names are validated.
    pub challenge: ChallengeType,
    /// The CA's profile.
    pub profile: Option<String>,
    /// The chain that is taken where the CA offers it.
    #[serde(default)]
    pub preferred_chain: Option<String>,
    /// Whether it is renewed without being asked.
    pub auto_renew: bool,
    /// Where it is in its life.
    pub status: Status,
    /// Why the last attempt failed.
    pub problem: Option<Problem>,
    /// When the next attempt starts, after a failure.
    pub next_attempt_at: Option<Timestamp>,
    /// The current version.
    pub version: Option<Version>,
    /// When it is due to be renewed.
    pub renew_at: Option<Timestamp>,
    /// When its CA wants it renewed (RFC 9773); nothing where the CA offers no renewal information.
    #[serde(default)]
    pub renewal_info: Option<RenewalInfo>,
    /// What is known of its drift; nothing where the project is not scanned and nothing is configured.
    #[serde(default)]
    pub drift: Option<Drift>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When this record last changed.
    pub updated_at: Timestamp,
}

/// A version of a certificate.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Version {
    /// Its id.
    pub id: VersionId,
    /// Counts the versions of one certificate, from 1.
    pub number: i64,
    /// The serial number, hex.
    pub serial: String,
    /// SHA-256 of the leaf, hex.
    pub fingerprint_sha256: String,
    /// SHA-256 of its SubjectPublicKeyInfo, hex: two versions with the same one have the same key. Nothing of versions from
    /// before it was kept.
    #[serde(default)]
    pub spki_sha256: Option<String>,
    /// The chain that was taken: the common name of the issuer of its topmost certificate. Nothing where that has none, and
    /// of versions from before it was kept.
    #[serde(default)]
    pub chain_issuer: Option<String>,
    /// That it shall be revoked, and whether it was; nothing where nobody asked for that.
    #[serde(default)]
    pub revocation: Option<Revocation>,
    /// From when it is valid.
    pub not_before: Timestamp,
    /// Until when it is valid.
    pub not_after: Timestamp,
    /// When it was stored.
    pub issued_at: Timestamp,
}

/// `POST /projects/{p}/certificates/{c}/revoke`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokeCertificate {
    /// Why: `unspecified`, `keyCompromise`, `affiliationChanged`, `superseded` or `cessationOfOperation` (RFC 5280, 5.3.1).
    pub reason: String,
    /// Which version, by its id; the current one when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Whether the certificate is issued anew at once, with a new key, where that is of use; as its `auto_renew` says when
    /// unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replace: Option<bool>,
}

/// That a version shall be revoked, and whether it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// Why.
    pub reason: RevocationReason,
    /// When that was asked for.
    pub asked_at: Timestamp,
    /// When the CA had done it; nothing before.
    pub revoked_at: Option<Timestamp>,
    /// What is in the way.
    #[serde(default)]
    pub problem: Option<Problem>,
    /// When the CA is asked again; nothing where it is not, unless somebody asks for the revocation once more.
    #[serde(default)]
    pub next_attempt_at: Option<Timestamp>,
}

fn yes() -> bool {
    true
}
