// SPDX-License-Identifier: Apache-2.0
//! Jobs: work that is done by one worker at a time and survives every worker.

mod lane;
mod setbacks;
mod share;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::entropy::Entropy;
use crate::id::{CertificateId, ClaimId, IssuerId, JobId, ProjectId, VersionId};
use crate::limits;
use crate::problem::Problem;

pub use lane::{
    BadLane, BadWeight, EXPIRY_RANKS, Lane, Need, ProjectLane, QUARANTINE_FAILURES, RANK_LATER, RANKS, Weight,
};
pub use setbacks::{CaFault, Cause, Setbacks, Sort, Sorts, count_of};
pub use share::{Room, Waiting, deal};

/// What is to be done, and to what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Work {
    /// Issue the next version of a certificate.
    Issue {
        /// Which certificate.
        certificate: CertificateId,
        /// The version that was current when this was asked for; if another one is by now, there is nothing to do.
        made_for: Option<VersionId>,
    },
    /// Bring an issuer's account at its CA to what is recorded of it: register it, tell its contacts, roll its key, find it again, or
    /// deactivate it. The stored word stays `register-issuer`.
    RegisterIssuer {
        /// Which issuer.
        issuer: IssuerId,
    },
    /// Look at what a certificate's names serve.
    DriftScan {
        /// Which certificate.
        certificate: CertificateId,
    },
    /// Ask an issuer's CA when it wants certificates renewed: those whose look is due when it is run.
    RenewalLook {
        /// Which issuer.
        issuer: IssuerId,
    },
    /// Have a version of a certificate revoked, as it says itself.
    Revoke {
        /// Which certificate.
        certificate: CertificateId,
        /// Which of its versions.
        version: VersionId,
    },
}

impl Work {
    /// The kind of [`Self::Issue`], as shown and counted.
    pub const ISSUE: &'static str = "issue";
    /// That of [`Self::RegisterIssuer`].
    pub const REGISTER_ISSUER: &'static str = "register-issuer";
    /// That of [`Self::DriftScan`].
    pub const DRIFT_SCAN: &'static str = "drift-scan";
    /// That of [`Self::RenewalLook`].
    pub const RENEWAL_LOOK: &'static str = "renewal-look";
    /// That of [`Self::Revoke`].
    pub const REVOKE: &'static str = "revoke";
    /// The kinds of work there are.
    pub const KINDS: [&'static str; 5] =
        [Self::ISSUE, Self::REGISTER_ISSUER, Self::DRIFT_SCAN, Self::RENEWAL_LOOK, Self::REVOKE];
    /// Those of them that only look, and are not kept for long.
    pub const LOOKS: [&'static str; 2] = [Self::DRIFT_SCAN, Self::RENEWAL_LOOK];

    /// The kind, as shown and counted.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Issue { .. } => Self::ISSUE,
            Self::RegisterIssuer { .. } => Self::REGISTER_ISSUER,
            Self::DriftScan { .. } => Self::DRIFT_SCAN,
            Self::RenewalLook { .. } => Self::RENEWAL_LOOK,
            Self::Revoke { .. } => Self::REVOKE,
        }
    }

    /// Whether it has a part of the queue and places of its own, beside the lanes of all that is issued, and says nothing of
    /// the health of what it is about.
    #[must_use]
    pub fn is_apart(&self) -> bool {
        match self {
            Self::DriftScan { .. } | Self::RenewalLook { .. } | Self::Revoke { .. } => true,
            Self::Issue { .. } | Self::RegisterIssuer { .. } => false,
        }
    }

    /// Whether it only looks: one of [`Self::LOOKS`].
    #[must_use]
    pub fn is_look(&self) -> bool {
        Self::LOOKS.contains(&self.kind())
    }

    /// The de-duplication key: at most one living job has it, and it names what was seen when the job was made.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::Issue { certificate, made_for: None } => format!("issue/{certificate}/first"),
            Self::Issue { certificate, made_for: Some(version) } => format!("issue/{certificate}/{version}"),
            Self::RegisterIssuer { issuer } => format!("register-issuer/{issuer}"),
            Self::DriftScan { certificate } => format!("drift-scan/{certificate}"),
            Self::RenewalLook { issuer } => format!("renewal-look/{issuer}"),
            Self::Revoke { version, .. } => format!("revoke/{version}"),
        }
    }
}

/// What a job is about, as it is listed: one that another build queued may be of a kind that this build does not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Listed {
    /// Work that this build can do.
    Known(Work),
    /// Work that it cannot.
    Unknown {
        /// The kind, as the other build calls it.
        kind: String,
    },
}

impl Listed {
    /// The kind, as shown and counted.
    #[must_use]
    pub fn kind(&self) -> &str {
        match self {
            Self::Known(work) => work.kind(),
            Self::Unknown { kind } => kind,
        }
    }

