// SPDX-License-Identifier: Apache-2.0
//! Drift: which certificates are due for a scan, what a scan found, and how a project's settings reach its certificates.
//!
//! All of a certificate's drift is in fields of its own, with a fence of their own: a scan and an issuance never meet.

use std::collections::HashMap;
use std::time::Duration;

use bson::{Bson, Document, doc};
use cap_core::drift::{DriftSettings, DriftState, DriftTarget, Sighting, SightingState};
use cap_core::duty::DriftCandidate;
use cap_core::id::{CertificateId, ProjectId, VersionId};
use cap_core::job::{Claim, JobDraft, Settlement, Work};
use cap_core::limits;
use cap_core::page::{Page, Slice};
use futures_util::TryStreamExt;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::certificates::CertificateRecord;
use crate::document::{as_date, as_date_option, bson, database_now_plus, date, millis, read};
use crate::drift::enrolment::ProjectDrift;
use crate::duties::{DueBy, in_turn};
use crate::error::{Failure, StoreError};
use crate::fact::Fact;
use crate::idempotency::Mutation;
use crate::jobs::JobRecord;
use crate::renewals::Planned;
use crate::transaction::{Transaction, transact};
use crate::{Store, bounded};

pub(crate) mod enrolment;

/// What is known of a certificate's drift.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriftRecord {
    /// Where it is served, where that is not at its names.
    #[serde(rename = "drift_target", default, skip_serializing_if = "Option::is_none")]
    pub target: Option<DriftTarget>,
    /// Whether it is scanned.
    #[serde(rename = "drift_on", default, skip_serializing_if = "Option::is_none")]
    pub on: Option<bool>,
    /// The generation of the project's settings that it follows.
    #[serde(rename = "drift_gen", default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// When the next scan is due; absent before the first version.
    #[serde(rename = "drift_at", default, skip_serializing_if = "Option::is_none", with = "as_date_option")]
    pub at: Option<Timestamp>,
    /// The fence that the last scan left behind.
    #[serde(rename = "drift_fence", default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<i64>,
    /// What the last scan of the current version found.
    #[serde(rename = "drift_state", default, skip_serializing_if = "Option::is_none")]
    pub state: Option<DriftState>,
    /// That scan.
    #[serde(rename = "drift_seen", default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<DriftSeen>,
}

/// A scan that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriftSeen {
    /// The version that what was seen was compared with.
    pub version: VersionId,
    /// When.
    #[serde(with = "as_date")]
    pub scanned_at: Timestamp,
    /// What each name showed.
    pub names: Vec<Sighting>,
}

/// What a scan found, about to be written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriftFound {
    /// Which certificate.
    pub certificate: CertificateId,
    /// What it means.
    pub state: DriftState,
    /// The scan.
    pub seen: DriftSeen,
    /// Where it was looked, beside the names.
    pub target: Option<DriftTarget>,
    /// The generation of the project's settings that it was made under.
    pub generation: i64,
    /// How long until the next one.
    pub next: Duration,
}

#[derive(Deserialize)]
struct DueDocument {
    #[serde(rename = "_id")]
    id: CertificateId,
    project: ProjectId,
    #[serde(rename = "drift_at", with = "as_date")]
    at: Timestamp,
    #[serde(rename = "drift_fence", default)]
    fence: Option<i64>,
}

