// SPDX-License-Identifier: Apache-2.0
//! Notices about certificates that run out: made once for each threshold of a version, resolved by the next version.

use std::collections::BTreeMap;

use bson::{Document, doc};
use cap_core::audit::Row;
use cap_core::expiry::{Look, NoticeId, Reason, Threshold};
use cap_core::id::{CertificateId, IssuerId, ProjectId, VersionId};
use cap_core::page::{Page, Slice};
use cap_core::problem::Problem;
use futures_util::TryStreamExt;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::certificates::{CertificateRecord, VersionRecord};
use crate::document::{as_date, as_date_option, database_now_plus, date, document, read, time};
use crate::duties::{DueBy, in_turn};
use crate::error::{Failure, StoreError};
use crate::fact::Fact;
use crate::transaction::{Transaction, transact};
use crate::{Store, bounded};

/// A notice as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoticeRecord {
    /// Its name.
    #[serde(rename = "_id", with = "as_text")]
    pub id: NoticeId,
    /// Whose.
    pub project: ProjectId,
    /// The certificate's first name.
    pub name: String,
    /// When the version ends.
    #[serde(with = "as_date")]
    pub not_after: Timestamp,
    /// Why it was not renewed in time, as it was when the notice was made.
    pub reason: Reason,
    /// What was in the way then.
    pub problem: Option<Problem>,
    /// When the notice was made.
    #[serde(with = "as_date")]
    pub noticed_at: Timestamp,
    /// Whether the version still runs out with no other in its place.
    pub open: bool,
    /// When another version took its place, or the certificate was deleted.
    #[serde(with = "as_date_option")]
    pub resolved_at: Option<Timestamp>,
}

/// A certificate whose current version reached a threshold.
#[derive(Debug, Clone)]
pub struct Due {
    /// The certificate.
    pub certificate: CertificateRecord,
    /// Its current version.
    pub version: VersionRecord,
    /// What its issuer's account lacks.
    pub issuer_problem: Option<Problem>,
    /// When it was due to be looked at.
    pub notice_at: Timestamp,
}

/// What became of a notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noticed {
    /// It is made.
    Made,
    /// It is there already, or the certificate moved on, or a later leader was here.
    Unneeded,
}

#[derive(Deserialize)]
struct IssuerDocument {
    #[serde(rename = "_id")]
    id: IssuerId,
    problem: Option<Problem>,
}

