// SPDX-License-Identifier: Apache-2.0
//! How claims end. Every write matches job, token and attempt: a claim that was taken over changes nothing.

use std::time::Duration;

use bson::{Bson, Document, doc};
use cap_core::job::{Claim, Lane, QUARANTINE_FAILURES, Settlement, Work};
use cap_core::limits;
use cap_core::problem::Problem;
use jiff::Timestamp;

use crate::Store;
use crate::document::{bson, database_now_plus, date, millis};
use crate::error::StoreError;
use crate::fact::Fact;
use crate::jobs::{fence_field, hasten, lists, rank, subject};
use crate::renewals::plan;

/// A stage that takes a job out of the claimers' sight and gives its key free. It is kept until the leader has counted it:
/// the time at which it goes is set with that.
pub(super) fn over(state: &str) -> Vec<Document> {
    let mut set = doc! {
        "state": state, "alive": false, "owner": null, "finished_at": "$$NOW", "uncounted": true,
        "lists": lists::when(state),
    };
    if state == "succeeded" {
        // What was in the way of it before is not any more.
        set.insert("problem", Bson::Null);
    }
    vec![doc! { "$set": set }, doc! { "$unset": ["claim_at", "token"] }]
}

/// A stage that puts a job back into the queue.
fn back(after: Duration, set: Document) -> Vec<Document> {
    let mut fields = doc! {
        "state": "queued", "owner": null, "lost": 0, "claim_at": database_now_plus(after), "wait_ms": millis(after),
    };
    fields.extend(set);
    vec![doc! { "$set": fields }, rank::stage(), doc! { "$unset": "token" }]
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
        self.write(Fact::new("settle a job").settling(claim, settlement, now)?).await
    }
}

impl Fact {
    /// With a claim settled that ends without any other fact, but for what is written with it.
    pub(crate) fn settling(
        self,
        claim: &Claim,
        settlement: &Settlement,
        now: Timestamp,
    ) -> Result<Self, StoreError> {
        let fact = self;
        Ok(match settlement {
            Settlement::Succeeded => fact.ending(claim, "succeeded").leaving_fence(claim),
            Settlement::Superseded => {
                fact.still_last(claim).ending(claim, "cancelled").leaving_fence(claim).planned_anew(claim)
            }
            Settlement::Dead(problem) => {
                let dead = doc! { "problem": { "$literal": bson("jobs", problem)? } };
                let mut stages = over("dead");
                stages.push(doc! { "$set": dead });
                fact.must("jobs", own(claim), stages).leaving_fence(claim).buried(claim, problem, now)?
            }
            Settlement::HandedBack => {
                // Whoever runs it next does what was asked for meanwhile. It did not come to its end: the workers that it may have ended count on.
                let set = doc! { "asked": "$$REMOVE", "lost": i64::from(claim.lost) };
                fact.must("jobs", own(claim), back(Duration::ZERO, set))
            }
            Settlement::Again { after, problem, setbacks } => {
                let set = doc! {
                    "problem": { "$literal": bson("jobs", problem)? },
                    "setbacks": { "$literal": bson("jobs", setbacks)? },
                };
                let mut stages = back(*after, set);
                if claim.work.is_look() || settlement.yields_to_wish() {
                    stages.extend(hasten::heeding(claim));
                }
                let fact = fact.must("jobs", own(claim), stages);
                match problem {
                    Some(problem) if settlement.is_shown() => {
                        fact.showing(claim, problem, cap_core::clock::later(now, *after))?
                    }
                    _ => fact,
                }
            }
        })
    }

    /// With the claim's job ended.
    pub(crate) fn ending(self, claim: &Claim, state: &str) -> Self {
        self.give("jobs", own(claim), Document::new(), over(state))
    }

    /// With the claim's job ended, which looks, unless somebody asked for it since it was claimed.
    pub(crate) fn ending_unasked(self, claim: &Claim, state: &str) -> Self {
        let mut unasked = own(claim);
        unasked.insert("asked", Bson::Null);
        self.give("jobs", unasked, Document::new(), over(state))
    }

