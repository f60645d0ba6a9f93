// SPDX-License-Identifier: Apache-2.0
//! Revocations: what was asked for is written down on the version before the CA is told, and what became of it after.
//!
//! A job that revokes leaves the order of a certificate alone, so it has no fence to mind: the version says whether it was
//! revoked, and only the holder of the job may write that, once.

use bson::{Document, doc};
use cap_core::audit::Row;
use cap_core::certificate::{Affected, RevocationReason, is_replaced};
use cap_core::id::{CertificateId, JobId, ProjectId, VersionId};
use cap_core::job::{Claim, JobDraft, Need, Work};
use cap_core::order::Order;
use cap_core::problem::Problem;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::certificates::{CertificateRecord, VersionDocument, VersionRecord};
use crate::document::{as_date, as_date_option, bson, date, read};
use crate::error::{Failure, StoreError};
use crate::fact::Fact;
use crate::idempotency::Mutation;
use crate::jobs::JobRecord;
use crate::transaction::{Transaction, transact};
use crate::{Store, bounded};

/// That a version shall be revoked, and whether it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevocationRecord {
    /// Why.
    pub reason: RevocationReason,
    /// When that was asked for.
    #[serde(with = "as_date")]
    pub asked_at: Timestamp,
    /// Whether the certificate is issued anew at once; as its `auto_renew` says when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replace: Option<bool>,
    /// When the CA had done it; nothing before.
    #[serde(default, with = "as_date_option")]
    pub revoked_at: Option<Timestamp>,
    /// What is in the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
    /// When the CA is asked again; nothing where it is not, unless somebody asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "as_date_option")]
    pub next_attempt_at: Option<Timestamp>,
}

/// A version as it is revoked: its record, and its chain, PEM, leaf first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuedChain {
    /// Its record.
    pub version: VersionRecord,
    /// Its chain.
    pub chain_pem: String,
}

/// What became of asking for a revocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RevocationAsked {
    /// This job does it, made now or before.
    Job(Box<JobRecord>),
    /// The CA has revoked it already, then.
    Done(Timestamp),
    /// It is being revoked already, for another reason.
    Otherwise(RevocationReason),
    /// The certificate has no such version.
    Missing,
}

/// A version that the CA has revoked.
#[derive(Debug, Clone, Copy)]
pub struct Revoked {
    /// Of which certificate.
    pub certificate: CertificateId,
    /// Which version.
    pub version: VersionId,
    /// When.
    pub at: Timestamp,
    /// The job that issues the certificate anew, if one has to.
    pub replacement: JobId,
}

impl VersionRecord {
    /// Whether its CA has revoked it.
    #[must_use]
    pub fn is_revoked(&self) -> bool {
        self.revocation.as_ref().is_some_and(|revocation| revocation.revoked_at.is_some())
    }

    /// Whether it has the key of this order; of versions from before that was written down nobody knows, and an order that keeps a
    /// key may have theirs.
    #[must_use]
    pub fn has_key_of(&self, order: &Order) -> bool {
        let of_order = hex::encode(&order.key.spki_sha256);
        self.spki_sha256.as_ref().map_or(order.key.kept, |own| *own == of_order)
    }

    /// What it is to its certificate, whose current version is `current`.
    #[must_use]
    pub fn beside(&self, current: &Self) -> Affected {
        Affected {
            is_current: current.id == self.id,
            shares_key: self.spki_sha256.is_some() && current.spki_sha256 == self.spki_sha256,
        }
    }
}