impl Store {
    /// Up to `limit` certificates whose drift scan is due before `before`, those first that have been due the longest. One
    /// that cannot be read is named in the log and keeps nobody else waiting.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn due_drift(&self, before: Timestamp, limit: u32) -> Result<Vec<DriftCandidate>, StoreError> {
        let by = DueBy {
            doing: "read which drift scans are due",
            which: doc! {},
            field: "drift_at",
            before,
            projection: Some(doc! { "project": 1, "drift_at": 1, "drift_fence": 1 }),
            left_out: "scanned",
        };
        self.due(&by, limit, |document| {
            let due: DueDocument = read("certificates", document)?;
            Ok(DriftCandidate {
                certificate: due.id,
                project: due.project,
                drift_at: due.at,
                fence: due.fence.unwrap_or(0),
            })
        })
        .await
    }

    /// The drift settings of these projects; a project without any has none here. Where they cannot be read, which the log says,
    /// they are taken for on, so that its certificates are not due all the time and no other project waits for that to be mended.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn drift_settings(
        &self,
        projects: &[ProjectId],
    ) -> Result<HashMap<ProjectId, DriftSettings>, StoreError> {
        let ids: Vec<String> = projects.iter().map(ToString::to_string).collect();
        let found: Vec<Document> = bounded("read the settings of drift scans", async {
            let projects = self.collection::<Document>("projects");
            let found = projects.find(doc! { "_id": { "$in": ids } }).projection(doc! { "drift": 1 });
            found.await?.try_collect().await
        })
        .await?;
        let mut settings = HashMap::with_capacity(found.len());
        for mut document in found {
            let Some(id) = document.get_str("_id").ok().and_then(|id| id.parse().ok()) else { continue };
            let drift = match document.remove("drift") {
                None | Some(Bson::Null) => continue,
                Some(Bson::Document(drift)) => read::<ProjectDrift>("projects", drift),
                Some(other) => Err(StoreError::Corrupt {
                    collection: "projects",
                    cause: format!("its drift is {other}"),
                }),
            };
            let drift = drift.map(|drift| drift.settings()).unwrap_or_else(|error| {
                tracing::error!(project = %id, %error, "how a project's certificates are scanned cannot be read");
                DriftSettings { enabled: true, ..DriftSettings::default() }
            });
            settings.insert(id, drift);
        }
        Ok(settings)
    }

    /// Queues a planned scan under the leader's epoch. The certificate is stamped with it, and its next scan put off by
    /// `next`, in the same transaction, and only if it is due as it was seen: a leader of an earlier epoch, or a plan from
    /// an old page, changes nothing. A scan that is lost is followed by the next one.
    ///
    /// # Errors
    /// When the database does not answer; planning again is safe.
    pub async fn plan_drift(
        &self,
        job: &JobDraft,
        seen_at: Timestamp,
        next: Duration,
        epoch: i64,
    ) -> Result<Planned, StoreError> {
        const DOING: &str = "queue a drift scan";
        let Work::DriftScan { certificate } = &job.work else { return Ok(Planned::Unneeded) };
        let result = transact!(DOING, {
            let mut transaction = self.begin(DOING).await?;
            let failed = transaction.failed();
            let filter = doc! {
                "_id": certificate.to_string(), "drift_on": true, "drift_at": date(seen_at),
                "$and": [in_turn("drift_epoch", epoch)],
            };
            let change = doc! { "$set": { "drift_epoch": epoch, "drift_at": database_now_plus(next) } };
            let certificates = self.collection::<Document>("certificates");
            let update = certificates.update_one(filter, vec![change]).session(&mut transaction.session);
            if update.await.map_err(failed)?.matched_count == 0 {
                return Ok(Planned::Unneeded);
            }
            if self.is_alive(&mut transaction, &job.work.key()).await? {
                // Somebody asked for it, or the last one has not been run yet: one is enough.
                transaction.commit().await?;
                return Ok(Planned::Unneeded);
            }
            self.write_within(&mut transaction, &[Fact::new(DOING).queueing(job)?]).await?;
            transaction.commit().await?;
            Ok(Planned::Queued)
        });
        match result {
            Err(StoreError::Conflict { .. }) => Ok(Planned::Unneeded),
            result => result,
        }
    }

    /// Has a certificate scanned now: queues the job, or brings forward the one that waits. Answers the job. It runs no sooner
    /// than [`limits::DRIFT_SCAN_AGAIN`] after the last one.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when the certificate has no version, or is gone.
    pub async fn request_drift(
        &self,
        job: &JobDraft,
        mutation: Mutation<'_>,
    ) -> Result<JobRecord, StoreError> {
        const DOING: &str = "request a drift scan";
        let Work::DriftScan { certificate } = &job.work else { return Err(StoreError::Fenced) };
        let scannable = doc! { "_id": certificate.to_string(), "version.id": { "$exists": true } };
        let mark = doc! { "$set": { "last_event": mutation.audit.event.to_string() } };
        let result = transact!(DOING, {
            let mut transaction = self.begin(DOING).await?;
            let wanted = Fact::new(DOING).must("certificates", scannable.clone(), mark.clone());
            let key = job.work.key();
            let (wait, fence) = self.after_last_scan(&mut transaction, *certificate).await?;
            let living = match wait {
                None => self.hasten_job(&mut transaction, &key).await?,
                // It is no later than this, and stays where it is.
                Some(_) => self.living_job(&mut transaction, &key).await?,
            };
            let (id, wanted) = match living {
                Some(waiting) => (waiting, wanted),
                None => {
                    let after = wait.unwrap_or(job.after);
                    let fence = fence.max(job.fence);
                    (job.id, wanted.queueing(&JobDraft { after, fence, ..job.clone() })?)
                }
            };
            let request = mutation.request.map(|request| request.answered_by(id));
            let mutation = Mutation { audit: mutation.audit, request: request.as_ref() };
            self.write_within(&mut transaction, &[wanted.accompanied(&mutation)]).await?;
            transaction.commit().await?;
            Ok(id)
        });
        let id = self.replayed(&mutation, result).await?;
        self.queued_job(job.project, id).await
    }

    /// How long the next scan has to wait because the last one ended just now, by the database's clock, and the fence that it left
    /// behind. One from the future was stamped by a clock that was wrong, and keeps nobody waiting.
    async fn after_last_scan(
        &self,
        transaction: &mut Transaction,
        certificate: CertificateId,
    ) -> Result<(Option<Duration>, i64), Failure> {
        let failed = transaction.failed();
        let again = millis(limits::DRIFT_SCAN_AGAIN);
        // What was seen is forgotten when it is looked for elsewhere, and not when that was.
        let last = doc! { "$ifNull": ["$drift_scanned_at", "$drift_seen.scanned_at"] };
        let ago = doc! { "$subtract": ["$$NOW", last] };
        let stages = vec![
            doc! { "$match": { "_id": certificate.to_string() } },
            doc! { "$project": { "ago_ms": ago, "drift_fence": 1 } },
        ];
        let certificates = self.collection::<Document>("certificates");
        let found = certificates.aggregate(stages).session(&mut transaction.session).await;
        let mut found = found.map_err(&failed)?;
        let found = found.next(&mut transaction.session).await.transpose().map_err(failed)?;
        let whole = |name| found.as_ref().and_then(|scanned| scanned.get_i64(name).ok());
        let left = whole("ago_ms").filter(|ago| (0..again).contains(ago)).map(|ago| again - ago);
        let left = left.and_then(|left| u64::try_from(left).ok()).map(Duration::from_millis);
        Ok((left, whole("drift_fence").unwrap_or(0)))
    }

    /// Writes down what a scan found, ends its job, and says when the next one is due: one fact. Where somebody asked for a scan
    /// since this one began, it scans once more instead, [`limits::DRIFT_SCAN_AGAIN`] later. What was compared with a
    /// version that is not current any more, at another place than is configured now, under settings that have been
    /// replaced, or by an earlier claim, is not stored; the job ends all the same.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when the job is not the claim's any more.
    pub async fn record_drift(&self, claim: &Claim, found: &DriftFound) -> Result<(), StoreError> {
        let current = doc! {
            "_id": found.certificate.to_string(), "version.id": found.seen.version.to_string(),
            "drift_target": bson("certificates", &found.target)?, "$and": [
                { "$or": [{ "drift_fence": null }, { "drift_fence": { "$lte": claim.fence } }] },
                { "$or": [{ "drift_gen": null }, { "drift_gen": { "$lte": found.generation } }] },
            ],
        };
        let set = vec![doc! { "$set": {
            "drift_state": found.state.as_str(), "drift_seen": { "$literal": bson("certificates", &found.seen)? },
            "drift_fence": claim.fence + 1, "drift_at": database_now_plus(found.next),
            "drift_on": true, "drift_gen": found.generation,
        } }];
        // After the update that asks for the fence: that it was scanned is left behind whatever became of the version.
        let scanned = vec![doc! { "$set": {
            "drift_fence": { "$max": ["$drift_fence", claim.fence + 1] }, "drift_scanned_at": "$$NOW",
        } }];
        let own = doc! { "_id": found.certificate.to_string() };
        let fact = || Fact::new("record a drift scan");
        let seen = |fact: Fact| {
            fact.may("certificates", current.clone(), set.clone()).may(
                "certificates",
                own.clone(),
                scanned.clone(),
            )
        };
        match self.write(seen(fact().ending_unasked(claim, "succeeded"))).await {
            Err(StoreError::Fenced) => {
                let again = Settlement::after(limits::DRIFT_SCAN_AGAIN, None);
                self.write(seen(fact().settling(claim, &again, found.seen.scanned_at)?)).await
            }
            recorded => recorded,
        }
    }

    /// A page of a project's certificates that were scanned, of one state if given. Of what the names of each showed it has the
    /// first that is wrong alone.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn drift(
        &self,
        project: ProjectId,
        state: Option<DriftState>,
        page: &Page,
    ) -> Result<Slice<CertificateRecord>, StoreError> {
        let states = state.map_or_else(|| DriftState::ALL.to_vec(), |state| vec![state]);
        let states: Vec<&str> = states.into_iter().map(DriftState::as_str).collect();
        let filter = doc! { "drift_state": { "$in": states }, "project": project.to_string() };
        self.list_certificates(filter, first_wrong().into(), page).await
    }

    /// How many certificates are in each state of drift, none counted further than [`limits::DRIFT_COUNT`].
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn count_drift(&self) -> Result<[(DriftState, u64); 3], StoreError> {
        let mut counts = DriftState::ALL.map(|state| (state, 0));
        for (state, count) in &mut counts {
            let certificates = self.collection::<Document>("certificates");
            let of_state = certificates.count_documents(doc! { "drift_state": state.as_str() });
            *count = bounded("count drift", of_state.limit(limits::DRIFT_COUNT)).await?;
        }
        Ok(counts)
    }
}

