// SPDX-License-Identifier: Apache-2.0
//! Audit: what is written about each mutation, in the same transaction as the mutation.
//!
//! A leaf is exact bytes, made once and never serialised again. Until the log numbers it, a MAC under a key that the
//! database does not have keeps anybody who only holds the database from feeding forged rows.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::actor::Actor;
use crate::certificate::Names;
use crate::clock::Clock;
use crate::entropy::Entropy;
use crate::envelope::{KeyId, Keyring, KeyringError, Sealed};
use crate::id::{EventId, ProjectId, RequestId};
use crate::limits;
use crate::secret;

/// The schema of a leaf.
const SCHEMA: &str = "cap.audit/v1";

/// Everything that is audited; the list of docs/reference/audit-events.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each name is its own sentence, and Action::as_str spells it")]
pub enum Action {
    AdminBootstrapped,
    AdminTokenRecovered,
    TokenCreated,
    TokenRevoked,
    ProjectCreated,
    ProjectUpdated,
    IssuerCreated,
    IssuerUpdated,
    IssuerDeleted,
    IssuerReady,
    IssuerFailed,
    IssuerHalted,
    IssuerKeyRollRequested,
    IssuerKeyRolled,
    IssuerKeyRollFailed,
    IssuerDeactivationRequested,
    IssuerDeactivated,
    CertificateRequested,
    CertificateUpdated,
    CertificateDeleted,
    CertificateRenewalRequested,
    CertificateRenewalInfoRequested,
    CertificateRenewalPlanned,
    CertificateIssued,
    CertificateRefused,
    CertificateAttemptFailed,
    CertificateKeyExported,
    CertificateExpiryNoticed,
    CertificateRevocationRequested,
    CertificateRevoked,
    OrderAbandoned,
    CertificateDriftScanRequested,
    JobRetried,
    JobCancelled,
    LeaderStepDownRequested,
}

impl Action {
    /// Every action.
    pub const ALL: [Self; 35] = [
        Self::AdminBootstrapped,
        Self::AdminTokenRecovered,
        Self::TokenCreated,
        Self::TokenRevoked,
        Self::ProjectCreated,
        Self::ProjectUpdated,
        Self::IssuerCreated,
        Self::IssuerUpdated,
        Self::IssuerDeleted,
        Self::IssuerReady,
        Self::IssuerFailed,
        Self::IssuerHalted,
        Self::IssuerKeyRollRequested,
        Self::IssuerKeyRolled,
        Self::IssuerKeyRollFailed,
        Self::IssuerDeactivationRequested,
        Self::IssuerDeactivated,
        Self::CertificateRequested,
        Self::CertificateUpdated,
        Self::CertificateDeleted,
        Self::CertificateRenewalRequested,
        Self::CertificateRenewalInfoRequested,
        Self::CertificateRenewalPlanned,
        Self::CertificateIssued,
        Self::CertificateRefused,
        Self::CertificateAttemptFailed,
        Self::CertificateKeyExported,
        Self::CertificateExpiryNoticed,
        Self::CertificateRevocationRequested,
        Self::CertificateRevoked,
        Self::OrderAbandoned,
        Self::CertificateDriftScanRequested,
        Self::JobRetried,
        Self::JobCancelled,
        Self::LeaderStepDownRequested,
    ];

    /// The word in the leaf.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AdminBootstrapped => "admin.bootstrapped",
            Self::AdminTokenRecovered => "admin.token_recovered",
            Self::TokenCreated => "token.created",
            Self::TokenRevoked => "token.revoked",
            Self::ProjectCreated => "project.created",
            Self::ProjectUpdated => "project.updated",
            Self::IssuerCreated => "issuer.created",
            Self::IssuerUpdated => "issuer.updated",
            Self::IssuerDeleted => "issuer.deleted",
            Self::IssuerReady => "issuer.ready",
            Self::IssuerFailed => "issuer.failed",
            Self::IssuerHalted => "issuer.halted",
            Self::IssuerKeyRollRequested => "issuer.key_roll_requested",
            Self::IssuerKeyRolled => "issuer.key_rolled",
            Self::IssuerKeyRollFailed => "issuer.key_roll_failed",
            Self::IssuerDeactivationRequested => "issuer.deactivation_requested",
            Self::IssuerDeactivated => "issuer.deactivated",
            Self::CertificateRequested => "certificate.requested",
            Self::CertificateUpdated => "certificate.updated",
            Self::CertificateDeleted => "certificate.deleted",
            Self::CertificateRenewalRequested => "certificate.renewal_requested",
            Self::CertificateRenewalInfoRequested => "certificate.renewal_info_requested",
            Self::CertificateRenewalPlanned => "certificate.renewal_planned",
            Self::CertificateIssued => "certificate.issued",
            Self::CertificateRefused => "certificate.refused",
            Self::CertificateAttemptFailed => "certificate.attempt_failed",
            Self::CertificateKeyExported => "certificate.key_exported",
            Self::CertificateExpiryNoticed => "certificate.expiry_noticed",
            Self::CertificateRevocationRequested => "certificate.revocation_requested",
            Self::CertificateRevoked => "certificate.revoked",
            Self::OrderAbandoned => "order.abandoned",
            Self::CertificateDriftScanRequested => "certificate.drift_scan_requested",
            Self::JobRetried => "job.retried",
            Self::JobCancelled => "job.cancelled",
            Self::LeaderStepDownRequested => "leader.step_down_requested",
        }
    }
}