impl Store {
    /// A version of a certificate with its chain.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn issued_chain(
        &self,
        certificate: CertificateId,
        version: VersionId,
    ) -> Result<Option<IssuedChain>, StoreError> {
        let versions = self.collection::<Document>("certificate_versions");
        let found = bounded("read a version", versions.find_one(of(certificate, version))).await?;
        let found: Option<VersionDocument> =
            found.map(|document| read("certificate_versions", document)).transpose()?;
        Ok(found.map(|found| IssuedChain { version: found.version, chain_pem: found.chain_pem }))
    }

    /// Writes down that a version shall be revoked, and queues the job that does it: version, certificate, job and audit row
    /// together. Asked again for the same reason, the job comes forward.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the certificate is not as it was `seen` any more, where that matters.
    pub async fn request_revocation(
        &self,
        seen: Option<&CertificateRecord>,
        wanted: &RevocationRecord,
        job: &JobDraft,
        mutation: Mutation<'_>,
    ) -> Result<RevocationAsked, StoreError> {
        const DOING: &str = "ask for a revocation";
        let Work::Revoke { certificate, version } = job.work else { return Ok(RevocationAsked::Missing) };
        let result: Result<Result<JobId, RevocationAsked>, StoreError> = transact!(DOING, {
            let mut transaction = self.begin(DOING).await?;
            self.must_be_as_seen(&mut transaction, seen).await?;
            let Some(now) = self.seen_version(&mut transaction, certificate, version).await? else {
                return Ok(Err(RevocationAsked::Missing));
            };
            if let Some(done) = now.revocation.as_ref().and_then(|revocation| revocation.revoked_at) {
                return Ok(Err(RevocationAsked::Done(done)));
            }
            let (id, fact) = match self.hasten_job(&mut transaction, &job.work.key()).await? {
                Some(living) => match now.revocation.as_ref().map(|revocation| revocation.reason) {
                    Some(other) if other != wanted.reason => {
                        return Ok(Err(RevocationAsked::Otherwise(other)));
                    }
                    _ => (living, Fact::new(DOING).replacing(certificate, version, wanted)),
                },
                None => (job.id, Fact::new(DOING).intending(certificate, version, wanted)?.queueing(job)?),
            };
            let request = mutation.request.map(|request| request.answered_by(id));
            let mutation = Mutation { audit: mutation.audit, request: request.as_ref() };
            self.write_within(&mut transaction, &[fact.accompanied(&mutation)]).await?;
            transaction.commit().await?;
            Ok(Ok(id))
        });
        let id = match self.replayed(&mutation, result).await? {
            Ok(id) => id,
            Err(refusal) => return self.refused(&mutation, refusal).await,
        };
        let job = self.queued_job(job.project, id).await?;
        Ok(RevocationAsked::Job(Box::new(job)))
    }

    /// Writes down that the CA has revoked a version, and has the certificate issued anew where that is to be: version,
    /// certificate, both jobs and audit row together.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when the job is not the claim's any more.
    pub async fn record_revoked(
        &self,
        claim: &Claim,
        revoked: &Revoked,
        audit: &Row,
    ) -> Result<(), StoreError> {
        const DOING: &str = "record a revocation";
        let &Revoked { certificate, version, at, replacement } = revoked;
        transact!(DOING, {
            let mut transaction = self.begin(DOING).await?;
            let Some(seen) = self.seen_version(&mut transaction, certificate, version).await? else {
                return Err(StoreError::Fenced.into());
            };
            let Some(now) = self.seen_certificate(&mut transaction, claim.project, certificate).await? else {
                return Err(StoreError::Fenced.into());
            };
            let is_replaced = seen.is_replaced_in(&now);
            let mut facts = Vec::new();
            if is_replaced {
                self.queue_replacement(&mut transaction, &now, replacement).await?;
            } else if let Some(asked) = &seen.revocation
                && (now.spec.auto_renew || asked.replace.is_some())
            {
                // One that a person asked for, of what is not renewed by itself, is another wish of theirs.
                let asked_at = asked.asked_at;
                facts.push(self.letting_go(&mut transaction, DOING, &now, version, asked_at, audit).await?);
            }
            let fact = Fact::new(DOING)
                .within("record-revoked.within")
                .revoking(certificate, version, at, is_replaced, audit)
                .ending(claim, "succeeded")
                .leaving_fence(claim)
                .audited(audit);
            facts.push(fact);
            match self.write_within(&mut transaction, &facts).await {
                Ok(()) => transaction.commit().await,
                Err(Failure { error: error @ StoreError::Fenced, .. }) => transaction.abort(error).await,
                Err(failure) => Err(failure),
            }
        })
    }

    /// Has a certificate issued anew now: by the job that waits for that, or by one with this id.
    async fn queue_replacement(
        &self,
        transaction: &mut Transaction,
        certificate: &CertificateRecord,
        id: JobId,
    ) -> Result<(), Failure> {
        let current = certificate.version.as_ref();
        let made_for = current.map(|current| current.id);
        let work = Work::Issue { certificate: certificate.id, made_for };
        if self.hasten_job(transaction, &work.key()).await?.is_some() {
            return Ok(());
        }
        let need = Need { is_awaited: true, before: current.map(|current| current.not_after) };
        let (project, fence, after) = (certificate.project, certificate.fence, std::time::Duration::ZERO);
        let job = JobDraft { id, project, work, after, fence, need };
        self.guard_renewal(transaction, &job).await?;
        self.write_within(transaction, &[Fact::new("replace what was revoked").queueing(&job)?]).await
    }

    /// Whether a revocation of one of a certificate's versions is under way, seen from inside `transaction`.
    pub(crate) async fn is_being_revoked(
        &self,
        transaction: &mut Transaction,
        certificate: CertificateId,
    ) -> Result<bool, Failure> {
        let failed = transaction.failed();
        let jobs = self.collection::<Document>("jobs");
        let living = doc! { "lists": certificate.to_string(), "alive": true, "work.kind": "revoke" };
        let found = jobs.find_one(living).projection(doc! { "_id": 1 }).session(&mut transaction.session);
        Ok(found.await.map_err(failed)?.is_some())
    }

    async fn seen_version(
        &self,
        transaction: &mut Transaction,
        certificate: CertificateId,
        version: VersionId,
    ) -> Result<Option<VersionRecord>, Failure> {
        let failed = transaction.failed();
        let versions = self.collection::<Document>("certificate_versions");
        let found = versions.find_one(of(certificate, version)).session(&mut transaction.session);
        let found: Option<VersionDocument> = found
            .await
            .map_err(failed)?
            .map(|document| read("certificate_versions", document))
            .transpose()?;
        Ok(found.map(|found| found.version))
    }

    async fn seen_certificate(
        &self,
        transaction: &mut Transaction,
        project: ProjectId,
        id: CertificateId,
    ) -> Result<Option<CertificateRecord>, Failure> {
        let failed = transaction.failed();
        let certificates = self.collection::<Document>("certificates");
        let own = doc! { "_id": id.to_string(), "project": project.to_string() };
        let found = certificates.find_one(own).session(&mut transaction.session).await.map_err(failed)?;
        Ok(found.map(|document| read("certificates", document)).transpose()?)
    }
}

