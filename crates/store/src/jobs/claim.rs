// SPDX-License-Identifier: Apache-2.0
//! Claims: one update takes as many jobs as this process has room for. Only the database's clock counts.
//!
//! A claim changes nothing that two jobs share, and all that it changes of one is in its record: so each job is claimed or
//! not by itself, and the token says which ones were. A transaction would cost more the more indexes there are (ADR 12).

use std::collections::BTreeMap;
use std::time::Duration;

use bson::{Document, doc};
use cap_core::fault;
use cap_core::id::{ClaimId, JobId, ProjectId};
use cap_core::job::{Claim, JobState, ProjectLane, Work};
use futures_util::TryStreamExt;
use jiff::Timestamp;

use crate::document::{database_now_plus, millis, read};
use crate::error::StoreError;
use crate::jobs::JobDocument;
use crate::jobs::look::{Found, LanesSeen, Search};
use crate::{Store, bounded};

/// Attempts that are kept with a job: the last ones.
const ATTEMPTS_KEPT: i32 = 10;

/// What was claimed.
#[derive(Debug, Default)]
pub struct Claimed {
    /// The claims.
    pub claims: Vec<Claim>,
    /// The lane that the look ended with, where it went by lanes: the next one goes on behind it.
    pub last: Option<ProjectLane>,
    /// Since when the oldest of what waited has been due, as far as was looked.
    pub oldest: Option<Timestamp>,
    /// What looks by lanes can go on from, where this one saw all of them.
    pub lanes: Option<LanesSeen>,
    /// What projects weigh that have another weight than 1, where it dealt places out among several lanes.
    pub weights: Option<BTreeMap<ProjectId, u32>>,
}

/// What became of jobs whose leases were to be extended.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Extended {
    /// This process still has them.
    pub kept: Vec<JobId>,
    /// A peer claimed them since.
    pub taken: Vec<JobId>,
}

impl Store {
    /// Claims what there is room for of what is due. A job whose lease ran out is due like any other. The claims last
    /// `lease`, by the database's clock, from before the answer.
    ///
    /// # Errors
    /// When the database does not answer; what was claimed all the same is due again after the lease.
    pub async fn claim_jobs(
        &self,
        owner: &str,
        token: ClaimId,
        lease: Duration,
        search: &Search<'_>,
    ) -> Result<Claimed, StoreError> {
        let Found { jobs: mut candidates, last, oldest, lanes, weights } = self.look(search).await?;
        search.spare(&mut candidates);
        if candidates.is_empty() {
            return Ok(Claimed { claims: Vec::new(), last, oldest, lanes, weights });
        }
        fault::point("claim.before");
        let claimed = match self.try_claim(owner, token, &candidates, lease).await {
            Ok(claimed) => claimed,
            // It may have happened: what carries the token is ours.
            Err(error @ StoreError::Unavailable { .. }) => match self.claimed_by(&candidates, token).await {
                Ok(found) if !found.is_empty() => found,
                _ => return Err(error),
            },
            Err(error) => return Err(error),
        };
        fault::point("claim.after");
        let claims = claimed.into_iter().map(|job| job.into_claim(token)).collect();
        Ok(Claimed { claims, last, oldest, lanes, weights })
    }

    async fn try_claim(
        &self,
        owner: &str,
        token: ClaimId,
        candidates: &[JobDocument],
        lease: Duration,
    ) -> Result<Vec<JobDocument>, StoreError> {
        // As they were seen: nobody claimed them since, which would count an attempt, and nobody settled them.
        let mut seen = BTreeMap::<(i32, &str), Vec<String>>::new();
        for job in candidates {
            seen.entry((job.attempt, job.state.as_str())).or_default().push(job.id.to_string());
        }
        let seen = seen.into_iter().map(|((attempt, state), ids)| {
            doc! { "_id": { "$in": ids }, "attempt": attempt, "state": state }
        });
        let due = doc! {
            "$or": seen.collect::<Vec<_>>(), "claim_at": { "$exists": true },
            "$expr": { "$lte": ["$claim_at", "$$NOW"] },
        };
        let take = vec![doc! { "$set": {
            "state": "running", "owner": { "$literal": owner }, "token": token.to_string(),
            "attempt": { "$add": ["$attempt", 1] }, "fence": { "$add": ["$fence", 1_i64] },
            "lost": { "$add": [{ "$ifNull": ["$lost", 0] }, { "$cond": [{ "$eq": ["$state", "running"] }, 1, 0] }] },
            "claim_at": database_now_plus(lease), "lease_ms": millis(lease),
            // A look begins anew whoever asked for it before.
            "asked": { "$cond": [{ "$in": ["$work.kind", Work::LOOKS.to_vec()] }, "$$REMOVE", "$asked"] },
            "attempts": self.attempts_with_one_more(owner),
        } }];
        let jobs = self.collection::<Document>("jobs");
        let matched = bounded("claim jobs", jobs.update_many(due, take)).await?.matched_count;
        if usize::try_from(matched).ok() != Some(candidates.len()) {
            // Others were faster with some of them.
            return if matched == 0 { Ok(Vec::new()) } else { self.claimed_by(candidates, token).await };
        }
        let taken = |job: &JobDocument| JobDocument {
            attempt: job.attempt + 1,
            fence: job.fence + 1,
            lost: job.lost.saturating_add(u32::from(job.state == JobState::Running)),
            ..job.clone()
        };
        Ok(candidates.iter().map(taken).collect())
    }

