// SPDX-License-Identifier: Apache-2.0
//! Certificates and their versions.

mod change;
mod lists;

pub use change::{CertificateChange, Deleted};
pub(crate) use lists::Listed;

use bson::{Document, doc};
use cap_core::certificate::{Spec, Status};
use cap_core::envelope::Sealed;
use cap_core::id::{CertificateId, IssuerId, OrderId, ProjectId, VersionId};
use cap_core::job::JobDraft;
use cap_core::order::{goes_past, predecessor};
use cap_core::problem::Problem;
use cap_core::renewal_info::AriId;
use futures_util::TryStreamExt;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::document::{as_date, as_date_option, document, read};
use crate::drift::DriftRecord;
use crate::error::StoreError;
use crate::fact::Fact;
use crate::idempotency::Mutation;
use crate::jobs::JobRecord;
use crate::renewal_info::{RenewalInfoRecord, RenewalInfoSeen};
use crate::revocations::RevocationRecord;
use crate::transaction::transact;
use crate::{Store, bounded};

/// Living jobs of a project that are gone through for those of first issuances.
const LIVING_SEEN: i64 = 50_000;

/// A certificate as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateRecord {
    /// Its id.
    #[serde(rename = "_id")]
    pub id: CertificateId,
    /// Whose.
    pub project: ProjectId,
    /// Its issuer.
    pub issuer: IssuerId,
    /// What is wanted of it.
    #[serde(flatten)]
    pub spec: Spec,
    /// Where it is in its life.
    pub status: Status,
    /// Why the last attempt failed.
    pub problem: Option<Problem>,
    /// When the next attempt starts, after a failure.
    #[serde(with = "as_date_option")]
    pub next_attempt_at: Option<Timestamp>,
    /// The current version.
    pub version: Option<VersionRecord>,
    /// When it is due to be renewed; absent before the first version.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "as_date_option")]
    pub renew_at: Option<Timestamp>,
    /// How many versions there have been.
    pub versions: i64,
    /// The order in flight.
    #[serde(default)]
    pub order: Option<OrderId>,
    /// Orders that were set aside: the CA may issue for them yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub watched: Vec<OrderId>,
    /// Whether the next version has a key of its own, whatever the settings say: the CA refused the one before, or it was
    /// revoked.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub new_key: bool,
    /// The fence that the last job on it left behind.
    pub fence: i64,
    /// What is known of its drift.
    #[serde(flatten)]
    pub drift: DriftRecord,
    /// What is known of when its CA wants it renewed.
    #[serde(flatten)]
    pub renewal_info: RenewalInfoRecord,
    /// When it was asked for.
    #[serde(with = "as_date")]
    pub created_at: Timestamp,
    /// When this record last changed.
    #[serde(with = "as_date")]
    pub updated_at: Timestamp,
}

/// A version of a certificate, without its chain and its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRecord {
    /// Its id.
    pub id: VersionId,
    /// Counts the versions of one certificate, from 1.
    pub number: i64,
    /// The serial number, hex.
    pub serial: String,
    /// SHA-256 of the leaf, hex.
    pub fingerprint_sha256: String,
    /// SHA-256 of its SubjectPublicKeyInfo, hex; absent of versions from before that was written down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spki_sha256: Option<String>,
    /// From when it is valid.
    #[serde(with = "as_date")]
    pub not_before: Timestamp,
    /// Until when it is valid.
    #[serde(with = "as_date")]
    pub not_after: Timestamp,
    /// When it was stored.
    #[serde(with = "as_date")]
    pub issued_at: Timestamp,
    /// Who issued it; absent of versions from before that was written down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<IssuerId>,
    /// What its CA calls it in renewal information (RFC 9773, 4.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ari_id: Option<AriId>,
    /// The common name of the issuer of the topmost certificate of its chain; absent of versions from before that was
    /// written down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain_issuer: Option<String>,
    /// That it shall be revoked, and whether it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocation: Option<RevocationRecord>,
}

/// A version with everything, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VersionDocument {
    #[serde(rename = "_id")]
    pub(crate) record_id: VersionId,
    pub(crate) certificate: CertificateId,
    pub(crate) project: ProjectId,
    pub(crate) order: OrderId,
    #[serde(flatten)]
    pub(crate) version: VersionRecord,
    pub(crate) chain_pem: String,
    pub(crate) key: Sealed,
}

impl CertificateRecord {
    /// Whether the next version has the current one's key: it is wanted, the CA took it, and nobody revoked it.
    #[must_use]
    pub fn keeps_key(&self) -> bool {
        self.spec.key_reuse && !self.new_key
    }

