// SPDX-License-Identifier: Apache-2.0
//! The job queue: one document a job; claims, settlements, the wake-up stream, what people ask of a job, and the depth
//! of it all are in their own files.

mod bounds;
mod change;
mod claim;
mod gauge;
mod hasten;
pub(crate) mod lists;
mod look;
mod rank;
mod settle;
mod watch;
mod wrong;

use bson::{DateTime, Document, doc};
use cap_core::id::{ClaimId, JobId, ProjectId};
use cap_core::job::{Claim, JobDraft, JobState, Lane, Listed, ProjectLane, Setbacks, Work, place_in_queue};
use cap_core::page::Order;
use cap_core::problem::Problem;
use futures_util::TryStreamExt;
use jiff::Timestamp;
use mongodb::action::{Action, Find};
use serde::{Deserialize, Serialize};

use crate::document::{as_date, database_now_plus, date, document, millis, read, time};
use crate::duties::led;
use crate::error::{Failure, StoreError};
use crate::fact::Fact;
use crate::transaction::Transaction;
use crate::{Store, bounded};

pub use change::JobRefusal;
pub use claim::{Claimed, Extended};
pub(crate) use hasten::next_attempt_now;
pub(crate) use look::page::Told;
pub use look::{LanesSeen, Search};
pub use watch::JobWatch;

/// How long a job that only looks is kept when it is over, and its attempt: there are many of them, and what they saw is on
/// the certificate. Longer than a request for one is remembered.
pub(crate) const LOOK_KEPT: std::time::Duration = std::time::Duration::from_secs(2 * 86_400);

/// How long the worker of another job holds one up at most: the longest lease there can be, whatever a wrong clock stamped.
const HELD_MAX: std::time::Duration = std::time::Duration::from_secs(10 * 60);
/// Where the leader leaves its epoch when it changes jobs.
const DUTY_EPOCH: &str = "duty_epoch";

/// A job as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct JobDocument<W = Work> {
    #[serde(rename = "_id")]
    id: JobId,
    project: ProjectId,
    /// What the job works on: all jobs of one subject can be found and ended together.
    subject: String,
    key: String,
    /// Whether it holds its key.
    alive: bool,
    p: i32,
    work: W,
    /// Beside whom it waits. None for work that stands apart, and for jobs that were queued before there were lanes.
    #[serde(default)]
    lane: Option<ProjectLane>,
    /// Before whom it goes, of those in its lane.
    #[serde(default)]
    rank: i32,
    /// The rank that it has however far away the end of `needed_before` is.
    #[serde(default)]
    rank_floor: i32,
    /// When what is in use expires.
    #[serde(default)]
    needed_before: Option<DateTime>,
    state: JobState,
    /// When it runs (queued) or its lease ends (running); absent when it is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    claim_at: Option<DateTime>,
    attempt: i32,
    /// The last attempts: claims add to them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    attempts: Vec<JobAttempt>,
    fence: i64,
    failures: u32,
    /// Claims in a row whose worker was never heard of again.
    #[serde(default)]
    lost: u32,
    /// Whether nothing more is begun for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_last: bool,
    #[serde(default)]
    setbacks: Option<Setbacks>,
    #[serde(default)]
    owner: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<ClaimId>,
    #[serde(default)]
    problem: Option<Problem>,
    created_at: DateTime,
    #[serde(default)]
    finished_at: Option<DateTime>,
    /// Until when the worker of a job before it holds it up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    held_until: Option<DateTime>,
}

/// An attempt at a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobAttempt {
    /// Counts the attempts, from 1.
    pub number: i32,
    /// The process that made it.
    pub owner: String,
    /// When it began.
    #[serde(with = "as_date")]
    pub started_at: Timestamp,
}

/// A job as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRecord {
    /// Its id.
    pub id: JobId,
    /// Whose.
    pub project: ProjectId,
    /// What is to be done, which may be nothing that this build can do.
    pub work: Listed,
    /// Where it is.
    pub state: JobState,
    /// Beside whom it waits; nothing for what has a part of the queue to itself.
    pub lane: Option<Lane>,
    /// How often it was claimed.
    pub attempt: i32,
    /// The last attempts, the latest last.
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

/// Which jobs of a project are listed, and in which order.
#[derive(Debug, Clone, Default)]
pub struct JobFilter {
    /// Only those in this state.
    pub state: Option<JobState>,
    /// Only those for this certificate or issuer.
    pub subject: Option<String>,
    /// Only those of this kind.
    pub kind: Option<String>,
    /// In the order in which they were queued, or the other way round.
    pub order: Order,
}

/// What is left of a job that another took the place of; of none, nothing.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Replaced {
    /// The fence that it had.
    pub(crate) fence: i64,
    /// Until when a worker may go on with it, or with one that it took the place of itself: that has not heard of its end.
    pub(crate) held_until: Option<DateTime>,
}

