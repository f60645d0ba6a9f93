// SPDX-License-Identifier: Apache-2.0
//! Claims: one transaction takes as many jobs as this process has room for. Only the database's clock counts.

use std::time::Duration;

use bson::{DateTime, Document, doc};
use cap_core::fault;
use cap_core::id::{ClaimId, JobId};
use cap_core::job::{Claim, JobState, ProjectLane};
use futures_util::{StreamExt, TryStreamExt};
use jiff::Timestamp;

use crate::document::{database_now_plus, date, millis, read};
use crate::error::{Failure, StoreError};
use crate::jobs::look::{Found, Search};
use crate::jobs::{JobDocument, SCAN_KEPT};
use crate::transaction::{Transaction, transact};
use crate::{Store, bounded};

/// What was claimed.
#[derive(Debug, Default)]
pub struct Claimed {
    /// The claims.
    pub claims: Vec<Claim>,
    /// The lane that the look ended with, where it went by lanes: the next one goes on behind it.
    pub last: Option<ProjectLane>,
    /// Since when the oldest of what waited has been due, as far as was looked.
    pub oldest: Option<Timestamp>,
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
        const DOING: &str = "claim jobs";
        let Found { jobs: mut candidates, last, oldest } = self.look(search).await?;
        search.spare(&mut candidates);
        if candidates.is_empty() {
            return Ok(Claimed { claims: Vec::new(), last, oldest });
        }
        fault::point("claim.before");
        let claimed =
            transact!(DOING, { self.try_claim(owner, token, &candidates, lease, search.now).await });
        let claimed = match claimed {
            Ok(claimed) => claimed,
            // The commit may have happened: what carries the token is ours.
            Err(error @ StoreError::Unavailable { .. }) => match self.claimed_by(&candidates, token).await {
                Ok(found) if !found.is_empty() => found,
                _ => return Err(error),
            },
            Err(error) => return Err(error),
        };
        fault::point("claim.after");
        let claims = claimed.into_iter().map(|job| job.into_claim(token)).collect();
        Ok(Claimed { claims, last, oldest })
    }

    async fn try_claim(
        &self,
        owner: &str,
        token: ClaimId,
        candidates: &[JobDocument],
        lease: Duration,
        now: Timestamp,
    ) -> Result<Vec<JobDocument>, Failure> {
        let mut transaction = self.begin("claim jobs").await?;
        let failed = transaction.failed();
        let jobs = self.collection::<Document>("jobs");
        // As they were seen: nobody claimed them, and nobody settled them, since.
        let seen = candidates.iter().map(|job| {
            let holder = job.token.map(|token| token.to_string());
            doc! { "_id": job.id.to_string(), "attempt": job.attempt, "token": holder }
        });
        let due = doc! {
            "$or": seen.collect::<Vec<_>>(), "claim_at": { "$exists": true },
            "$expr": { "$lte": ["$claim_at", "$$NOW"] },
        };
        let take = vec![doc! { "$set": {
            "state": "running", "owner": { "$literal": owner }, "token": token.to_string(),
            "attempt": { "$add": ["$attempt", 1] }, "fence": { "$add": ["$fence", 1_i64] },
            "lost": { "$cond": [{ "$eq": ["$state", "running"] }, { "$add": [{ "$ifNull": ["$lost", 0] }, 1] }, 0] },
            "claim_at": database_now_plus(lease), "lease_ms": millis(lease),
        } }];
        let update = jobs.update_many(due, take).session(&mut transaction.session);
        let matched = update.await.map_err(&failed)?.matched_count;
        if matched == 0 {
            return Ok(Vec::new());
        }
        fault::point("claim.within");
        let claimed = if usize::try_from(matched).ok() == Some(candidates.len()) {
            let taken = |job: &JobDocument| JobDocument {
                attempt: job.attempt + 1,
                fence: job.fence + 1,
                lost: if job.state == JobState::Running { job.lost.saturating_add(1) } else { 0 },
                ..job.clone()
            };
            candidates.iter().map(taken).collect()
        } else {
            self.taken_in(&mut transaction, candidates, token).await?
        };
        let started: DateTime = date(now);
        let attempts = claimed.iter().map(|job| {
            let kept = if job.work.is_look() { SCAN_KEPT } else { self.retention.attempts };
            let expire_at = date(cap_core::clock::later(now, kept));
            doc! {
                "_id": format!("{}/{}", job.id, job.attempt), "job": job.id.to_string(), "attempt": job.attempt,
                "owner": owner, "token": token.to_string(), "fence": job.fence, "started_at": started,
                "expire_at": expire_at,
            }
        });
        let records = self.collection::<Document>("job_attempts");
        records.insert_many(attempts).session(&mut transaction.session).await.map_err(&failed)?;
        transaction.commit().await?;
        Ok(claimed)
    }

    /// What the claim got, where it did not get all that it wanted.
    async fn taken_in(
        &self,
        transaction: &mut Transaction,
        candidates: &[JobDocument],
        token: ClaimId,
    ) -> Result<Vec<JobDocument>, Failure> {
        let failed = transaction.failed();
        let jobs = self.collection::<Document>("jobs");
        let taken = jobs.find(taken_with(candidates, token)).session(&mut transaction.session);
        let mut taken = taken.await.map_err(&failed)?;
        let mut claimed = Vec::new();
        while let Some(document) = taken.stream(&mut transaction.session).next().await {
            claimed.push(read::<JobDocument>("jobs", document.map_err(&failed)?)?);
        }
        Ok(claimed)
    }

    async fn claimed_by(
        &self,
        candidates: &[JobDocument],
        token: ClaimId,
    ) -> Result<Vec<JobDocument>, StoreError> {
        let found: Vec<Document> = bounded("look for claimed jobs", async {
            let jobs = self.collection::<Document>("jobs");
            jobs.find(taken_with(candidates, token)).await?.try_collect().await
        })
        .await?;
        found.into_iter().map(|document| read("jobs", document)).collect()
    }

    /// Extends the leases of all jobs that this process holds, and answers those that it still has.
    ///
    /// # Errors
    /// When the database does not answer; the leases go on to run out.
    pub async fn extend_claims(
        &self,
        held: &[(JobId, ClaimId)],
        lease: Duration,
    ) -> Result<Vec<JobId>, StoreError> {
        let ids: Vec<String> = held.iter().map(|(job, _)| job.to_string()).collect();
        let tokens: Vec<String> = held.iter().map(|(_, token)| token.to_string()).collect();
        let own = doc! { "_id": { "$in": ids }, "token": { "$in": tokens }, "state": "running" };
        let extend =
            vec![doc! { "$set": { "claim_at": database_now_plus(lease), "lease_ms": millis(lease) } }];
        let jobs = self.collection::<Document>("jobs");
        let extended = bounded("extend claims", jobs.update_many(own.clone(), extend)).await?;
        if usize::try_from(extended.matched_count).ok() == Some(held.len()) {
            return Ok(held.iter().map(|(job, _)| *job).collect());
        }
        let left: Vec<Document> = bounded("look for claimed jobs", async {
            jobs.find(own).projection(doc! { "_id": 1 }).await?.try_collect().await
        })
        .await?;
        Ok(left.iter().filter_map(|job| job.get_str("_id").ok()?.parse().ok()).collect())
    }
}

/// Those of the candidates that the claim with this token got.
fn taken_with(candidates: &[JobDocument], token: ClaimId) -> Document {
    let ids: Vec<String> = candidates.iter().map(|job| job.id.to_string()).collect();
    doc! { "_id": { "$in": ids }, "token": token.to_string(), "state": "running" }
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
        }
    }
}
