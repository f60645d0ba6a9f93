// SPDX-License-Identifier: Apache-2.0
//! What people ask of a job: to run now, or not to run at all.

use bson::{Document, doc};
use cap_core::audit::Row;
use cap_core::id::{CertificateId, JobId, ProjectId, VersionId};
use cap_core::job::{JobState, Need, Work};
use cap_core::order::{Order, OrderState};
use cap_core::problem::{Class, Problem};
use jiff::Timestamp;

use crate::Store;
use crate::certificates::CertificateRecord;
use crate::document::{date, read};
use crate::error::{Failure, StoreError};
use crate::fact::Fact;
use crate::idempotency::Mutation;
use crate::jobs::hasten::{forward, next_attempt_now, shown_on};
use crate::jobs::{JobDocument, JobRecord, fence_field, lists, rank, settle, subject};
use crate::orders::OrderDocument;
use crate::renewals::plan;
use crate::transaction::{Transaction, transact};

/// Why it was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobRefusal {
    /// The job's state stands against it.
    State(JobState),
    /// What the job was for is gone.
    Pointless,
    /// Another job is at the same work.
    Doubled,
    /// It is an issuer's, and ends with it.
    OfIssuer,
    /// There is no such job.
    Missing,
}

impl Store {
    /// Has a job run now: one that waits comes forward, one that is dead is queued again under its key.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn retry_job(
        &self,
        project: ProjectId,
        id: JobId,
        mutation: Mutation<'_>,
    ) -> Result<Result<JobRecord, JobRefusal>, StoreError> {
        const DOING: &str = "retry a job";
        let result = transact!(DOING, {
            let mut transaction = self.begin(DOING).await?;
            let Some(job) = self.seen_job(&mut transaction, project, id).await? else {
                return Ok(Err(JobRefusal::Missing));
            };
            if job.state.against_retry().is_some() {
                return Ok(Err(JobRefusal::State(job.state)));
            }
            let mut set = forward();
            set.insert("last_event", mutation.audit.event.to_string());
            let mut stages = vec![doc! { "$set": set }, rank::stage()];
            if job.state == JobState::Dead {
                if self.is_alive(&mut transaction, &job.key).await? {
                    return Ok(Err(JobRefusal::Doubled));
                }
                let Some(fence) = self.subject_fence(&mut transaction, &job).await? else {
                    return Ok(Err(JobRefusal::Pointless));
                };
                stages = revive(fence, stages);
            }
            let mut fact = Fact::new(DOING).must("jobs", as_seen(&job), stages).accompanied(&mutation);
            if let Work::RenewalLook { issuer } = &job.work {
                // Whoever asks has mended what they were put off for. A scan says itself when the next one is due.
                let own = doc! { "_id": issuer.to_string() };
                fact = fact.may("issuers", own, doc! { "$unset": { "ari_after": "" } });
            }
            if let Some((collection, id)) = shown_on(&job.work) {
                fact = fact.may(collection, still(&job.work, &id), vec![next_attempt_now(job.held_until)]);
            }
            self.write_within(&mut transaction, &[fact]).await?;
            transaction.commit().await?;
            Ok(Ok(()))
        });
        self.changed(project, id, &mutation, result).await
    }

    /// Ends a job that waits, and gives its key free, and with it an order for which the CA cannot have issued: it would hold its
    /// names. Any other order in flight stays for the next job on the same subject, and so does the plan: a renewal that is due
    /// is planned anew. A revocation that the CA may have heard of stays asked for. The certificate is what it is without the job.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn cancel_job(
        &self,
        project: ProjectId,
        id: JobId,
        mutation: Mutation<'_>,
    ) -> Result<Result<JobRecord, JobRefusal>, StoreError> {
        const DOING: &str = "cancel a job";
        let result = transact!(DOING, {
            let mut transaction = self.begin(DOING).await?;
            let Some(job) = self.seen_job(&mut transaction, project, id).await? else {
                return Ok(Err(JobRefusal::Missing));
            };
            if job.state.against_cancel().is_some() {
                return Ok(Err(JobRefusal::State(job.state)));
            }
            if let Work::RegisterIssuer { .. } = job.work {
                return Ok(Err(JobRefusal::OfIssuer));
            }
            let fact = self.cancelling(&mut transaction, DOING, &job, mutation.audit).await?;
            let fact = fact.accompanied(&mutation);
            self.write_within(&mut transaction, &[fact]).await?;
            transaction.commit().await?;
            Ok(Ok(()))
        });
        self.changed(project, id, &mutation, result).await
    }

    /// With a job ended that waits, and what it leaves behind.
    async fn cancelling(
        &self,
        transaction: &mut Transaction,
        doing: &'static str,
        job: &JobDocument,
        audit: &Row,
    ) -> Result<Fact, Failure> {
        let fact = Fact::new(doing);
        let fact = match job.work {
            Work::Issue { certificate, made_for } => {
                let order = self.unfinalized(transaction, certificate, made_for).await?;
                self.ending_cancelled(fact, order.as_ref(), audit.time)?
            }
            Work::Revoke { certificate, version } if job.attempt == 0 => {
                fact.not_revoking(certificate, version)
            }
            Work::Revoke { certificate, version } => {
                fact.hindering(certificate, version, &perhaps_revoked(), None)?
            }
            Work::DriftScan { .. } | Work::RenewalLook { .. } | Work::RegisterIssuer { .. } => fact,
        };
        let mut stages = settle::over("cancelled");
        stages.push(doc! { "$set": { "last_event": audit.event.to_string() } });
        let (collection, subject) = subject(&job.work);
        // The next job takes over the order in flight only with a fence above all that this one had.
        let idle = doc! { "$cond": [{ "$ifNull": ["$version", false] }, "valid", "requested"] };
        let fence = fence_field(&job.work);
        let above = doc! { "$max": [format!("${fence}"), job.fence + 1] };
        let left = match &job.work {
            Work::Issue { .. } => vec![
                doc! { "$set": { fence: above, "status": idle, "problem": null, "next_attempt_at": null } },
                doc! { "$unset": "planned_for" },
                plan::stage(),
            ],
            Work::RegisterIssuer { .. }
            | Work::DriftScan { .. }
            | Work::RenewalLook { .. }
            | Work::Revoke { .. } => {
                vec![doc! { "$set": { fence: above } }]
            }
        };
        Ok(fact.must("jobs", as_seen(job), stages).may(collection, still(&job.work, &subject), left))
    }

    /// The end of the renewal of a version, if there is one: what it would take the place of is let go of. One that somebody asked
    /// for after `asked_at` is a later wish. One that the CA may have issued for, by its order in flight or by one that was set
    /// aside, fetches that and begins nothing more; one that runs learns of it when it is claimed next.
    pub(crate) async fn letting_go(
        &self,
        transaction: &mut Transaction,
        doing: &'static str,
        certificate: &CertificateRecord,
        version: VersionId,
        asked_at: Timestamp,
        audit: &Row,
    ) -> Result<Fact, Failure> {
        let (is_watching, certificate) = (!certificate.watched.is_empty(), certificate.id);
        let failed = transaction.failed();
        let renewal = Work::Issue { certificate, made_for: Some(version) };
        let jobs = self.collection::<Document>("jobs");
        let later = doc! { "$gt": date(asked_at) };
        let awaited = Need { is_awaited: true, before: None }.floor();
        let unwanted = doc! {
            "key": renewal.key(), "alive": true,
            "$nor": [{ "hastened": &later }, { "created_at": later, "rank_floor": awaited }],
        };
        let found = jobs.find_one(unwanted).session(&mut transaction.session).await.map_err(failed)?;
        let Some(job) = found else { return Ok(Fact::new(doing)) };
        let job: JobDocument = read("jobs", job)?;
        let order = self.live_order(transaction, certificate).await?;
        let may_be_issued = is_watching || order.is_some_and(|order| order.state.may_be_finalized());
        if may_be_issued || job.state == JobState::Running {
            let last = doc! { "$set": { "is_last": true }, "$unset": { "asked": "" } };
            return Ok(Fact::new(doing).may("jobs", as_seen(&job), last));
        }
        self.cancelling(transaction, doing, &job, audit).await
    }

    /// The certificate's order in flight that was made for this version, if the CA cannot have issued for it.
    async fn unfinalized(
        &self,
        transaction: &mut Transaction,
        certificate: CertificateId,
        made_for: Option<VersionId>,
    ) -> Result<Option<Order>, Failure> {
        let order = self.live_order(transaction, certificate).await?;
        Ok(order.filter(|order| order.made_for == made_for && !order.state.may_be_finalized()))
    }

    /// The certificate's order in flight.
    async fn live_order(
        &self,
        transaction: &mut Transaction,
        certificate: CertificateId,
    ) -> Result<Option<Order>, Failure> {
        let failed = transaction.failed();
        let live = doc! { "certificate": certificate.to_string(), "live": true };
        let orders = self.collection::<Document>("orders");
        let found = orders.find_one(live).session(&mut transaction.session).await.map_err(failed)?;
        let found = found.map(|document| read::<OrderDocument>("orders", document)).transpose()?;
        Ok(found.map(Order::from))
    }

    /// With the order of a cancelled job ended, if there is one.
    pub(crate) fn ending_cancelled(
        &self,
        fact: Fact,
        order: Option<&Order>,
        at: Timestamp,
    ) -> Result<Fact, StoreError> {
        let Some(order) = order else { return Ok(fact) };
        let why = "its job was cancelled before it was finalized";
        let why = Problem::new(Class::Protocol, "job-cancelled", why);
        let state = OrderState::Failed { placed: order.state.placed().cloned(), problem: why };
        let named = doc! { "_id": order.certificate.to_string(), "order": order.id.to_string() };
        let fact = fact.ending_order(order, &state, at, self.retention.orders)?;
        Ok(fact.uncounted(order).may("certificates", named, doc! { "$set": { "order": null } }))
    }

    /// The job as it is after the change. A refusal may be what the same request itself has left behind.
    async fn changed(
        &self,
        project: ProjectId,
        id: JobId,
        mutation: &Mutation<'_>,
        result: Result<Result<(), JobRefusal>, StoreError>,
    ) -> Result<Result<JobRecord, JobRefusal>, StoreError> {
        let Err(refusal) = self.replayed(mutation, result).await? else {
            return Ok(self.job(project, id).await?.ok_or(JobRefusal::Missing));
        };
        self.refused(mutation, Err(refusal)).await
    }

    async fn seen_job(
        &self,
        transaction: &mut Transaction,
        project: ProjectId,
        id: JobId,
    ) -> Result<Option<JobDocument>, Failure> {
        let failed = transaction.failed();
        let jobs = self.collection::<Document>("jobs");
        let own = doc! { "_id": id.to_string(), "project": project.to_string() };
        let found = jobs.find_one(own).session(&mut transaction.session).await.map_err(failed)?;
        Ok(found.map(|document| read("jobs", document)).transpose()?)
    }

    /// The fence that the last job on the same subject left behind, if the subject is still what the job was queued for.
    async fn subject_fence(
        &self,
        transaction: &mut Transaction,
        job: &JobDocument,
    ) -> Result<Option<i64>, Failure> {
        let failed = transaction.failed();
        let (collection, id) = subject(&job.work);
        let subjects = self.collection::<Document>(collection);
        let found = subjects.find_one(still(&job.work, &id)).projection(doc! { fence_field(&job.work): 1 });
        let found = found.session(&mut transaction.session).await.map_err(failed)?;
        Ok(found.map(|subject| subject.get_i64(fence_field(&job.work)).unwrap_or(0)))
    }
}