    /// The work, if this build knows it.
    #[must_use]
    pub fn known(&self) -> Option<&Work> {
        match self {
            Self::Known(work) => Some(work),
            Self::Unknown { .. } => None,
        }
    }
}

/// Where a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Waits for its time or for a free worker.
    Queued,
    /// A worker has it.
    Running,
    /// Done.
    Succeeded,
    /// Needs a person.
    Dead,
    /// Nobody wants it any more.
    Cancelled,
}

impl JobState {
    /// The word used in the API and in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
        }
    }

    /// Why a job in this state cannot be retried, and what to do instead; nothing when it can.
    #[must_use]
    pub fn against_retry(self) -> Option<&'static str> {
        match self {
            Self::Queued | Self::Dead => None,
            Self::Running => Some("a worker runs it in this moment; look at it again when that has ended"),
            Self::Succeeded => Some("it has succeeded; to have a certificate renewed, renew the certificate"),
            Self::Cancelled => Some("it was cancelled; to have a certificate renewed, renew the certificate"),
        }
    }

    /// Why a job in this state cannot be cancelled, and what to do instead; nothing when it can.
    #[must_use]
    pub fn against_cancel(self) -> Option<&'static str> {
        match self {
            Self::Queued => None,
            Self::Running => Some(
                "a worker runs it in this moment, and what a CA was asked cannot be taken back; cancel it when it waits \
                 again, or delete what it is for, which ends it at once",
            ),
            Self::Dead => Some("it is dead, so nothing runs it; leave it, or retry it"),
            Self::Succeeded => Some("it has succeeded; there is nothing left to cancel"),
            Self::Cancelled => Some("it was cancelled before"),
        }
    }
}

/// A job about to be queued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobDraft {
    /// Its id.
    pub id: JobId,
    /// Whose.
    pub project: ProjectId,
    /// What is to be done.
    pub work: Work,
    /// How long after it is queued it may run, by the database's clock.
    pub after: Duration,
    /// The fence that the last job on the same subject left behind; claims count up from it.
    pub fence: i64,
    /// How much hangs on it.
    pub need: Need,
}

impl JobDraft {
    /// A job that may run at once, and that nobody waits for.
    pub fn now(project: ProjectId, work: Work, fence: i64, clock: &dyn Clock, entropy: &dyn Entropy) -> Self {
        let (id, need) = (JobId::generate(clock, entropy), Need::default());
        Self { id, project, work, after: Duration::ZERO, fence, need }
    }

    /// The same, for somebody who waits.
    #[must_use]
    pub fn awaited(mut self) -> Self {
        self.need.is_awaited = true;
        self
    }

    /// The same, in the place of what expires at `expires`.
    #[must_use]
    pub fn before(mut self, expires: Option<Timestamp>) -> Self {
        self.need.before = expires;
        self
    }
}

/// A job that this process has claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Which job.
    pub job: JobId,
    /// Whose.
    pub project: ProjectId,
    /// What is to be done.
    pub work: Work,
    /// Proves that the job is still this process's.
    pub token: ClaimId,
    /// How often it was claimed.
    pub attempt: i32,
    /// Higher than every earlier claim's on the same subject; each write of this claim carries it.
    pub fence: i64,
    /// Failed attempts so far.
    pub failures: u32,
    /// Passing faults since the last progress.
    pub setbacks: Option<Setbacks>,
    /// The lane that it was claimed from.
    pub lane: Lane,
    /// Claims in a row, up to this one, whose worker was never heard of again.
    pub lost: u32,
    /// Whether nothing more is begun: what it replaces was let go of, and only what is in flight is brought to its end.
    pub is_last: bool,
}

impl Claim {
    /// The lane of its project that it was claimed from.
    #[must_use]
    pub fn project_lane(&self) -> ProjectLane {
        ProjectLane { project: self.project, lane: self.lane }
    }
}

/// How a claim ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settlement {
    /// It is done.
    Succeeded,
    /// What it was for is gone or was done by somebody else.
    Superseded,
    /// It goes back to the queue for a peer: this process stops.
    HandedBack,
    /// It needs a person, and is not run again before one has looked at it or its time comes anew.
    Dead(Problem),
    /// It runs again after a wait; nothing failed for good.
    Again {
        /// How long to wait, by the database's clock.
        after: Duration,
        /// What is in the way, if anything.
        problem: Option<Problem>,
        /// Passing faults in a row, if that is why.
        setbacks: Option<Setbacks>,
    },
}

impl Settlement {
    /// The same job again, after so long, for no fault of anybody's.
    #[must_use]
    pub fn after(after: Duration, problem: Option<Problem>) -> Self {
        Self::Again { after, problem, setbacks: None }
    }