    /// Whether its next order is placed in spite of a limit of the CA's that is kept `until` then; `says_so` is whether it names what
    /// it replaces, for CAs exempt only those.
    #[must_use]
    pub fn goes_past_limit(&self, until: Timestamp, now: Timestamp, says_so: bool) -> bool {
        let Some(version) = &self.version else { return false };
        let replaces = predecessor(version.issuer, version.ari_id.as_ref(), self.issuer).is_some();
        let suggestion = self.renewal_info.seen.as_ref().and_then(RenewalInfoSeen::suggestion);
        let is_suggested = replaces && says_so && suggestion.is_some_and(|it| it.window.start() <= now);
        goes_past(until, version.not_after, now, is_suggested)
    }
}

impl Store {
    /// Adds a certificate and the job that issues it.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn create_certificate(
        &self,
        certificate: &CertificateRecord,
        job: &JobDraft,
        mutation: Mutation<'_>,
    ) -> Result<(), StoreError> {
        let fact = Fact::new("create a certificate")
            .insert("certificates", document("certificates", certificate)?)
            .queueing(job)?
            .accompanied(&mutation);
        let result = self.write(fact).await;
        self.replayed(&mutation, result).await
    }

    /// A project's certificate.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn certificate(
        &self,
        project: ProjectId,
        id: CertificateId,
    ) -> Result<Option<CertificateRecord>, StoreError> {
        let found = self.record_of("read a certificate", "certificates", project, &id.to_string()).await?;
        found.map(|document| read("certificates", document)).transpose()
    }

    /// Has a certificate renewed now: queues the job, or brings forward the one that waits. Answers the job.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the certificate got another version meanwhile, or is not as it was `seen`, where that matters.
    pub async fn request_renewal(
        &self,
        seen: Option<&CertificateRecord>,
        job: &JobDraft,
        mutation: Mutation<'_>,
    ) -> Result<JobRecord, StoreError> {
        const DOING: &str = "request a renewal";
        let key = job.work.key();
        let result = transact!(DOING, {
            let mut transaction = self.begin(DOING).await?;
            self.must_be_as_seen(&mut transaction, seen).await?;
            let id = match self.hasten_job(&mut transaction, &key).await? {
                Some(waiting) => waiting,
                None => {
                    let fence = self.guard_renewal(&mut transaction, job).await?;
                    let queued = Fact::new(DOING).queueing(&JobDraft { fence, ..job.clone() })?;
                    self.write_within(&mut transaction, &[queued]).await?;
                    job.id
                }
            };
            let request = mutation.request.map(|request| request.answered_by(id));
            let mutation = Mutation { audit: mutation.audit, request: request.as_ref() };
            self.write_within(&mut transaction, &[Fact::new(DOING).accompanied(&mutation)]).await?;
            transaction.commit().await?;
            Ok(id)
        });
        let id = self.replayed(&mutation, result).await?;
        self.queued_job(job.project, id).await
    }

    /// How many certificates of a project wait for their first attempt, counted no further than `most`. Those whose job was
    /// cancelled, so that nobody will make it, are left out where they would make up `most`; first issuances that are under way
    /// count then, and what is behind [`LIVING_SEEN`] living jobs does not.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn waiting_certificates(&self, project: ProjectId, most: u64) -> Result<u64, StoreError> {
        const DOING: &str = "count what waits";
        let requested = doc! { "project": project.to_string(), "status": Status::Requested.as_str() };
        let certificates = self.collection::<Document>("certificates");
        let requested = bounded(DOING, certificates.count_documents(requested).limit(most)).await?;
        if requested < most {
            return Ok(requested);
        }
        // No index of certificates tells what was cancelled. So the jobs are read that live, of which there are no more than work
        // is left, whatever was cancelled ever.
        let stages = [
            doc! { "$match": { "lists": format!("{project}/living/issue") } },
            doc! { "$limit": LIVING_SEEN },
            doc! { "$match": { "work.made_for": bson::Bson::Null, "failures": 0 } },
            doc! { "$limit": i64::try_from(most).unwrap_or(i64::MAX).max(1) },
            doc! { "$count": "jobs" },
        ];
        let counted: Vec<Document> = bounded(DOING, async {
            self.collection::<Document>("jobs").aggregate(stages).await?.try_collect().await
        })
        .await?;
        let jobs = counted.first().and_then(|counted| counted.get_i32("jobs").ok()).unwrap_or(0);
        Ok(u64::try_from(jobs).unwrap_or(0))
    }

    /// The chain (PEM, leaf first) and the sealed key of a version.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn version_material(&self, id: VersionId) -> Result<Option<(String, Sealed)>, StoreError> {
        let found = self.find_record("read a version", "certificate_versions", &id.to_string()).await?;
        let found: Option<VersionDocument> =
            found.map(|document| read("certificate_versions", document)).transpose()?;
        Ok(found.map(|version| (version.chain_pem, version.key)))
    }
}
