// SPDX-License-Identifier: Apache-2.0
//! What becomes of an issuer's account: its key is rolled, it is put on hold, it is deactivated.
//!
//! One job at a time works on an account. Whoever wants something of it writes that down together with the job, in the place
//! of the job that was there before.

use bson::{Document, doc};
use cap_core::audit::Row;
use cap_core::envelope::Sealed;
use cap_core::id::IssuerId;
use cap_core::issuer::{AccountStep, Hold, IssuerStatus, next_account_step};
use cap_core::job::{Claim, JobDraft};
use cap_core::problem::Problem;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{IssuerRecord, IssuerUser};
use crate::Store;
use crate::document::{as_date, bson, date, read};
use crate::error::{Failure, StoreError};
use crate::fact::Fact;
use crate::idempotency::Mutation;
use crate::transaction::{Transaction, transact};

/// A key that is to take the place of an account's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloverRecord {
    /// The key, sealed for the place that it will have, before the CA hears of it.
    pub key: Sealed,
    /// When it was asked for.
    #[serde(with = "as_date")]
    pub requested_at: Timestamp,
    /// Why the CA did not take it, once that was given up. The key stays: the CA was told of it, so it may yet take it.
    #[serde(default)]
    pub problem: Option<Problem>,
}

/// Why an account is not used for orders.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldRecord {
    /// Why.
    pub why: Hold,
    /// Where the account is. The issuer's own URL is empty as long as it is on hold, so that no version of ours uses it.
    pub account_url: Option<String>,
}

/// What became of a rollover.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rolled {
    /// The CA knows the account by its next key.
    Over,
    /// The CA does not take it.
    GivenUp(Problem),
}

impl IssuerRecord {
    /// What to do next about its account.
    #[must_use]
    pub fn account_step(&self) -> AccountStep {
        next_account_step(self.is_rolling(), self.why_held())
    }

    /// Why its account is on hold.
    #[must_use]
    pub fn why_held(&self) -> Option<Hold> {
        self.hold.as_ref().map(|hold| hold.why)
    }

    /// Whether its account's key is being changed.
    #[must_use]
    pub fn is_rolling(&self) -> bool {
        self.rollover.as_ref().is_some_and(|rollover| rollover.problem.is_none())
    }

    /// Where its account is, whether it is on hold or not.
    #[must_use]
    pub fn known_url(&self) -> Option<&str> {
        self.account_url.as_deref().or_else(|| self.hold.as_ref()?.account_url.as_deref())
    }

    /// Whether its account is bound for good. Where the CA does not accept it any more, another one may have to be made, and bound.
    #[must_use]
    pub fn keeps_binding(&self) -> bool {
        self.known_url().is_some() && self.why_held() != Some(Hold::Refused)
    }

    /// How far it is, as it is shown. What becomes of an account is not in the stored word: earlier versions read that.
    #[must_use]
    pub fn shown_status(&self) -> IssuerStatus {
        match self.why_held() {
            Some(Hold::Deactivating) => IssuerStatus::Deactivating,
            Some(Hold::Deactivated) => IssuerStatus::Deactivated,
            Some(Hold::Refused) | None => self.status,
        }
    }
}

impl Store {
    /// Writes down the key that an account is to have next, with the job that tells the CA.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the issuer is not as `seen` any more.
    pub async fn request_rollover(
        &self,
        seen: &IssuerRecord,
        rollover: &RolloverRecord,
        job: &JobDraft,
        mutation: Mutation<'_>,
    ) -> Result<(), StoreError> {
        const DOING: &str = "request an account key rollover";
        let set = doc! { "rollover": bson("issuers", rollover)? };
        let result = transact!(DOING, {
            let mut transaction = self.begin(DOING).await?;
            let now = self.still(&mut transaction, DOING, seen).await?;
            self.set_account(&mut transaction, (DOING, &now), &set, job, &mutation).await?;
            transaction.commit().await
        });
        self.replayed(&mutation, result).await
    }