/// docs/reference/audit-events.md.
#[must_use]
pub fn reference_markdown() -> String {
    let mut text = String::from(
        "# Audit events\n\n<!-- Written by `cargo xtask codegen` from crates/core/src/audit.rs. -->\n\n\
         The `action` of an audit leaf (schema `cap.audit/v1`) is one of these. A leaf goes into the collection\n\
         `audit_outbox` in the transaction of the mutation that it is about; without it the mutation does not happen.\n\n",
    );
    for action in Action::ALL {
        text.push_str("- `");
        text.push_str(action.as_str());
        text.push_str("`\n");
    }
    text
}

/// Who did it, from where, and which request it was.
#[derive(Debug, Clone)]
pub struct Origin {
    /// Who.
    pub actor: Actor,
    /// The peer's address, where there is one.
    pub source: Option<String>,
    /// The request, where there is one.
    pub request: Option<RequestId>,
}

impl Origin {
    /// A service acting on its own account.
    #[must_use]
    pub fn service(role: &'static str) -> Self {
        Self { actor: Actor::Service(role), source: None, request: None }
    }
}

/// What happened, before it becomes a leaf.
#[derive(Debug)]
pub struct Draft {
    action: Action,
    project: Option<ProjectId>,
    target: String,
    success: bool,
    details: Map<String, Value>,
}

impl Draft {
    /// Something that was done to `target`.
    pub fn new(action: Action, project: Option<ProjectId>, target: impl fmt::Display) -> Self {
        Self { action, project, target: target.to_string(), success: true, details: Map::new() }
    }

    /// The same, as something that did not succeed.
    #[must_use]
    pub fn failed(mut self) -> Self {
        self.success = false;
        self
    }

    /// Adds a detail.
    #[must_use]
    pub fn detail(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.details.insert(name.to_owned(), value.into());
        self
    }

    /// Adds the names of a certificate: the first ones, how many there are, and the hash of all.
    #[must_use]
    pub fn names(self, names: &Names) -> Self {
        let all = names.identifiers();
        let listed: Vec<String> = all.iter().take(limits::AUDIT_NAMES).map(ToString::to_string).collect();
        self.detail("names", listed)
            .detail("names_count", all.len())
            .detail("names_sha256", hex::encode(names.set_sha256()))
    }

    /// Binds the leaf to the ciphertext that this mutation wrote, so that an older one put back is noticed.
    #[must_use]
    pub fn sealed(self, field: &str, sealed: &Sealed) -> Self {
        self.detail(&format!("{field}_ciphertext_sha256"), hex::encode(Sha256::digest(&sealed.ct)))
    }
}

/// A leaf with its MAC, as it goes to the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The event's id; the mutated record carries it too.
    pub event: EventId,
    /// When.
    pub time: Timestamp,
    /// The leaf: exact bytes.
    pub leaf: Vec<u8>,
    /// The version of the MAC key.
    pub mac_version: u32,
    /// HMAC-SHA-256 of the leaf.
    pub mac: [u8; 32],
}

/// Why a leaf could not be made. Without it the mutation does not happen.
#[derive(Debug, thiserror::Error)]
pub enum CannotAudit {
    /// The MAC key cannot be had.
    #[error("the audit key cannot be had")]
    Key(#[from] KeyringError),
    /// More details than a leaf holds.
    #[error("the audit leaf would have {0} octets; at most {max} are allowed", max = limits::AUDIT_LEAF_OCTETS)]
    TooLarge(usize),
}

/// Makes leaves for one process.
#[derive(Debug, Clone)]
pub struct Auditor {
    instance: String,
    keyring: Arc<Keyring>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

#[derive(Serialize)]
struct Leaf<'a> {
    schema: &'static str,
    event_id: EventId,
    time: Timestamp,
    actor: String,
    source: Option<&'a str>,
    action: &'static str,
    project: Option<ProjectId>,
    target: &'a str,
    outcome: &'static str,
    request_id: Option<RequestId>,
    instance: &'a str,
    details: &'a Map<String, Value>,
}

impl Auditor {
    /// An auditor for the process called `instance`.
    pub fn new(
        instance: String,
        keyring: Arc<Keyring>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Self {
        Self { instance, keyring, clock, entropy }
    }

    /// Makes the row for `draft`.
    ///
    /// # Errors
    /// When the MAC key cannot be had, or the leaf would be too large.
    pub async fn row(&self, origin: &Origin, draft: &Draft) -> Result<Row, CannotAudit> {
        let event = EventId::generate(self.clock.as_ref(), self.entropy.as_ref());
        let time = self.clock.now();
        let leaf = Leaf {
            schema: SCHEMA,
            event_id: event,
            time,
            actor: origin.actor.audit_name(),
            source: origin.source.as_deref(),
            action: draft.action.as_str(),
            project: draft.project,
            target: &draft.target,
            outcome: if draft.success { "success" } else { "failure" },
            request_id: origin.request,
            instance: &self.instance,
            details: &draft.details,
        };
        #[expect(clippy::expect_used, reason = "strings, ids and a JSON map always serialise")]
        let leaf = serde_json::to_vec(&leaf).expect("a leaf serialises");
        if leaf.len() > limits::AUDIT_LEAF_OCTETS {
            return Err(CannotAudit::TooLarge(leaf.len()));
        }
        let (mac_version, key) = self.keyring.current(KeyId::AUDIT_MAC).await?;
        let mac = secret::authenticate(&key, &leaf);
        Ok(Row { event, time, leaf, mac_version, mac })
    }
}