impl VersionRecord {
    /// Whether its certificate, as it is now, is issued anew because this version was revoked.
    fn is_replaced_in(&self, certificate: &CertificateRecord) -> bool {
        let (Some(revocation), Some(current)) = (&self.revocation, &certificate.version) else {
            return false;
        };
        is_replaced(revocation.reason, self.beside(current), revocation.replace, certificate.spec.auto_renew)
    }
}

impl Fact {
    /// With what was asked for on the version, and on its certificate where that is the current one. From then on no further
    /// version gets the key of the current one, if that is it or the key is to blame.
    fn intending(
        self,
        certificate: CertificateId,
        version: VersionId,
        wanted: &RevocationRecord,
    ) -> Result<Self, StoreError> {
        let record = bson("certificate_versions", wanted)?;
        let mut own = of(certificate, version);
        own.insert("revocation.revoked_at", bson::Bson::Null);
        let current = doc! { "_id": certificate.to_string(), "version.id": version.to_string() };
        let fact = self.must("certificate_versions", own, doc! { "$set": { "revocation": &record } }).may(
            "certificates",
            current,
            doc! { "$set": { "version.revocation": record, "new_key": true } },
        );
        if !wanted.reason.is_about_key() {
            return Ok(fact);
        }
        let any = doc! { "_id": certificate.to_string() };
        Ok(fact.may("certificates", any, doc! { "$set": { "new_key": true } }))
    }