/// An expression: the first of a certificate's names that showed what its state says, unless it is that all is well.
fn first_wrong() -> Document {
    let is_wrong = doc! { "$and": [
        { "$ne": ["$$one.state", SightingState::Served.as_str()] }, { "$eq": ["$$one.state", "$drift_state"] },
    ] };
    let wrong = doc! { "$filter": { "input": "$drift_seen.names", "as": "one", "cond": is_wrong } };
    doc! { "$slice": [wrong, 1] }
}

/// A stage of an update that gives a certificate a new version: what was seen was compared with the version before, so it is
/// forgotten, and the next scan is due once a server had time to load this one. Nothing changes where nothing is scanned.
pub(crate) fn rescan_stage() -> Document {
    let scanned = |then: Bson, field: &str| {
        doc! { "$cond": [{ "$eq": ["$drift_on", true] }, then, { "$ifNull": [format!("${field}"), "$$REMOVE"] }] }
    };
    doc! { "$set": {
        "drift_at": scanned(database_now_plus(limits::DRIFT_GRACE).into(), "drift_at"),
        "drift_state": scanned("$$REMOVE".into(), "drift_state"),
        "drift_seen": scanned("$$REMOVE".into(), "drift_seen"),
    } }
}

impl Fact {
    /// With a certificate's scan due now, if it is scanned at all: it is served elsewhere from now on, and what was seen says
    /// nothing of that.
    pub(crate) fn scanning_now(self, certificate: CertificateId) -> Self {
        let scanned = doc! { "_id": certificate.to_string(), "drift_at": { "$exists": true } };
        let anew =
            vec![doc! { "$set": { "drift_at": "$$NOW" } }, doc! { "$unset": ["drift_state", "drift_seen"] }];
        self.may("certificates", scanned, anew)
    }
}
