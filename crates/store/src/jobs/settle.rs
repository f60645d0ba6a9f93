// SPDX-License-Identifier: Apache-2.0
//! How claims end. Every write matches job, token and attempt: a claim that was taken over changes nothing.

use std::time::Duration;

use bson::{Document, doc};
use cap_core::job::{Claim, Settlement, Work};
use cap_core::problem::Problem;
use jiff::Timestamp;

use crate::Store;
use crate::document::{bson, database_now_plus, date};
use crate::error::{Failure, StoreError};
use crate::jobs::KEPT;
use crate::transaction::Transaction;
use crate::transaction::transact;

/// A stage that takes a job out of the claimers' sight and gives its key free.
pub(super) fn over(state: &str) -> Vec<Document> {
    vec![
        doc! { "$set": {
            "state": state, "alive": false, "owner": null, "finished_at": "$$NOW", "expire_at": database_now_plus(KEPT),
        } },
        doc! { "$unset": ["claim_at", "token"] },
    ]
}

/// A stage that puts a job back into the queue.
fn back(after: Duration, mut set: Document) -> Vec<Document> {
    set.extend(doc! { "state": "queued", "owner": null, "claim_at": database_now_plus(after) });
    vec![doc! { "$set": set }, doc! { "$unset": "token" }]
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
        const DOING: &str = "settle a job";
        transact!(DOING, {
            let mut transaction = self.begin(DOING).await?;
            let change = match settlement {
                Settlement::Succeeded => over("succeeded"),
                Settlement::Superseded => over("cancelled"),
                Settlement::HandedBack => back(Duration::ZERO, doc! {}),
                Settlement::Again { after, problem, setbacks } => {
                    let set = doc! {
                        "problem": { "$literal": bson("jobs", problem)? },
                        "setbacks": { "$literal": bson("jobs", setbacks)? },
                    };
                    back(*after, set)
                }
            };
            self.write_job(&mut transaction, claim, change).await?;
            match settlement {
                Settlement::Succeeded | Settlement::Superseded => {
                    self.leave_fence(&mut transaction, claim).await?;
                }
                Settlement::Again { after, problem: Some(problem), .. } if settlement.is_shown() => {
                    let next = cap_core::clock::later(now, *after);
                    self.show_problem(&mut transaction, claim, problem, next).await?;
                }
                Settlement::HandedBack | Settlement::Again { .. } => {}
            }
            transaction.commit().await
        })
    }

    /// Ends a claim's job inside `transaction`.
    pub(crate) async fn end_job(
        &self,
        transaction: &mut Transaction,
        claim: &Claim,
        state: &str,
    ) -> Result<(), Failure> {
        self.write_job(transaction, claim, over(state)).await
    }

    /// Puts a claim's job back for its next attempt inside `transaction`; this one failed.
    pub(crate) async fn postpone_job(
        &self,
        transaction: &mut Transaction,
        claim: &Claim,
        next_attempt_at: Timestamp,
        now: Timestamp,
        problem: &Problem,
    ) -> Result<(), Failure> {
        let after = cap_core::clock::until(now, next_attempt_at);
        let set = doc! {
            "problem": { "$literal": bson("jobs", problem)? }, "setbacks": null, "failures": { "$add": ["$failures", 1] },
        };
        self.write_job(transaction, claim, back(after, set)).await
    }

    async fn write_job(
        &self,
        transaction: &mut Transaction,
        claim: &Claim,
        change: Vec<Document>,
    ) -> Result<(), Failure> {
        let failed = transaction.failed();
        let own =
            doc! { "_id": claim.job.to_string(), "token": claim.token.to_string(), "attempt": claim.attempt };
        let jobs = self.collection::<Document>("jobs");
        let update = jobs.update_one(own, change).session(&mut transaction.session);
        match update.await.map_err(failed)?.matched_count {
            0 => Err(StoreError::Fenced.into()),
            _ => Ok(()),
        }
    }

    /// Leaves a fence behind that every later job on the subject starts from: fences never restart.
    async fn leave_fence(&self, transaction: &mut Transaction, claim: &Claim) -> Result<(), Failure> {
        let failed = transaction.failed();
        let (collection, id) = subject(&claim.work);
        let filter = doc! { "_id": id, "fence": { "$lte": claim.fence } };
        let change = doc! { "$set": { "fence": claim.fence + 1 } };
        let records = self.collection::<Document>(collection);
        records.update_one(filter, change).session(&mut transaction.session).await.map_err(failed)?;
        Ok(())
    }

    /// Shows what is in the way on the record that somebody looks at.
    async fn show_problem(
        &self,
        transaction: &mut Transaction,
        claim: &Claim,
        problem: &Problem,
        next: Timestamp,
    ) -> Result<(), Failure> {
        let failed = transaction.failed();
        let (collection, id) = subject(&claim.work);
        let filter = doc! { "_id": id, "fence": { "$lte": claim.fence } };
        let change = doc! { "$set": {
            "status": "failing", "problem": bson(collection, problem)?, "next_attempt_at": date(next),
        } };
        let records = self.collection::<Document>(collection);
        records.update_one(filter, change).session(&mut transaction.session).await.map_err(failed)?;
        Ok(())
    }
}

fn subject(work: &Work) -> (&'static str, String) {
    match work {
        Work::Issue { certificate, .. } => ("certificates", certificate.to_string()),
        Work::RegisterIssuer { issuer } => ("issuers", issuer.to_string()),
    }
}