impl Store {
    /// A project's job.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn job(&self, project: ProjectId, id: JobId) -> Result<Option<JobRecord>, StoreError> {
        let found = self.record_of("read a job", "jobs", project, &id.to_string()).await?;
        let found = found.map(|document| read::<JobDocument<Listed>>("jobs", document)).transpose()?;
        Ok(found.map(JobRecord::from))
    }

    /// A job that was queued just now.
    pub(crate) async fn queued_job(&self, project: ProjectId, id: JobId) -> Result<JobRecord, StoreError> {
        let gone =
            || StoreError::Corrupt { collection: "jobs", cause: format!("{id} was queued and is gone") };
        self.job(project, id).await?.ok_or_else(gone)
    }

    /// Whether a living job has this key, seen from inside `transaction`.
    pub(crate) async fn is_alive(&self, transaction: &mut Transaction, key: &str) -> Result<bool, Failure> {
        Ok(self.living_job(transaction, key).await?.is_some())
    }

    /// The living job that has this key, seen from inside `transaction`.
    pub(crate) async fn living_job(
        &self,
        transaction: &mut Transaction,
        key: &str,
    ) -> Result<Option<JobId>, Failure> {
        let failed = transaction.failed();
        let jobs = self.collection::<Document>("jobs");
        let filter = doc! { "key": key, "alive": true };
        let found = jobs.find_one(filter).projection(doc! { "_id": 1 }).session(&mut transaction.session);
        let found = found.await.map_err(failed)?;
        Ok(found.and_then(|job| job.get_str("_id").ok()?.parse().ok()))
    }

    /// Ends the living job with this key, for another one to take its place. Answers what is left of it.
    pub(crate) async fn replace_job(
        &self,
        transaction: &mut Transaction,
        key: &str,
    ) -> Result<Replaced, Failure> {
        let failed = transaction.failed();
        let jobs = self.collection::<Document>("jobs");
        let cancel = jobs
            .find_one_and_update(doc! { "key": key, "alive": true }, settle::over("cancelled"))
            .projection(doc! { "fence": 1, "state": 1, "claim_at": 1, "held_until": 1 })
            .session(&mut transaction.session);
        let Some(job) = cancel.await.map_err(failed)? else { return Ok(Replaced::default()) };
        let is_running = job.get_str("state").is_ok_and(|state| state == JobState::Running.as_str());
        let held_until = job.get_datetime(if is_running { "claim_at" } else { "held_until" });
        Ok(Replaced { fence: job.get_i64("fence").unwrap_or_default(), held_until: held_until.ok().copied() })
    }

    /// Holds the job that took the place of the claim's up no longer, if it waits for this claim's worker.
    ///
    /// # Errors
    /// When the database does not answer; then it runs when this claim's lease would have ended.
    pub async fn release_successor(&self, claim: &Claim) -> Result<(), StoreError> {
        // Whoever comes behind a later claim has a higher fence, and waits for that one.
        let waits = doc! {
            "key": claim.work.key(), "alive": true, "state": "queued", "held_until": { "$exists": true },
            "fence": claim.fence,
        };
        let due = doc! { "$max": [{ "$min": ["$claim_at", "$due_at"] }, "$$NOW"] };
        let now = vec![
            doc! { "$set": { "claim_at": due, "hastened": "$$NOW", "held_until": "$$REMOVE" } },
            rank::stage(),
        ];
        let jobs = self.collection::<Document>("jobs");
        bounded("let a job's successor run", jobs.update_one(waits, now)).await.map(drop)
    }

    /// Changes up to `limit` jobs that `which` is true of, in the order of `by` where it is given, as long as it is still true of
    /// them. Answers how many.
    async fn change_page(
        &self,
        doing: &'static str,
        which: Document,
        by: Option<Document>,
        limit: u32,
        change: Vec<Document>,
        epoch: i64,
    ) -> Result<u32, StoreError> {
        let (which, change) = led(DUTY_EPOCH, epoch, which, change);
        let jobs = self.collection::<Document>("jobs");
        let found: Vec<Document> = bounded(doing, async {
            let page = jobs.find(which.clone()).optional(by, Find::sort).limit(i64::from(limit));
            page.projection(doc! { "_id": 1 }).await?.try_collect().await
        })
        .await?;
        let ids: Vec<&str> = found.iter().filter_map(|job| job.get_str("_id").ok()).collect();
        if ids.is_empty() {
            return Ok(0);
        }
        let mut still = doc! { "_id": { "$in": ids } };
        still.extend(which);
        let changed = bounded(doing, jobs.update_many(still, change)).await?.matched_count;
        Ok(u32::try_from(changed).unwrap_or(u32::MAX))
    }

    /// Ends every living job on a subject that is going away.
    pub(crate) async fn cancel_jobs(
        &self,
        transaction: &mut Transaction,
        subject: &str,
    ) -> Result<(), Failure> {
        let failed = transaction.failed();
        let jobs = self.collection::<Document>("jobs");
        let living = doc! { "lists": subject, "alive": true };
        let cancel = jobs.update_many(living, settle::over("cancelled")).session(&mut transaction.session);
        cancel.await.map_err(failed)?;
        Ok(())
    }
}