    /// An expression: the last attempts at a job, and the one that begins.
    fn attempts_with_one_more(&self, owner: &str) -> Document {
        let kept_from = doc! { "$dateSubtract": {
            "startDate": "$$NOW", "unit": "millisecond", "amount": millis(self.retention.attempts),
        } };
        let kept = doc! { "$filter": {
            "input": { "$ifNull": ["$attempts", []] }, "cond": { "$gt": ["$$this.started_at", kept_from] },
        } };
        let one_more = doc! {
            "number": { "$add": ["$attempt", 1] }, "owner": { "$literal": owner }, "started_at": "$$NOW",
        };
        doc! { "$slice": [{ "$concatArrays": [kept, [one_more]] }, -ATTEMPTS_KEPT] }
    }

    /// Those of the candidates that the claim with this token got.
    async fn claimed_by(
        &self,
        candidates: &[JobDocument],
        token: ClaimId,
    ) -> Result<Vec<JobDocument>, StoreError> {
        let found: Vec<Document> = bounded("look for claimed jobs", async {
            let jobs = self.collection::<Document>("jobs");
            let ids: Vec<String> = candidates.iter().map(|job| job.id.to_string()).collect();
            let taken = doc! { "_id": { "$in": ids }, "token": token.to_string(), "state": "running" };
            jobs.find(taken).await?.try_collect().await
        })
        .await?;
        found.into_iter().map(|document| read("jobs", document)).collect()
    }

    /// Extends the leases of all jobs that this process holds, each by its claim's token and attempt; answers which of them it still has,
    /// and which a peer claimed since. The others were settled or ended.
    ///
    /// # Errors
    /// When the database does not answer; the leases go on to run out.
    pub async fn extend_claims(
        &self,
        held: &[(JobId, ClaimId, i32)],
        lease: Duration,
    ) -> Result<Extended, StoreError> {
        let ids: Vec<String> = held.iter().map(|(job, ..)| job.to_string()).collect();
        let tokens: Vec<String> = held.iter().map(|(_, token, _)| token.to_string()).collect();
        let own = doc! { "_id": { "$in": &ids }, "token": { "$in": tokens }, "state": "running" };
        let extend =
            vec![doc! { "$set": { "claim_at": database_now_plus(lease), "lease_ms": millis(lease) } }];
        let jobs = self.collection::<Document>("jobs");
        let extended = bounded("extend claims", jobs.update_many(own, extend)).await?;
        if usize::try_from(extended.matched_count).ok() == Some(held.len()) {
            return Ok(Extended { kept: held.iter().map(|(job, ..)| *job).collect(), taken: vec![] });
        }
        let now: Vec<Document> = bounded("look for claimed jobs", async {
            let now = jobs.find(doc! { "_id": { "$in": ids } });
            now.projection(doc! { "state": 1, "token": 1, "attempt": 1 }).await?.try_collect().await
        })
        .await?;
        let mut extended = Extended::default();
        for (job, token, attempt) in held {
            let says =
                |now: &Document, what: &str, value: &str| now.get_str(what).is_ok_and(|said| said == value);
            let Some(now) = now.iter().find(|now| says(now, "_id", &job.to_string())) else { continue };
            if says(now, "state", JobState::Running.as_str()) && says(now, "token", &token.to_string()) {
                extended.kept.push(*job);
            } else if now.get_i32("attempt").is_ok_and(|last| last > *attempt) {
                extended.taken.push(*job);
            }
        }
        Ok(extended)
    }
}

impl JobDocument {
    fn into_claim(self, token: ClaimId) -> Claim {
        Claim {
            lane: self.lane().lane,
            job: self.id,
            project: self.project,
            work: self.work,
            token,
            attempt: self.attempt,
            fence: self.fence,
            failures: self.failures,
            setbacks: self.setbacks,
            lost: self.lost,
            is_last: self.is_last,
        }
    }
}