    /// Puts an account on hold for good, with the job that has the CA deactivate it. Answers some certificates that use the
    /// issuer, and does nothing then, unless it is to be done all the same.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the issuer is not as `seen` any more.
    pub async fn request_deactivation(
        &self,
        seen: &IssuerRecord,
        even_if_used: bool,
        job: &JobDraft,
        mutation: Mutation<'_>,
    ) -> Result<Vec<IssuerUser>, StoreError> {
        const DOING: &str = "request an account's deactivation";
        let hold = HoldRecord { why: Hold::Deactivating, account_url: seen.known_url().map(str::to_owned) };
        let set = doc! {
            "hold": bson("issuers", &hold)?, "account_url": null,
            "status": "registering", "problem": null, "next_attempt_at": null,
        };
        let result = transact!(DOING, {
            let mut transaction = self.begin(DOING).await?;
            let now = self.still(&mut transaction, DOING, seen).await?;
            let users = match even_if_used {
                true => Vec::new(),
                false => self.issuer_users(&mut transaction, seen.id).await?,
            };
            if !users.is_empty() {
                return Ok(users);
            }
            self.set_account(&mut transaction, (DOING, &now), &set, job, &mutation).await?;
            transaction.commit().await?;
            Ok(Vec::new())
        });
        self.replayed(&mutation, result).await
    }

