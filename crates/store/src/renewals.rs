// SPDX-License-Identifier: Apache-2.0
//! What the scheduler's leader reads and writes: a page of what is due, and one fenced job each.

pub(crate) mod plan;

use bson::{Document, doc};
use cap_core::audit::Row;
use cap_core::duty::Candidate;
use cap_core::id::CertificateId;
use cap_core::job::JobDraft;
use jiff::Timestamp;

use crate::Store;
use crate::certificates::CertificateRecord;
use crate::document::{date, read};
use crate::duties::{DueBy, in_turn};
use crate::error::{Failure, StoreError};
use crate::fact::Fact;
use crate::jobs::next_attempt_now;
use crate::transaction::Transaction;
use crate::transaction::transact;

/// What the first issuance is planned for: there is no version yet.
const FIRST: &str = "first";
/// Pages that are read again because some of what they had was not to be planned any more.
const PAGES_MENDED: usize = 20;

/// What became of a planned job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planned {
    /// It is queued.
    Queued,
    /// The certificate moved on, a later leader was here, or the job is there already.
    Unneeded,
}

impl Store {
    /// Up to `limit` certificates that are due before `before`, the most urgent first, without those whose current
    /// version was planned for already: their job lives until it has made another version. One that cannot be read is
    /// named in the log and keeps nobody else waiting.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn due_certificates(
        &self,
        before: Timestamp,
        limit: u32,
        epoch: i64,
    ) -> Result<Vec<Candidate>, StoreError> {
        let mut found = self.page_to_plan(before, limit).await?;
        for _ in 0..PAGES_MENDED {
            let planned: Vec<String> = found.iter().filter_map(InPlan::done).collect();
            if planned.is_empty() {
                break;
            }
            // An earlier build planned them, or changed them, and left them in the plan.
            self.replan(&planned, epoch).await?;
            found = self.page_to_plan(before, limit).await?;
        }
        let mut candidates = Vec::with_capacity(found.len());
        for certificate in found.into_iter().filter_map(InPlan::due) {
            if let Some(renew_at) = certificate.renew_at {
                let suggested = certificate.renewal_info.seen.as_ref().and_then(|seen| seen.renew_at);
                candidates.push(Candidate {
                    certificate: certificate.id,
                    project: certificate.project,
                    current: certificate.version.as_ref().map(|version| version.id),
                    expires: certificate.version.as_ref().map(|version| version.not_after),
                    renew_at,
                    is_suggested: suggested == Some(renew_at),
                    auto_renew: certificate.spec.auto_renew,
                    fence: certificate.fence,
                });
            }
        }
        Ok(candidates)
    }

    async fn page_to_plan(&self, before: Timestamp, limit: u32) -> Result<Vec<InPlan>, StoreError> {
        let by = DueBy {
            doing: "read what is due",
            which: doc! {},
            field: "plan_at",
            before,
            projection: None,
            left_out: "renewed",
        };
        self.due(&by, limit, |document| match is_to_plan(&document) && is_planned_right(&document) {
            true => Ok(InPlan::Due(Box::new(read("certificates", document)?))),
            false => Ok(InPlan::Done(id(&document).unwrap_or_default())),
        })
        .await
    }

    /// Queues a planned renewal under the leader's epoch. The certificate is stamped with it in the same transaction, and only if it
    /// is due as it was seen: a leader of an earlier epoch, or a plan from an old page, changes nothing.
    ///
    /// # Errors
    /// When the database does not answer; planning again is safe.
    pub async fn plan_renewal(
        &self,
        job: &JobDraft,
        seen_at: Timestamp,
        epoch: i64,
        audit: &Row,
    ) -> Result<Planned, StoreError> {
        const DOING: &str = "queue a renewal";
        let cap_core::job::Work::Issue { certificate, made_for } = &job.work else {
            return Ok(Planned::Unneeded);
        };
        let version = made_for.map(|version| version.to_string());
        let result = transact!(DOING, {
            let mut transaction = self.begin(DOING).await?;
            let failed = transaction.failed();
            let filter = doc! {
                // As it was read: a job that ended meanwhile left a higher fence, under which this one could do nothing.
                "_id": certificate.to_string(), "version.id": &version, "fence": job.fence,
                // Whoever paused it meanwhile, or let go of it, was told that it is not renewed.
                "plan_at": date(seen_at),
                "$and": [in_turn("plan_epoch", epoch)],
            };
            let change = doc! { "$set": {
                "plan_epoch": epoch, "planned_for": version.as_deref().unwrap_or(FIRST), "last_event": audit.event.to_string(),
            } };
            let change = plan::stages(change);
            let certificates = self.collection::<Document>("certificates");
            let update = certificates.update_one(filter, change).session(&mut transaction.session);
            if update.await.map_err(failed)?.matched_count == 0 {
                return Ok(Planned::Unneeded);
            }
            if self.is_alive(&mut transaction, &job.work.key()).await? {
                // A person asked for it first: stamped, so that it is not planned at every look. One that was to begin nothing more is
                // a renewal like any other again, since the certificate is renewed by itself.
                let living = doc! { "key": job.work.key(), "alive": true };
                let wanted = Fact::new(DOING).may("jobs", living, doc! { "$unset": { "is_last": "" } });
                self.write_within(&mut transaction, &[wanted]).await?;
                transaction.commit().await?;
                return Ok(Planned::Unneeded);
            }
            self.write_within(&mut transaction, &[Fact::new(DOING).queueing(job)?.audited(audit)]).await?;
            transaction.commit().await?;
            Ok(Planned::Queued)
        });
        match result {
            Err(StoreError::Conflict { .. }) => Ok(Planned::Unneeded),
            result => result,
        }
    }

    /// Refuses a renewal of a version that is not current any more, and makes it exclude a planner's. Answers the fence that its job
    /// starts from, as it is now: what was read before may be older than the end of the job before.
    pub(crate) async fn guard_renewal(
        &self,
        transaction: &mut Transaction,
        job: &JobDraft,
    ) -> Result<i64, Failure> {
        let cap_core::job::Work::Issue { certificate, made_for } = &job.work else { return Ok(job.fence) };
        let failed = transaction.failed();
        let certificate: &CertificateId = certificate;
        let version = made_for.map(|version| version.to_string());
        let filter = doc! { "_id": certificate.to_string(), "version.id": &version };
        let planned = doc! { "$set": { "planned_for": version.as_deref().unwrap_or(FIRST) } };
        let mut stages = plan::stages(planned);
        stages.push(next_attempt_now(None));
        let certificates = self.collection::<Document>("certificates");
        let update = certificates.find_one_and_update(filter, stages).projection(doc! { "fence": 1 });
        let found = update.session(&mut transaction.session).await.map_err(failed)?;
        let Some(found) = found else {
            let what = "the certificate got another version in the same moment, or is gone".to_owned();
            return Err(StoreError::Conflict { doing: "request a renewal", what }.into());
        };
        Ok(found.get_i64("fence").map_or(job.fence, |fence| fence.max(job.fence)))
    }
}

