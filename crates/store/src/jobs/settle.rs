// SPDX-License-Identifier: Apache-2.0
//! How claims end. Every write matches job, token and attempt: a claim that was taken over changes nothing.

use std::time::Duration;

use bson::{Document, doc};
use cap_core::job::{Claim, Lane, QUARANTINE_FAILURES, Settlement, Work};
use cap_core::limits;
use cap_core::problem::Problem;
use jiff::Timestamp;

use crate::Store;
use crate::document::{bson, database_now_plus, date};
use crate::error::StoreError;
use crate::fact::Fact;
use crate::jobs::{SCAN_KEPT, fence_field, rank, subject};

/// A stage that takes a job out of the claimers' sight and gives its key free. It is kept until the leader has counted it:
/// the time at which it goes is set with that.
pub(super) fn over(state: &str) -> Vec<Document> {
    vec![
        doc! { "$set": {
            "state": state, "alive": false, "owner": null, "finished_at": "$$NOW", "uncounted": true,
        } },
        doc! { "$unset": ["claim_at", "token"] },
    ]
}

/// A stage that puts a job back into the queue.
fn back(after: Duration, mut set: Document) -> Vec<Document> {
    set.extend(doc! { "state": "queued", "owner": null, "lost": 0, "claim_at": database_now_plus(after) });
    vec![doc! { "$set": set }, rank::stage(), doc! { "$unset": "token" }]
}

impl Store {
    /// Settles a claim that ends without any other fact.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when the job is not the claim's any more.
    pub async fn settle(
        &self,
        claim: &Claim,
        settlement: &Settlement,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let fact = Fact::new("settle a job");
        let fact = match settlement {
            Settlement::Succeeded => fact.ending(claim, "succeeded").leaving_fence(claim),
            Settlement::Superseded => fact.ending(claim, "cancelled").leaving_fence(claim),
            Settlement::Dead(problem) => {
                let dead = doc! { "problem": { "$literal": bson("jobs", problem)? } };
                let mut stages = over("dead");
                stages.push(doc! { "$set": dead });
                fact.must("jobs", own(claim), stages).leaving_fence(claim).buried(claim, problem, now)?
            }
            Settlement::HandedBack => fact.must("jobs", own(claim), back(Duration::ZERO, doc! {})),
            Settlement::Again { after, problem, setbacks } => {
                let set = doc! {
                    "problem": { "$literal": bson("jobs", problem)? },
                    "setbacks": { "$literal": bson("jobs", setbacks)? },
                };
                let fact = fact.must("jobs", own(claim), back(*after, set));
                match problem {
                    Some(problem) if settlement.is_shown() => {
                        fact.showing(claim, problem, cap_core::clock::later(now, *after))?
                    }
                    _ => fact,
                }
            }
        };
        self.write(fact).await
    }
}

impl Fact {
    /// With the claim's job ended.
    pub(crate) fn ending(self, claim: &Claim, state: &str) -> Self {
        let mut stages = over(state);
        if let Work::DriftScan { .. } = claim.work {
            stages.push(doc! { "$set": { "expire_at": database_now_plus(SCAN_KEPT) } });
        }
        self.must("jobs", own(claim), stages)
    }

    /// With the claim's job put back for its next attempt; this one failed.
    pub(crate) fn postponing(
        self,
        claim: &Claim,
        next_attempt_at: Timestamp,
        now: Timestamp,
        problem: &Problem,
    ) -> Result<Self, StoreError> {
        let after = cap_core::clock::until(now, next_attempt_at);
        let set = doc! {
            "problem": { "$literal": bson("jobs", problem)? }, "setbacks": null, "failures": { "$add": ["$failures", 1] },
            "lane": lane_after_failure(),
        };
        Ok(self.must("jobs", own(claim), back(after, set)))
    }

    /// With a fence left behind that every later job on the subject starts from: fences never restart.
    pub(crate) fn leaving_fence(self, claim: &Claim) -> Self {
        let (collection, id) = subject(&claim.work);
        self.may(
            collection,
            doc! { "_id": id },
            doc! { "$max": { fence_field(&claim.work): claim.fence + 1 } },
        )
    }

    /// With what needs a person shown on the record that somebody looks at. A renewal is never given up: without anybody's
    /// help it is planned anew after a day.
    fn buried(self, claim: &Claim, problem: &Problem, now: Timestamp) -> Result<Self, StoreError> {
        let (collection, id) = subject(&claim.work);
        let again_at = date(cap_core::clock::later(now, limits::DEAD_WAIT));
        let mut set = doc! {
            "status": "failing", "problem": { "$literal": bson(collection, problem)? }, "next_attempt_at": again_at,
        };
        let mut stages = Vec::new();
        if let Work::Issue { .. } = claim.work {
            set.insert("renew_at", again_at);
            stages.push(doc! { "$unset": "planned_for" });
        }
        stages.push(doc! { "$set": set });
        let filter = doc! { "_id": id, "fence": { "$lte": claim.fence + 1 } };
        Ok(self.may(collection, filter, stages))
    }

    /// With what is in the way shown on the record that somebody looks at.
    fn showing(self, claim: &Claim, problem: &Problem, next: Timestamp) -> Result<Self, StoreError> {
        if matches!(claim.work, Work::DriftScan { .. }) {
            // The certificate is as good as it was; the job says why nobody could look.
            return Ok(self);
        }
        let (collection, id) = subject(&claim.work);
        let filter = doc! { "_id": id, "fence": { "$lte": claim.fence } };
        let change = doc! { "$set": {
            "status": "failing", "problem": bson(collection, problem)?, "next_attempt_at": date(next),
        } };
        Ok(self.may(collection, filter, change))
    }
}

/// An expression: where a job waits whose attempt failed just now.
fn lane_after_failure() -> Document {
    let lane = |lane: Lane| doc! { "$concat": ["$project", "/", lane.as_str()] };
    let keeps_failing = doc! { "$gte": [{ "$add": ["$failures", 1] }, QUARANTINE_FAILURES] };
    doc! { "$cond": [keeps_failing, lane(Lane::Quarantine), lane(Lane::Main)] }
}

/// The claim's job, as long as it is the claim's.
fn own(claim: &Claim) -> Document {
    doc! { "_id": claim.job.to_string(), "token": claim.token.to_string(), "attempt": claim.attempt }
}