/// Where a new job waits. What is apart has partitions of the queue to itself, and needs no lane to be fair in.
fn lane(draft: &JobDraft) -> Option<ProjectLane> {
    match draft.work {
        Work::Issue { .. } | Work::RegisterIssuer { .. } => {
            Some(ProjectLane { project: draft.project, lane: Lane::Main })
        }
        Work::DriftScan { .. } | Work::RenewalLook { .. } | Work::Revoke { .. } => None,
    }
}

impl<W> JobDocument<W> {
    fn id(&self) -> String {
        self.id.to_string()
    }
}

impl JobDocument {
    /// Its lane; the main one for a job without.
    fn lane(&self) -> ProjectLane {
        self.lane.unwrap_or(ProjectLane { project: self.project, lane: Lane::Main })
    }
}

/// What a job works on: its collection and its id.
fn subject(work: &Work) -> (&'static str, String) {
    match work {
        Work::Issue { certificate, .. }
        | Work::DriftScan { certificate }
        | Work::Revoke { certificate, .. } => ("certificates", certificate.to_string()),
        Work::RegisterIssuer { issuer } | Work::RenewalLook { issuer } => ("issuers", issuer.to_string()),
    }
}

/// The field of the subject that has the fence of such work: what is apart must not stand in the way of an issuance or a
/// registration.
fn fence_field(work: &Work) -> &'static str {
    match work {
        Work::Issue { .. } | Work::RegisterIssuer { .. } => "fence",
        Work::DriftScan { .. } => "drift_fence",
        Work::RenewalLook { .. } => "ari_fence",
        Work::Revoke { .. } => "revoke_fence",
    }
}

impl Fact {
    /// With `job` in the queue.
    pub(crate) fn queueing(self, job: &JobDraft) -> Result<Self, StoreError> {
        self.queueing_behind(job, None)
    }

    /// With `job` in the queue, which nobody claims before `held_until`.
    pub(crate) fn queueing_behind(
        self,
        job: &JobDraft,
        held_until: Option<DateTime>,
    ) -> Result<Self, StoreError> {
        let record = document("jobs", &JobDocument::from(job))?;
        // Its times are the database's. A job with this id that is there already is left alone: that is a conflict.
        let absent = doc! { "_id": job.id.to_string(), "key": { "$exists": false } };
        let due = database_now_plus(job.after);
        let mut times = doc! { "claim_at": &due, "wait_ms": millis(job.after), "created_at": "$$NOW" };
        if let Some(until) = held_until {
            let until = doc! { "$min": [until, database_now_plus(HELD_MAX)] };
            let held = doc! { "$max": [millis(job.after), { "$subtract": [&until, "$$NOW"] }] };
            times.extend(doc! {
                "claim_at": { "$max": [&due, &until] }, "wait_ms": held, "held_until": until, "due_at": due,
            });
        }
        let made = vec![
            doc! { "$replaceWith": { "$mergeObjects": [{ "$literal": record }, times] } },
            doc! { "$set": { "lists": lists::when(lists::LIVING) } },
            rank::stage(),
        ];
        Ok(self.upsert("jobs", absent, made))
    }
}

impl From<&JobDraft> for JobDocument {
    fn from(draft: &JobDraft) -> Self {
        Self {
            id: draft.id,
            project: draft.project,
            subject: subject(&draft.work).1,
            key: draft.work.key(),
            alive: true,
            p: i32::from(place_in_queue(draft.id, &draft.work)),
            work: draft.work.clone(),
            lane: lane(draft),
            rank: draft.need.floor(),
            rank_floor: draft.need.floor(),
            needed_before: draft.need.before.map(date),
            state: JobState::Queued,
            claim_at: None,
            attempt: 0,
            attempts: Vec::new(),
            fence: draft.fence,
            failures: 0,
            lost: 0,
            is_last: false,
            setbacks: None,
            owner: None,
            token: None,
            problem: None,
            // The database sets its own time.
            created_at: DateTime::from_millis(0),
            finished_at: None,
            held_until: None,
        }
    }
}

impl From<JobDocument<Listed>> for JobRecord {
    fn from(job: JobDocument<Listed>) -> Self {
        Self {
            lane: job.lane.map(|lane| lane.lane),
            id: job.id,
            project: job.project,
            work: job.work,
            state: job.state,
            attempt: job.attempt,
            attempts: job.attempts,
            owner: job.owner,
            due_at: job.claim_at.map(time),
            problem: job.problem,
            created_at: time(job.created_at),
            finished_at: job.finished_at.map(time),
        }
    }
}
