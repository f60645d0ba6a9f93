// SPDX-License-Identifier: Apache-2.0
//! Claims: one transaction takes as many jobs as this process has room for. Only the database's clock counts.

use std::time::Duration;

use bson::{DateTime, Document, doc};
use cap_core::fault;
use cap_core::id::{ClaimId, JobId};
use cap_core::job::Claim;
use cap_core::limits;
use futures_util::{StreamExt, TryStreamExt};
use jiff::Timestamp;

use crate::document::{database_now_plus, date, read};
use crate::error::{Failure, StoreError};
use crate::jobs::JobDocument;
use crate::transaction::{Transaction, transact};
use crate::{Store, bounded};

/// How far this host's clock may lag behind the database's before it would overlook a job that is due. The clock only
/// narrows the search; whether a job is due is decided by the database.
const SEARCH_AHEAD: Duration = Duration::from_secs(60);
/// Jobs at the head of the queue that may be unreadable without keeping the others from being claimed.
const UNREADABLE: usize = 20;
/// How long an attempt's record is kept.
const ATTEMPT_KEPT: Duration = Duration::from_secs(30 * 86_400);

impl Store {
    /// Claims up to `room` jobs that are due, of the given partitions, the longest due first. A job whose lease ran
    /// out is due like any other. The claims last `lease`, by the database's clock, from before the answer.
    ///
    /// # Errors
    /// When the database does not answer; what was claimed all the same is due again after the lease.
    pub async fn claim_jobs(
        &self,
        owner: &str,
        token: ClaimId,
        room: usize,
        lease: Duration,
        partitions: &[u16],
        now: Timestamp,
    ) -> Result<Vec<Claim>, StoreError> {
        const DOING: &str = "claim jobs";
        let candidates = self.due_jobs(room.min(limits::CLAIM_BATCH), partitions, now).await?;
        if candidates.is_empty() {
            return Ok(Vec::new());
        }
        fault::point("claim.before");
        let claimed = transact!(DOING, { self.try_claim(owner, token, &candidates, lease, now).await });
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
        Ok(claimed.into_iter().map(|job| job.into_claim(token)).collect())
    }

    async fn due_jobs(
        &self,
        room: usize,
        partitions: &[u16],
        now: Timestamp,
    ) -> Result<Vec<JobDocument>, StoreError> {
        let filter = doc! {
            "p": { "$in": partitions.iter().copied().map(i32::from).collect::<Vec<_>>() },
            "claim_at": { "$lte": date(cap_core::clock::later(now, SEARCH_AHEAD)) },
            "$expr": { "$lte": ["$claim_at", "$$NOW"] },
        };
        let limit = i64::try_from(room + UNREADABLE).unwrap_or(i64::MAX);
        let found: Vec<Document> = bounded("look for jobs", async {
            let jobs = self.collection::<Document>("jobs");
            jobs.find(filter).sort(doc! { "claim_at": 1 }).limit(limit).await?.try_collect().await
        })
        .await?;
        let readable = found.into_iter().filter_map(|job| match read("jobs", job) {
            Ok(job) => Some(job),
            Err(error) => {
                tracing::error!(%error, "a job that is due cannot be read, so it is not run");
                None
            }
        });
        Ok(readable.take(room).collect())
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
            "claim_at": database_now_plus(lease),
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
                ..job.clone()
            };
            candidates.iter().map(taken).collect()
        } else {
            self.taken_in(&mut transaction, candidates, token).await?
        };
        let started: DateTime = date(now);
        let expire_at = date(cap_core::clock::later(now, ATTEMPT_KEPT));
        let attempts = claimed.iter().map(|job| {
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
        let extend = vec![doc! { "$set": { "claim_at": database_now_plus(lease) } }];
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
            job: self.id,
            project: self.project,
            work: self.work,
            token,
            attempt: self.attempt,
            fence: self.fence,
            failures: self.failures,
            setbacks: self.setbacks,
        }
    }
}