impl Store {
    /// Up to `limit` certificates whose current version is due to be looked at, the longest due first. One that cannot be
    /// read is named in the log and keeps nobody else waiting.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn due_notices(&self, now: Timestamp, limit: u32) -> Result<Vec<Due>, StoreError> {
        let by = DueBy {
            doing: "read what runs out",
            which: doc! {},
            field: "notice_at",
            before: now,
            projection: None,
            left_out: "told about when they run out",
        };
        let mut due: Vec<Due> = self.due(&by, limit, due).await?.into_iter().flatten().collect();
        let problems = self.issuer_problems(&due).await?;
        for due in &mut due {
            due.issuer_problem = problems.get(&due.certificate.issuer).cloned();
        }
        Ok(due)
    }

    async fn issuer_problems(&self, due: &[Due]) -> Result<BTreeMap<IssuerId, Problem>, StoreError> {
        let mut ids: Vec<String> = due.iter().map(|due| due.certificate.issuer.to_string()).collect();
        ids.sort_unstable();
        ids.dedup();
        if ids.is_empty() {
            return Ok(BTreeMap::new());
        }
        let found: Vec<Document> = bounded("read issuers", async {
            let issuers = self.collection::<Document>("issuers");
            // What its CA says of one certificate's profile is shown on an issuer that issues all the same.
            let are_failing = doc! { "_id": { "$in": ids }, "status": { "$ne": "ready" } };
            issuers.find(are_failing).projection(doc! { "problem": 1 }).await?.try_collect().await
        })
        .await?;
        let mut problems = BTreeMap::new();
        for document in found {
            match read::<IssuerDocument>("issuers", document) {
                Ok(issuer) => problems.extend(issuer.problem.map(|problem| (issuer.id, problem))),
                Err(error) => {
                    tracing::error!(%error, "an issuer cannot be read; the notice is made without it")
                }
            }
        }
        Ok(problems)
    }

    /// Sets when a version is looked at next, where a look found no threshold reached: what was stored was another
    /// version's.
    ///
    /// # Errors
    /// When the database does not answer; looking again is safe.
    pub async fn postpone_notice(&self, due: &Due, look: Look, epoch: i64) -> Result<(), StoreError> {
        let certificates = self.collection::<Document>("certificates");
        let update = certificates.update_one(seen(due, epoch), next(look, epoch));
        bounded("put a notice off", update).await.map(drop)
    }

    /// Makes a notice under the leader's epoch, and sets when the version is looked at next, in one transaction.
    ///
    /// # Errors
    /// When the database does not answer; making it again is safe.
    pub async fn notice(
        &self,
        due: &Due,
        notice: &NoticeRecord,
        look: Look,
        epoch: i64,
        audit: &Row,
    ) -> Result<Noticed, StoreError> {
        const DOING: &str = "make a notice";
        transact!(DOING, {
            let mut transaction = self.begin(DOING).await?;
            let failed = transaction.failed();
            let certificates = self.collection::<Document>("certificates");
            let update = certificates
                .update_one(seen(due, epoch), next(look, epoch))
                .session(&mut transaction.session);
            if update.await.map_err(&failed)?.matched_count == 0 {
                return Ok(Noticed::Unneeded);
            }
            let notices = self.collection::<Document>("notices");
            let same = notices.find_one(doc! { "_id": notice.id.to_string() }).projection(doc! { "_id": 1 });
            if same.session(&mut transaction.session).await.map_err(&failed)?.is_some() {
                // It was made when the certificate said otherwise; what it says now still holds.
                transaction.commit().await?;
                return Ok(Noticed::Unneeded);
            }
            let mut record = document("notices", notice)?;
            record.insert("last_event", audit.event.to_string());
            let fact = Fact::new(DOING).insert("notices", record).audited(audit);
            self.write_within(&mut transaction, &[fact]).await?;
            transaction.commit().await?;
            Ok(Noticed::Made)
        })
    }

    /// A page of a project's notices, only the open or the resolved ones if asked for.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn notices(
        &self,
        project: ProjectId,
        open: Option<bool>,
        page: &Page,
    ) -> Result<Slice<NoticeRecord>, StoreError> {
        let mut filter = doc! { "project": project.to_string() };
        if let Some(open) = open {
            filter.insert("open", open);
        }
        self.list("notices", filter, page, |notice: &NoticeRecord| notice.id.to_string()).await
    }

    /// Resolves the notices about a certificate that goes away.
    pub(crate) async fn resolve_notices(
        &self,
        transaction: &mut Transaction,
        certificate: CertificateId,
    ) -> Result<(), Failure> {
        let failed = transaction.failed();
        // Names of notices begin with the certificate's id and a slash; a zero is what follows a slash.
        let of_it = doc! {
            "_id": { "$gte": format!("{certificate}/"), "$lt": format!("{certificate}0") }, "open": true,
        };
        let notices = self.collection::<Document>("notices");
        let resolve = notices.update_many(of_it, resolved(self.retention.notices));
        resolve.session(&mut transaction.session).await.map_err(failed)?;
        Ok(())
    }
}

impl Fact {
    /// With the notices about the version that another one takes the place of resolved.
    pub(crate) fn resolving(
        self,
        certificate: CertificateId,
        version: Option<VersionId>,
        kept: std::time::Duration,
    ) -> Self {
        let Some(version) = version else { return self };
        Threshold::ALL.into_iter().fold(self, |fact, threshold| {
            let id = NoticeId { certificate, version, threshold };
            fact.may("notices", doc! { "_id": id.to_string(), "open": true }, resolved(kept))
        })
    }
}

/// The due certificate, if it has a version.
fn due(document: Document) -> Result<Option<Due>, StoreError> {
    let notice_at = document.get_datetime("notice_at").ok().copied();
    let certificate: CertificateRecord = read("certificates", document)?;
    let (Some(version), Some(notice_at)) = (certificate.version.clone(), notice_at) else { return Ok(None) };
    Ok(Some(Due { certificate, version, issuer_problem: None, notice_at: time(notice_at) }))
}

/// The certificate, as long as it is as it was seen and no later leader was here.
fn seen(due: &Due, epoch: i64) -> Document {
    doc! {
        "_id": due.certificate.id.to_string(), "version.id": due.version.id.to_string(),
        "notice_at": date(due.notice_at),
        "$and": [in_turn("notice_epoch", epoch)],
    }
}

fn next(look: Look, epoch: i64) -> Document {
    match look.next {
        Some(at) => doc! { "$set": { "notice_epoch": epoch, "notice_at": date(at) } },
        None => doc! { "$set": { "notice_epoch": epoch }, "$unset": { "notice_at": "" } },
    }
}

fn resolved(kept: std::time::Duration) -> Vec<Document> {
    vec![doc! { "$set": { "open": false, "resolved_at": "$$NOW", "expire_at": database_now_plus(kept) } }]
}

/// Names of notices, as text.
mod as_text {
    use cap_core::expiry::NoticeId;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(id: &NoticeId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(id)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<NoticeId, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
