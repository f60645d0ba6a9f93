// SPDX-License-Identifier: Apache-2.0
//! What goes over the wire, under `/api/v1`. Requests refuse unknown fields; times are RFC 3339 in UTC.

mod cluster;

pub use cluster::{
    Attention, Cluster, Database, DatabaseMember, Instance, Leader, Lease, MemberState, StepDown,
    SteppingDown,
};
mod certificates;
mod drift;
mod issuer;
mod renewal;
mod secret;

pub use certificates::{
    Certificate, CreateCertificate, Key, Revocation, RevokeCertificate, UpdateCertificate, UpdateKey, Version,
};
pub use drift::{Drift, DriftTarget, ProjectDrift, UpdateProject, UpdateProjectDrift};
pub use issuer::{CreateIssuer, DeactivateIssuer, Issuer, KeyRollover, UpdateIssuer};
pub use renewal::{RenewalInfo, RenewalWindow};
pub use secret::SecretText;

use cap_core::actor::Role;
use cap_core::expiry::{Reason, Threshold};
use cap_core::id::{CertificateId, IssuerId, JobId, ProjectId, RequestId, TokenId, VersionId};
use cap_core::job::{JobState, Lane};
use cap_core::problem::Problem;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};

/// An error (RFC 9457), `application/problem+json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProblemDetails {
    /// Which problem: stable, one of docs/reference/problems.md.
    #[serde(rename = "type")]
    pub kind: String,
    /// The problem in a few words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened, why, and what to do.
    pub detail: String,
    /// The request's id, as in our logs.
    pub request_id: Option<RequestId>,
}

/// `POST /projects`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateProject {
    /// Its name.
    pub name: String,
}

/// A project.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Project {
    /// Its id.
    pub id: ProjectId,
    /// Its name.
    pub name: String,
    /// How its certificates are scanned for drift.
    pub drift: ProjectDrift,
    /// What it weighs where workers' places are short.
    pub weight: u32,
    /// When it was made.
    pub created_at: Timestamp,
}

/// `POST /tokens`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateToken {
    /// What to call it.
    pub name: String,
    /// What its bearer may do.
    pub role: Role,
    /// The project, by id or name, that it is confined to; the whole organisation when unset.
    #[serde(default)]
    pub project: Option<String>,
    /// How long it is valid, as in `30d`; 90 days when unset, a year at most.
    #[serde(default)]
    pub expires_in: Option<String>,
}

/// A token's record; never the token.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Token {
    /// Its id.
    pub id: TokenId,
    /// What it is called.
    pub name: String,
    /// What its bearer may do.
    pub role: Role,
    /// The project that it is confined to.
    pub project: Option<ProjectId>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

/// The answer to `POST /tokens`: the only time that the token is shown.
#[derive(Clone, Serialize, Deserialize)]
pub struct CreatedToken {
    /// Its record.
    #[serde(flatten)]
    pub record: Token,
    /// The token.
    pub token: String,
}

/// A job.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// Whose.
    pub project: ProjectId,
    /// What kind of work it is.
    pub kind: String,
    /// The certificate that it is for.
    pub certificate: Option<CertificateId>,
    /// The issuer that it is for.
    pub issuer: Option<IssuerId>,
    /// Where it is.
    pub state: JobState,
    /// Beside whom it waits: `main`, or `quarantine` for what keeps failing; nothing for drift scans, which have a part of
    /// the queue to themselves.
    pub lane: Option<Lane>,
    /// How often it was claimed.
    pub attempt: i32,
    /// The last attempts, ten at most, the latest last.
    #[serde(default)]
    pub attempts: Vec<JobAttempt>,
    /// The process that has it.
    pub owner: Option<String>,
    /// When it runs (queued) or its lease ends (running).
    pub due_at: Option<Timestamp>,
    /// What was in the way last.
    pub problem: Option<Problem>,
    /// When it was queued.
    pub created_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
}

/// An attempt at a job.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JobAttempt {
    /// Counts the attempts, from 1.
    pub number: i32,
    /// The process that made it.
    pub owner: String,
    /// When it began.
    pub started_at: Timestamp,
}

/// The answer to `POST /projects/{p}/jobs/{j}/cancel`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CancelledJob {
    /// The job.
    #[serde(flatten)]
    pub job: Job,
    /// What becomes of its work now, for people.
    pub next: String,
}

/// How many jobs of a project ended in an hour, of one kind and one way.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JobTotal {
    /// When the hour begins.
    pub hour: Timestamp,
    /// What kind of work it was.
    pub kind: String,
    /// How they ended: `succeeded`, `dead` or `cancelled`.
    pub outcome: String,
    /// How many.
    pub jobs: u64,
}

/// A certificate that was not renewed in time.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Notice {
    /// Its name: certificate, version and kind.
    pub id: String,
    /// The certificate.
    pub certificate: CertificateId,
    /// Its version that runs out.
    pub version: VersionId,
    /// Whose.
    pub project: ProjectId,
    /// The certificate's first name.
    pub name: String,
    /// How far it has run out.
    pub kind: Threshold,
    /// When the version ends.
    pub not_after: Timestamp,
    /// Why it was not renewed in time, as it was when the notice was made.
    pub reason: Reason,
    /// What was in the way then.
    pub problem: Option<Problem>,
    /// When the notice was made.
    pub noticed_at: Timestamp,
    /// When another version took its place, or the certificate was deleted.
    pub resolved_at: Option<Timestamp>,
}

/// How deep the queue is, as the scheduler that leads sees it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Queue {
    /// Jobs that are due or running.
    pub depth: u64,
    /// Whether there are more than are counted: the depth is an estimate then, and never less than 10,000.
    pub capped: bool,
    /// How long the oldest job that is due has been due, in seconds; 0 when none is.
    pub oldest_age_seconds: f64,
    /// The same for each kind of work, what only looks among it; nothing where a scheduler of an earlier version measured.
    #[serde(default)]
    pub by_kind: Vec<QueueOfKind>,
    /// When, by the database's clock.
    pub measured_at: Timestamp,
}

/// The jobs of one kind in the queue.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct QueueOfKind {
    /// The kind.
    pub kind: String,
    /// How many are due.
    pub due: u64,
    /// How many run.
    pub running: u64,
    /// Whether there are more that are due than are counted: it is 10,000 then, or an estimate that is no less.
    pub capped: bool,
    /// How long the oldest that is due has been due, in seconds; 0 when none is.
    pub oldest_age_seconds: f64,
}

/// A member that is there, be it null.
fn given<'de, T, D>(value: D) -> Result<Option<Option<T>>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    Option::deserialize(value).map(Some)
}