/// A certificate in the plan.
enum InPlan {
    Due(Box<CertificateRecord>),
    /// There is nothing to plan, and an earlier build left it there.
    Done(String),
}

impl InPlan {
    fn due(self) -> Option<CertificateRecord> {
        match self {
            Self::Due(certificate) => Some(*certificate),
            Self::Done(_) => None,
        }
    }

    fn done(&self) -> Option<String> {
        match self {
            Self::Due(_) => None,
            Self::Done(id) => Some(id.clone()),
        }
    }
}

/// Whether nobody planned for the current version of a certificate yet, and it is renewed by itself.
fn is_to_plan(certificate: &Document) -> bool {
    let version = certificate.get_document("version").ok().and_then(|version| version.get_str("id").ok());
    let is_planned =
        certificate.get_str("planned_for").is_ok_and(|planned| planned == version.unwrap_or(FIRST));
    certificate.get_bool("auto_renew").unwrap_or(false) && !is_planned
}

/// Whether it is in the plan for when it is due: an earlier build changes the one and not the other.
fn is_planned_right(certificate: &Document) -> bool {
    certificate.get_datetime("plan_at").ok() == certificate.get_datetime("renew_at").ok()
}

fn id(certificate: &Document) -> Option<String> {
    certificate.get_str("_id").ok().map(str::to_owned)
}