    /// Puts an account on hold that its CA does not accept, with the job that asks again; nothing where the issuer is not as
    /// `seen` any more, since then somebody was here before.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn halt_account(
        &self,
        seen: &IssuerRecord,
        problem: &Problem,
        next: Timestamp,
        job: &JobDraft,
        audit: &Row,
    ) -> Result<(), StoreError> {
        const DOING: &str = "put an account on hold";
        let set = refused(seen.known_url(), problem, next)?;
        let mutation = Mutation { audit, request: None };
        transact!(DOING, {
            let mut transaction = self.begin(DOING).await?;
            let now = match self.still(&mut transaction, DOING, seen).await {
                Ok(now) => now,
                Err(Failure { error: StoreError::Conflict { .. }, .. }) => return Ok(()),
                Err(failure) => return Err(failure),
            };
            self.set_account(&mut transaction, (DOING, &now), &set, job, &mutation).await?;
            transaction.commit().await
        })
    }

    /// Records what became of a rollover. The job stays the claim's: it goes on from what is written then.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when the job is not the claim's any more, or the rollover is another one.
    pub async fn record_rollover(
        &self,
        claim: &Claim,
        issuer: IssuerId,
        key: &Sealed,
        rolled: &Rolled,
        audit: &Row,
    ) -> Result<(), StoreError> {
        let event = audit.event.to_string();
        let key = bson("issuers", key)?;
        let change = match rolled {
            Rolled::Over => doc! {
                "account_key": { "$literal": key.clone() }, "rollover": null, "rolled_at": date(audit.time), "last_event": event, "fence": claim.fence,
            },
            Rolled::GivenUp(problem) => doc! {
                "rollover.problem": { "$literal": bson("issuers", problem)? }, "last_event": event, "fence": claim.fence,
            },
        };
        let filter = doc! {
            "_id": issuer.to_string(), "fence": { "$lte": claim.fence }, "rollover.key": key,
        };
        let fact = Fact::new("record an account key rollover")
            .progressing(claim)
            .must("issuers", filter, vec![doc! { "$set": change }])
            .within("record-rolled.within");
        self.write(fact.audited(audit)).await
    }

    /// Records that the CA accepts an account again, which is at this URL. The job stays the claim's: it goes on from there.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when the job is not the claim's any more, or the account not on hold for that.
    pub async fn lift_hold(
        &self,
        claim: &Claim,
        issuer: IssuerId,
        account_url: &str,
        audit: &Row,
    ) -> Result<(), StoreError> {
        let filter = doc! {
            "_id": issuer.to_string(), "fence": { "$lte": claim.fence }, "hold.why": "refused",
        };
        let change = doc! { "$set": {
            "hold": null, "account_url": account_url, "status": "ready", "problem": null, "next_attempt_at": null,
            "fence": claim.fence, "last_event": audit.event.to_string(),
        } };
        let fact = Fact::new("lift an account's hold").progressing(claim).must("issuers", filter, change);
        self.write(fact.audited(audit)).await
    }

    /// Records that an account is deactivated, and that its job is done.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when the job is not the claim's any more.
    pub async fn record_deactivation(
        &self,
        claim: &Claim,
        issuer: IssuerId,
        problem: &Problem,
        audit: &Row,
    ) -> Result<(), StoreError> {
        let filter = doc! {
            "_id": issuer.to_string(), "fence": { "$lte": claim.fence }, "hold.why": "deactivating",
        };
        // Earlier versions know no such word; what they read of it keeps them from asking the CA.
        let change = doc! { "$set": {
            "hold.why": "deactivated", "rollover": null, "status": "failing", "problem": bson("issuers", problem)?,
            "next_attempt_at": null, "fence": claim.fence + 1, "last_event": audit.event.to_string(),
        } };
        let fact = Fact::new("record an account's deactivation")
            .must("issuers", filter, change)
            .ending(claim, "succeeded");
        self.write(fact.audited(audit)).await
    }

    /// The issuer as it is now; refuses when anything of it is other than `seen` but its fence, which each job moves on.
    async fn still(
        &self,
        transaction: &mut Transaction,
        doing: &'static str,
        seen: &IssuerRecord,
    ) -> Result<IssuerRecord, Failure> {
        let failed = transaction.failed();
        let issuers = self.collection::<Document>("issuers");
        let found = issuers.find_one(doc! { "_id": seen.id.to_string() }).session(&mut transaction.session);
        let found = found.await.map_err(failed)?;
        let now = found.map(|document| read::<IssuerRecord>("issuers", document)).transpose()?;
        match now {
            Some(now) if IssuerRecord { fence: seen.fence, ..now.clone() } == *seen => Ok(now),
            Some(_) | None => {
                let what = "the issuer changed in the same moment".to_owned();
                Err(StoreError::Conflict { doing, what }.into())
            }
        }
    }

    /// Changes an issuer, and has `job` take the place of the one that works on its account.
    async fn set_account(
        &self,
        transaction: &mut Transaction,
        (doing, now): (&'static str, &IssuerRecord),
        set: &Document,
        job: &JobDraft,
        mutation: &Mutation<'_>,
    ) -> Result<(), Failure> {
        let mut set = set.clone();
        set.insert("last_event", mutation.audit.event.to_string());
        let queued = self.replacing(transaction, doing, now.fence, job).await?;
        let changed = Fact::new(doing)
            .must("issuers", doc! { "_id": now.id.to_string() }, doc! { "$set": set })
            .accompanied(mutation);
        self.write_within(transaction, &[changed, queued]).await
    }

    /// With `job` in the place of the one that works on the account. One that runs in this moment has read how it was: what
    /// it comes to counts no more; and what it tells the CA of the account must not be heard after what `job` tells, which
    /// waits until its worker has let go, or can hold it no longer.
    pub(super) async fn replacing(
        &self,
        transaction: &mut Transaction,
        doing: &'static str,
        fence: i64,
        job: &JobDraft,
    ) -> Result<Fact, Failure> {
        let replaced = self.replace_job(transaction, &job.work.key()).await?;
        let job = JobDraft { fence: replaced.fence.max(fence), ..job.clone() };
        Ok(Fact::new(doing).queueing_behind(&job, replaced.held_until)?)
    }
}

/// Fields of an issuer whose account its CA does not accept.
pub(super) fn refused(
    account_url: Option<&str>,
    problem: &Problem,
    next: Timestamp,
) -> Result<Document, StoreError> {
    let hold = HoldRecord { why: Hold::Refused, account_url: account_url.map(str::to_owned) };
    Ok(doc! {
        "hold": bson("issuers", &hold)?, "account_url": null,
        "status": "failing", "problem": bson("issuers", problem)?, "next_attempt_at": date(next),
    })
}