    /// With what was said later of whether the version is replaced; what was said before stands where nothing is said now.
    fn replacing(self, certificate: CertificateId, version: VersionId, wanted: &RevocationRecord) -> Self {
        let Some(replace) = wanted.replace else { return self };
        let asked_at = date(wanted.asked_at);
        let mut own = of(certificate, version);
        own.insert("revocation", doc! { "$ne": bson::Bson::Null });
        let mut current = doc! { "_id": certificate.to_string(), "version.id": version.to_string() };
        current.insert("version.revocation", doc! { "$ne": bson::Bson::Null });
        let said = |within: &str| {
            doc! { "$set": { format!("{within}.replace"): replace, format!("{within}.asked_at"): asked_at } }
        };
        self.may("certificate_versions", own, said("revocation")).may(
            "certificates",
            current,
            said("version.revocation"),
        )
    }

    /// With a version revoked. A current one that nothing takes the place of is let go of: it is not renewed, nobody asks its
    /// CA when it should be, and nobody is told that it runs out.
    fn revoking(
        self,
        certificate: CertificateId,
        version: VersionId,
        at: Timestamp,
        is_replaced: bool,
        audit: &Row,
    ) -> Self {
        let mut own = of(certificate, version);
        own.insert("revocation.revoked_at", bson::Bson::Null);
        let done = doc! {
            "$set": { "revocation.revoked_at": date(at) },
            "$unset": { "revocation.problem": "", "revocation.next_attempt_at": "" },
        };
        let current = doc! { "_id": certificate.to_string(), "version.id": version.to_string() };
        let mut change = doc! { "$set": {
            "version.revocation.revoked_at": date(at), "new_key": true,
            "updated_at": date(audit.time), "last_event": audit.event.to_string(),
        } };
        let mut gone = vec!["version.revocation.problem", "version.revocation.next_attempt_at"];
        if !is_replaced {
            gone.extend(["renew_at", "plan_at", "ari_at", "ari", "notice_at", "planned_for"]);
        }
        let gone = gone.into_iter().map(|field| (field.to_owned(), "".into()));
        change.insert("$unset", gone.collect::<Document>());
        self.must("certificate_versions", own, done).may("certificates", current, change)
    }

    /// With what is in the way of a revocation shown on the version, and when the CA is asked again, if it is.
    pub(crate) fn hindering(
        self,
        certificate: CertificateId,
        version: VersionId,
        problem: &Problem,
        next: Option<Timestamp>,
    ) -> Result<Self, StoreError> {
        let shown = |within: &str| -> Result<Document, StoreError> {
            let problem = bson("certificate_versions", problem)?;
            Ok(doc! { "$set": {
                format!("{within}.problem"): problem, format!("{within}.next_attempt_at"): next.map(date),
            } })
        };
        let mut own = of(certificate, version);
        own.insert("revocation.asked_at", doc! { "$exists": true });
        own.insert("revocation.revoked_at", bson::Bson::Null);
        let current = doc! {
            "_id": certificate.to_string(), "version.id": version.to_string(),
            "version.revocation.asked_at": { "$exists": true }, "version.revocation.revoked_at": bson::Bson::Null,
        };
        Ok(self.may("certificate_versions", own, shown("revocation")?).may(
            "certificates",
            current,
            shown("version.revocation")?,
        ))
    }

    /// With a revocation that was asked for and will not be carried out.
    pub(crate) fn not_revoking(self, certificate: CertificateId, version: VersionId) -> Self {
        let mut own = of(certificate, version);
        own.insert("revocation.revoked_at", bson::Bson::Null);
        let current = doc! {
            "_id": certificate.to_string(), "version.id": version.to_string(),
            "version.revocation.revoked_at": bson::Bson::Null,
        };
        self.may("certificate_versions", own, doc! { "$unset": { "revocation": "" } }).may(
            "certificates",
            current,
            doc! { "$unset": { "version.revocation": "" } },
        )
    }
}

/// A version of a certificate.
fn of(certificate: CertificateId, version: VersionId) -> Document {
    doc! { "_id": version.to_string(), "certificate": certificate.to_string() }
}