/// The subject of such work, as long as it is what the work was queued for: an issuance that another was faster with is about
/// nothing any more.
fn still(work: &Work, subject: &str) -> Document {
    let mut still = doc! { "_id": subject };
    if let Work::Issue { made_for, .. } = work {
        still.insert("version.id", made_for.map(|version| version.to_string()));
    }
    still
}

/// What a version shows whose revocation was cancelled after a worker had begun with it.
fn perhaps_revoked() -> Problem {
    let detail = "its job was cancelled after the CA may have been asked, so it may be revoked all the same; ask for the \
                  revocation again to find out";
    Problem::new(Class::Protocol, "revocation-cancelled", detail)
}

/// The job, as long as nobody claimed or settled it since it was seen.
fn as_seen(job: &JobDocument) -> Document {
    doc! { "_id": job.id.to_string(), "state": job.state.as_str(), "attempt": job.attempt }
}

/// Stages that bring a dead job back before `stages` bring it forward. Fences never restart.
fn revive(fence: i64, stages: Vec<Document>) -> Vec<Document> {
    let queued = doc! {
        "state": "queued", "alive": true, "claim_at": "$$NOW", "wait_ms": 0_i64, "fence": { "$max": ["$fence", fence] },
        "setbacks": null, "lost": 0, "finished_at": null, "lists": lists::when(lists::LIVING),
    };
    let mut all = vec![doc! { "$set": queued }, doc! { "$unset": ["expire_at", "uncounted"] }];
    all.extend(stages);
    all
}