    /// Whether what is in the way is to be shown on the certificate or issuer, not on the job alone.
    #[must_use]
    pub fn is_shown(&self) -> bool {
        match self {
            Self::Again { problem: Some(_), setbacks, after } => {
                *after > limits::TRANSIENT_WAIT_MAX || setbacks.is_none_or(|setbacks| setbacks.is_shown())
            }
            Self::Dead(_) => true,
            Self::Again { problem: None, .. } | Self::Succeeded | Self::Superseded | Self::HandedBack => {
                false
            }
        }
    }

    /// Whether a job that was asked for while it ran runs again at once instead: not where it goes on with the same attempt, as what waits
    /// for the CA alone does, nor where the wait is a short one.
    #[must_use]
    pub fn yields_to_wish(&self) -> bool {
        matches!(self, Self::Again { after, problem: Some(problem), .. }
            if !problem.is_a_wait() && *after >= limits::WISH_WAIT)
    }
}

/// Whether the process may go on with a claim: until when its lease can be trusted, and whether it shall stop.
///
/// Shared between whoever extends the lease and whoever does the work.
#[derive(Debug, Clone)]
pub struct Mandate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    clock: Arc<dyn Clock>,
    trusted_until_ms: AtomicU64,
    stopping: AtomicBool,
}

impl Mandate {
    /// A mandate that may be trusted until `trusted_until` (boot time).
    pub fn new(clock: Arc<dyn Clock>, trusted_until: Duration) -> Self {
        let inner = Inner { clock, trusted_until_ms: AtomicU64::new(0), stopping: AtomicBool::new(false) };
        let mandate = Self(Arc::new(inner));
        mandate.extend(trusted_until);
        mandate
    }

    /// The lease was extended.
    pub fn extend(&self, trusted_until: Duration) {
        let millis = u64::try_from(trusted_until.as_millis()).unwrap_or(u64::MAX);
        self.0.trusted_until_ms.fetch_max(millis, Ordering::Relaxed);
    }

    /// The lease is lost: nothing may be done or written any more.
    pub fn revoke(&self) {
        self.0.trusted_until_ms.store(0, Ordering::Relaxed);
    }

    /// Asks the work to end at its next step.
    pub fn stop(&self) {
        self.0.stopping.store(true, Ordering::Relaxed);
    }

    /// Whether the lease can still be trusted.
    #[must_use]
    pub fn holds(&self) -> bool {
        let now_ms = u64::try_from(self.0.clock.boottime().as_millis()).unwrap_or(u64::MAX);
        now_ms < self.0.trusted_until_ms.load(Ordering::Relaxed)
    }

    /// Whether the work shall end at its next step.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.0.stopping.load(Ordering::Relaxed)
    }
}

/// Where in the queue a job stands. What only looks, and what revokes, has partitions of its own behind the others, each kind
/// apart: however many wait of one kind, nobody who claims work of another meets them.
#[must_use]
pub fn place_in_queue(job: JobId, work: &Work) -> u16 {
    match work {
        Work::DriftScan { .. } => limits::JOB_PARTITIONS + partition(job) % limits::DRIFT_PARTITIONS,
        Work::RenewalLook { .. } => limits::ARI_PARTITION,
        Work::Revoke { .. } => limits::REVOCATION_PARTITION,
        Work::Issue { .. } | Work::RegisterIssuer { .. } => partition(job),
    }
}

/// The partition of a job: by the hash of its id, so that claimers spread over the queue.
#[must_use]
pub fn partition(job: JobId) -> u16 {
    let hash = crc32fast::hash(job.to_string().as_bytes());
    u16::try_from(hash % u32::from(limits::JOB_PARTITIONS)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_name_what_was_seen() {
        let certificate = format!("crt_{}", "0".repeat(32)).parse().unwrap();
        let version = format!("ver_{}", "1".repeat(32)).parse().ok();
        let first = Work::Issue { certificate, made_for: None };
        let next = Work::Issue { certificate, made_for: version };
        assert_ne!(first.key(), next.key());
        assert_eq!(next.key(), next.clone().key());
    }

    #[test]
    fn what_only_looks_never_stands_where_work_for_a_ca_does() {
        let certificate = format!("crt_{}", "0".repeat(32)).parse().unwrap();
        let issuer = format!("iss_{}", "0".repeat(32)).parse().unwrap();
        let version = format!("ver_{}", "0".repeat(32)).parse().unwrap();
        let looks = [Work::DriftScan { certificate }, Work::RenewalLook { issuer }];
        assert_eq!(Work::LOOKS, looks.map(|look| look.kind()));
        for n in 0..1_000 {
            let job: JobId = format!("job_{n:032x}").parse().unwrap();
            let scan = place_in_queue(job, &Work::DriftScan { certificate });
            assert!((64..72).contains(&scan), "{scan}");
            assert_eq!(place_in_queue(job, &Work::RenewalLook { issuer }), 72);
            assert_eq!(place_in_queue(job, &Work::Revoke { certificate, version }), 73);
            assert!(place_in_queue(job, &Work::Issue { certificate, made_for: None }) < 64);
        }
    }
}
