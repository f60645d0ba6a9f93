// SPDX-License-Identifier: Apache-2.0
//! Jobs that somebody asked for: they come forward to now, and what they work on says so.

use bson::{Bson, DateTime, Document, doc};
use cap_core::id::JobId;
use cap_core::job::{Claim, JobState, Lane, Need, Work};
use cap_core::limits::DRIFT_SCAN_AGAIN;
use serde::Deserialize;

use crate::document::{millis, read};
use crate::error::{Failure, StoreError};
use crate::jobs::{rank, subject};
use crate::transaction::{Transaction, transact};
use crate::{Store, bounded};

/// The kind of jobs that look at what a certificate's names serve.
const DRIFT_SCAN: &str = Work::LOOKS[0];

/// A job that was brought forward, as it was before.
#[derive(Deserialize)]
struct Hastened {
    #[serde(rename = "_id")]
    id: JobId,
    work: Work,
    state: JobState,
    #[serde(default)]
    held_until: Option<DateTime>,
}

impl Store {
    /// Lets the living job with this key run now, if it waits, and has that shown where its next attempt is. Answers which one it
    /// is, if there is a living one at all.
    pub(crate) async fn hasten_job(
        &self,
        transaction: &mut Transaction,
        key: &str,
    ) -> Result<Option<JobId>, Failure> {
        let failed = transaction.failed();
        let jobs = self.collection::<Document>("jobs");
        let living = doc! { "key": key, "alive": true };
        let hasten = jobs
            .find_one_and_update(living, vec![doc! { "$set": forward() }, rank::stage()])
            .projection(doc! { "work": 1, "state": 1, "held_until": 1 })
            .session(&mut transaction.session);
        let Some(job) = hasten.await.map_err(&failed)? else { return Ok(None) };
        let job: Hastened = read("jobs", job)?;
        self.show_next_attempt(transaction, &job).await?;
        Ok(Some(job.id))
    }

    /// Has it shown that a job which waits comes forward to now.
    async fn show_next_attempt(&self, transaction: &mut Transaction, job: &Hastened) -> Result<(), Failure> {
        let failed = transaction.failed();
        if let (JobState::Queued, Some((collection, id))) = (job.state, shown_on(&job.work)) {
            let records = self.collection::<Document>(collection);
            let tell = records.update_one(doc! { "_id": id }, vec![next_attempt_now(job.held_until)]);
            tell.session(&mut transaction.session).await.map_err(failed)?;
        }
        Ok(())
    }

    /// Has it shown that the claim's job runs again at once, if somebody asked for it while it ran. Answers whether it does.
    ///
    /// # Errors
    /// When the database does not answer; it runs all the same.
    pub async fn show_heeded(&self, claim: &Claim) -> Result<bool, StoreError> {
        const DOING: &str = "show what runs again";
        let jobs = self.collection::<Document>("jobs");
        let heeded = doc! {
            "_id": claim.job.to_string(), "attempt": claim.attempt, "state": "queued", "heeded": claim.attempt,
        };
        if bounded(DOING, jobs.find_one(heeded.clone())).await?.is_none() {
            return Ok(false);
        }
        transact!(DOING, {
            let mut transaction = self.begin(DOING).await?;
            let failed = transaction.failed();
            let shown = jobs.find_one_and_update(heeded.clone(), doc! { "$unset": { "heeded": "" } });
            let shown = shown.projection(doc! { "work": 1, "state": 1, "held_until": 1 });
            // A peer may have claimed it meanwhile, and shows how it goes.
            let Some(job) = shown.session(&mut transaction.session).await.map_err(failed)? else {
                return Ok(true);
            };
            self.show_next_attempt(&mut transaction, &read("jobs", job)?).await?;
            transaction.commit().await?;
            Ok(true)
        })
    }
}

/// Fields of a job that comes forward to now, because somebody asked for it. A running one keeps its lease; one that
/// has been due keeps its age, and one that is held up by a worker stays so, as does a scan that waits because the last one was just
/// now. It leaves quarantine: whoever asks has mended something.
pub(super) fn forward() -> Document {
    let too_soon = doc! { "$and": [
        { "$eq": ["$work.kind", DRIFT_SCAN] },
        { "$gt": ["$wait_ms", 0] },
        { "$lte": ["$wait_ms", millis(DRIFT_SCAN_AGAIN)] },
    ] };
    let comes = doc! { "$and": [{ "$eq": ["$state", "queued"] }, { "$not": [too_soon] }] };
    // It comes no sooner, and somebody asked for it all the same.
    let is_running = doc! { "$eq": ["$state", "running"] };
    let come = |now: Bson, field: &str| doc! { "$cond": [&comes, now, field] };
    let own =
        doc! { "$cond": [{ "$ifNull": ["$due_at", false] }, { "$min": ["$due_at", "$$NOW"] }, "$$REMOVE"] };
    let main = doc! { "$cond": [{ "$ifNull": ["$lane", false] }, { "$concat": ["$project", "/", Lane::Main.as_str()] }, null] };
    doc! {
        "claim_at": come(doc! { "$max": [{ "$min": ["$claim_at", "$$NOW"] }, "$held_until"] }.into(), "$claim_at"),
        "due_at": come(own.into(), "$due_at"),
        "hastened": { "$cond": [{ "$or": [&comes, &is_running] }, "$$NOW", "$hastened"] },
        // Kept until the run has ended and the job would wait: then it is heeded.
        "asked": { "$cond": [is_running, true, "$$REMOVE"] },
        "lane": come(main.into(), "$lane"),
        // Whoever asks for it wants all of it.
        "is_last": "$$REMOVE",
        "rank_floor": come(Need { is_awaited: true, before: None }.floor().into(), "$rank_floor"),
    }
}

/// Stages for a job that its claim has put back to wait: one that was asked for while it ran runs again at once. It counts as asked for
/// when it was: what was decided since stands.
pub(super) fn heeding(claim: &Claim) -> Vec<Document> {
    if claim.work.is_look() {
        // It looks anew however it runs next.
        return vec![doc! { "$unset": "asked" }];
    }
    let is_asked = doc! { "$eq": ["$asked", true] };
    let mut forward = forward();
    forward.remove("hastened");
    forward.extend(doc! { "wait_ms": 0_i64, "heeded": claim.attempt });
    let heeded = forward.into_iter().map(|(field, then)| {
        let stays = format!("${field}");
        (field, Bson::from(doc! { "$cond": [&is_asked, then, stays] }))
    });
    vec![doc! { "$set": heeded.collect::<Document>() }, rank::stage()]
}

/// A stage for what a job works on that comes forward to now, or to when it is held up no longer: where the next attempt is shown, or
/// something failed, it is then.
pub(crate) fn next_attempt_now(held_until: Option<DateTime>) -> Document {
    let is_shown =
        doc! { "$or": [{ "$eq": ["$status", "failing"] }, { "$ifNull": ["$next_attempt_at", false] }] };
    let now = doc! { "$max": [held_until, "$$NOW"] };
    let as_it_is = doc! { "$ifNull": ["$next_attempt_at", null] };
    doc! { "$set": { "next_attempt_at": { "$cond": [is_shown, now, as_it_is] } } }
}

/// Where the next attempt at such work is shown, if it is: what is apart says nothing of what it is about.
pub(super) fn shown_on(work: &Work) -> Option<(&'static str, String)> {
    (!work.is_apart()).then(|| subject(work))
}