    /// With the claim's job still its own, and having got on.
    pub(crate) fn progressing(self, claim: &Claim) -> Self {
        self.must("jobs", own(claim), doc! { "$set": { "setbacks": null } })
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
        let stages = back(after, set).into_iter().chain(hasten::heeding(claim));
        Ok(self.must("jobs", own(claim), stages.collect::<Vec<_>>()))
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

    /// As long as nobody asked for a job since that was to begin nothing more when it was claimed.
    pub(crate) fn still_last(self, claim: &Claim) -> Self {
        if !claim.is_last {
            return self;
        }
        let last = doc! { "_id": claim.job.to_string(), "is_last": true };
        self.must("jobs", last, doc! { "$set": { "is_last": true } })
    }

    /// With the plan given up that led to a job which found nothing to do: if its version is still the current one after all,
    /// another job is planned for it.
    fn planned_anew(self, claim: &Claim) -> Self {
        let Work::Issue { certificate, made_for: Some(version) } = &claim.work else { return self };
        let still = doc! { "_id": certificate.to_string(), "version.id": version.to_string() };
        let mut stages = vec![doc! { "$unset": "planned_for" }, plan::stage()];
        if claim.is_last {
            // Nothing is tried any more, so nothing fails.
            stages.push(doc! { "$set": { "status": "valid", "problem": null, "next_attempt_at": null } });
        }
        self.may("certificates", still, stages)
    }

    /// With what needs a person shown on the record that somebody looks at. A renewal is never given up: without anybody's
    /// help it is planned anew after a day, or a tenth of the life that is left.
    fn buried(self, claim: &Claim, problem: &Problem, now: Timestamp) -> Result<Self, StoreError> {
        if let Work::Revoke { certificate, version } = claim.work {
            return self.hindering(certificate, version, problem, None);
        }
        if claim.work.is_apart() {
            // What it is about is as good as it was.
            return Ok(self.putting_off(&claim.work));
        }
        let (collection, id) = subject(&claim.work);
        let mut stages = vec![doc! { "$set": {
            "status": "failing", "problem": { "$literal": bson(collection, problem)? }, "next_attempt_at": null,
        } }];
        if let Work::Issue { .. } = claim.work {
            // As after any failed attempt, sooner where little life is left; and only what is renewed by itself.
            let left = doc! { "$divide": [{ "$subtract": ["$version.not_after", date(now)] }, i64::from(limits::LIFE_LEFT_DIVISOR)] };
            let wait = doc! { "$max": [millis(limits::ATTEMPT_WAIT_MIN), { "$min": [left, millis(limits::DEAD_WAIT)] }] };
            let has_life = doc! { "$gt": ["$version.not_after", date(now)] };
            let wait = doc! { "$cond": [has_life, wait, millis(limits::DEAD_WAIT)] };
            let again_at = doc! { "$add": [date(now), { "$toLong": wait }] };
            // What was revoked and let go of is not renewed.
            let is_let_go = doc! { "$and": [
                { "$ifNull": ["$version.revocation.revoked_at", false] },
                { "$not": [{ "$ifNull": ["$renew_at", false] }] },
            ] };
            stages.push(doc! { "$set": { "renew_at": { "$cond": [is_let_go, "$$REMOVE", again_at] } } });
            let planned = doc! { "$cond": ["$auto_renew", { "$ifNull": ["$renew_at", null] }, null] };
            stages.push(doc! { "$set": { "next_attempt_at": planned } });
            stages.extend([doc! { "$unset": "planned_for" }, plan::stage()]);
        }
        let filter = doc! { "_id": id, "fence": { "$lte": claim.fence + 1 } };
        Ok(self.may(collection, filter, stages))
    }

    /// With the next look put off, since this one ended dead: at what it is about, workers may have died.
    fn putting_off(self, work: &Work) -> Self {
        let next = database_now_plus(limits::DEAD_LOOK_WAIT);
        match work {
            Work::DriftScan { certificate } => {
                let scanned = doc! { "_id": certificate.to_string(), "drift_at": { "$exists": true } };
                let later = doc! { "$set": { "drift_at": { "$max": ["$drift_at", next] } } };
                self.may("certificates", scanned, vec![later])
            }
            Work::RenewalLook { issuer } => {
                let later = doc! { "$set": { "ari_after": next } };
                self.may("issuers", doc! { "_id": issuer.to_string() }, vec![later])
            }
            Work::Issue { .. } | Work::RegisterIssuer { .. } | Work::Revoke { .. } => self,
        }
    }

    /// With what is in the way shown on the record that somebody looks at.
    fn showing(self, claim: &Claim, problem: &Problem, next: Timestamp) -> Result<Self, StoreError> {
        if let Work::Revoke { certificate, version } = claim.work {
            return self.hindering(certificate, version, problem, Some(next));
        }
        if claim.work.is_apart() {
            // What it is about is as good as it was; the job says why it could not be done.
            return Ok(self);
        }
        let (collection, id) = subject(&claim.work);
        let filter = doc! { "_id": id, "fence": { "$lte": claim.fence } };
        let mut shown = doc! { "problem": bson(collection, problem)?, "next_attempt_at": date(next) };
        if !problem.is_a_wait() {
            shown.insert("status", "failing");
        }
        Ok(self.may(collection, filter, doc! { "$set": shown }))
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
