// SPDX-License-Identifier: Apache-2.0
//! Renewal information (RFC 9773): which issuers have looks that are due, which certificates those are, and what was seen.
//!
//! What a look found is written under the conditions that it was made under: the same version, and the same time at which the
//! look was due. That time changes with every look, so of two who looked only the first writes, and no fence is needed.

use bson::{Document, doc};
use cap_core::duty::LookCandidate;
use cap_core::id::{CertificateId, IssuerId, ProjectId, VersionId};
use cap_core::job::{JobDraft, Work};
use cap_core::limits::DEAD_LOOK_WAIT;
use cap_core::order::IssuedVersion;
use cap_core::problem::Problem;
use cap_core::renewal_info::{AriId, Judged, Suggestion, Watched, Window};
use futures_util::TryStreamExt;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::certificates::{CertificateRecord, VersionRecord};
use crate::document::{as_date, as_date_option, bson, database_now_plus, date, millis, read};
use crate::duties::{DueBy, in_turn};
use crate::error::StoreError;
use crate::fact::Fact;
use crate::idempotency::Mutation;
use crate::renewals::{Planned, plan};
use crate::transaction::transact;
use crate::{Store, bounded};

/// What is known of when a certificate's CA wants it renewed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewalInfoRecord {
    /// When the next look is due; absent where the CA offers no renewal information.
    #[serde(rename = "ari_at", default, skip_serializing_if = "Option::is_none", with = "as_date_option")]
    pub at: Option<Timestamp>,
    /// What the last look at the current version found.
    #[serde(rename = "ari", default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<RenewalInfoSeen>,
    /// When the current version is due by its life alone.
    #[serde(
        rename = "by_life_at",
        default,
        skip_serializing_if = "Option::is_none",
        with = "as_date_option"
    )]
    pub by_life_at: Option<Timestamp>,
}

/// A look that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewalInfoSeen {
    /// When.
    #[serde(with = "as_date")]
    pub looked_at: Timestamp,
    /// Where the window begins that the CA named last.
    #[serde(default, with = "as_date_option")]
    pub start: Option<Timestamp>,
    /// Where it ends.
    #[serde(default, with = "as_date_option")]
    pub end: Option<Timestamp>,
    /// The time drawn in it.
    #[serde(default, with = "as_date_option")]
    pub renew_at: Option<Timestamp>,
    /// A page that tells people why.
    #[serde(default)]
    pub explanation_url: Option<String>,
    /// Why the last answer could not be used.
    #[serde(default)]
    pub problem: Option<Problem>,
}

/// A certificate whose look is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueLook {
    /// Which certificate.
    pub certificate: CertificateId,
    /// Its current version.
    pub version: VersionId,
    /// What the CA calls that. Nothing where an earlier build stored it over one of ours: there is nothing to ask by.
    pub id: Option<AriId>,
    /// When the look was due.
    pub due_at: Timestamp,
    /// What is known.
    pub watched: Watched,
}

/// What a look found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Looked {
    /// The CA was asked at that time, and this was made of it.
    Judged(Timestamp, Judged),
    /// The version has expired, or has no id to ask by: it is not looked at again, and renewed by its life.
    NeverAgain,
}

#[derive(Deserialize)]
struct DueDocument {
    #[serde(rename = "_id")]
    id: CertificateId,
    version: VersionRecord,
    #[serde(rename = "ari_at", with = "as_date")]
    at: Timestamp,
    #[serde(rename = "ari", default)]
    seen: Option<RenewalInfoSeen>,
}

#[derive(Deserialize)]
struct IssuerDocument {
    #[serde(rename = "_id")]
    issuer: IssuerId,
    project: ProjectId,
    #[serde(with = "as_date")]
    due_at: Timestamp,
}

impl RenewalInfoSeen {
    /// The window that the CA named last, and the time drawn in it.
    #[must_use]
    pub fn suggestion(&self) -> Option<Suggestion> {
        let window = Window::new(self.start?, self.end?).ok()?;
        Some(Suggestion { window, renew_at: self.renew_at? })
    }

    fn of(looked_at: Timestamp, judged: &Judged) -> Self {
        let window = judged.suggestion.map(|suggestion| suggestion.window);
        Self {
            looked_at,
            start: window.map(Window::start),
            end: window.map(Window::end),
            renew_at: judged.suggestion.map(|suggestion| suggestion.renew_at),
            explanation_url: judged.explanation_url.clone(),
            problem: judged.problem.clone(),
        }
    }
}

impl Store {
    /// Up to `limit` issuers behind `after` that have a certificate whose look is due before `before`: one step in the index
    /// for each, however many certificates they have. One that cannot be read is named in the log, and its issuer waits. Answers as
    /// well the last that was looked at, readable or not, if there may be more behind it.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn issuers_to_ask(
        &self,
        before: Timestamp,
        after: Option<&str>,
        limit: u32,
    ) -> Result<(Vec<LookCandidate>, Option<String>), StoreError> {
        // An expression with the database's time would have to look at each certificate; only plain bounds let it step.
        let due = doc! {
            "issuer": { "$gt": after.unwrap_or_default() },
            "ari_at": { "$lte": date(before) },
        };
        let stages = vec![
            doc! { "$match": due },
            doc! { "$sort": { "issuer": 1, "ari_at": 1 } },
            doc! { "$group": {
                "_id": "$issuer", "project": { "$first": "$project" }, "due_at": { "$first": "$ari_at" },
            } },
            doc! { "$limit": i64::from(limit) },
        ];
        let found: Vec<Document> = bounded("look for issuers to ask", async {
            self.collection::<Document>("certificates").aggregate(stages).await?.try_collect().await
        })
        .await?;
        let is_full = u32::try_from(found.len()).is_ok_and(|found| found >= limit);
        // In the order of the index, as long as the database steps through it.
        let last = found.last().filter(|_| is_full).and_then(|last| last.get_str("_id").ok());
        let last = last.map(str::to_owned);
        let candidate = |document| match read("certificates", document) {
            Ok(IssuerDocument { issuer, project, due_at }) => Some(LookCandidate { issuer, project, due_at }),
            Err(error) => {
                tracing::error!(%error, "a certificate cannot be read, so its issuer's CA is not asked");
                None
            }
        };
        Ok((found.into_iter().filter_map(candidate).collect(), last))
    }

    /// Queues the looks at an issuer's CA under the leader's epoch, unless some are queued, or its account is of no use now: the
    /// issuer is stamped with it in the same transaction, so that a leader of an earlier epoch queues nothing.
    ///
    /// # Errors
    /// When the database does not answer; planning again is safe.
    pub async fn plan_renewal_look(&self, job: &JobDraft, epoch: i64) -> Result<Planned, StoreError> {
        const DOING: &str = "queue looks at renewal information";
        let Work::RenewalLook { issuer } = &job.work else { return Ok(Planned::Unneeded) };
        let result = transact!(DOING, {
            let mut transaction = self.begin(DOING).await?;
            if self.is_alive(&mut transaction, &job.work.key()).await? {
                return Ok(Planned::Unneeded);
            }
            let earlier = doc! {
                "_id": issuer.to_string(), "account_url": { "$gt": "" }, "$and": [in_turn("ari_epoch", epoch)],
                "$expr": { "$not": [is_put_off()] },
            };
            let fact = Fact::new(DOING)
                .must("issuers", earlier, doc! { "$set": { "ari_epoch": epoch } })
                .queueing(job)?;
            self.write_within(&mut transaction, &[fact]).await?;
            transaction.commit().await?;
            Ok(Planned::Queued)
        });
        match result {
            Err(StoreError::Conflict { .. } | StoreError::Fenced) => Ok(Planned::Unneeded),
            result => result,
        }
    }

    /// Has the CA asked now when it wants the certificate renewed, by the leader's next look at what is due.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when there is nothing to ask: no version, another one than was `seen`, or a CA that offers no
    /// renewal information.
    pub async fn request_renewal_look(
        &self,
        seen: &CertificateRecord,
        mutation: Mutation<'_>,
    ) -> Result<(), StoreError> {
        const DOING: &str = "ask for renewal information";
        let version = seen.version.as_ref().map(|version| version.id.to_string());
        let Some(version) = version else {
            return Err(StoreError::Conflict { doing: DOING, what: "there is no version".to_owned() });
        };
        let offered = doc! {
            "_id": seen.id.to_string(), "version.id": version, "ari_at": { "$exists": true },
        };
        let now =
            vec![doc! { "$set": { "ari_at": "$$NOW", "last_event": mutation.audit.event.to_string() } }];
        // What was put off since a look ended dead is not any more.
        let issuer = doc! { "_id": seen.issuer.to_string(), "ari_after": { "$exists": true } };
        let fact = Fact::new(DOING)
            .must("certificates", offered, now)
            .may("issuers", issuer, doc! { "$unset": { "ari_after": "" } })
            .accompanied(&mutation);
        let result = match self.write(fact).await {
            Err(StoreError::Fenced) => {
                let what = "its CA offers none, or the certificate was renewed in the same moment".to_owned();
                Err(StoreError::Conflict { doing: DOING, what })
            }
            result => result,
        };
        self.replayed(&mutation, result).await
    }

    /// Up to `limit` certificates of an issuer whose look is due before `before`, those first that have been due the longest.
    /// One that cannot be read is named in the log and keeps nobody else waiting. Answers as well whether there may be more.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn due_renewal_looks(
        &self,
        issuer: IssuerId,
        before: Timestamp,
        limit: u32,
    ) -> Result<(Vec<DueLook>, bool), StoreError> {
        let by = DueBy {
            doing: "read which renewal information is to be looked at",
            which: doc! { "issuer": issuer.to_string() },
            field: "ari_at",
            before,
            projection: Some(doc! { "version": 1, "ari_at": 1, "ari": 1 }),
            left_out: "looked at for renewal information",
        };
        let look = |document| read("certificates", document).map(DueDocument::into_look);
        let due = self.due(&by, limit, look).await?;
        let is_full = u32::try_from(due.len()).is_ok_and(|found| found >= limit);
        Ok((due, is_full))
    }

    /// Writes down what looks found, all of them at once. Where a certificate has another version by now, or was looked at by
    /// somebody else, nothing is written.
    ///
    /// # Errors
    /// When the database does not answer; writing it again is safe.
    pub async fn record_renewal_looks(&self, found: &[(DueLook, Looked)]) -> Result<(), StoreError> {
        if found.is_empty() {
            return Ok(());
        }
        let mut fact = Fact::new("record looks at renewal information");
        for (due, looked) in found {
            let as_seen = doc! {
                "_id": due.certificate.to_string(), "version.id": due.version.to_string(),
                "ari_at": date(due.due_at),
            };
            fact = fact.may("certificates", as_seen, stages(looked)?);
        }
        self.write_alone(&fact).await
    }
}

/// An expression: whether the looks at an issuer's CA are put off, since the last ended dead. A time that is further ahead than
/// that was stamped by a clock that was wrong.
fn is_put_off() -> Document {
    let left = doc! { "$subtract": ["$ari_after", "$$NOW"] };
    let within = |left| doc! { "$and": [{ "$gt": [&left, 0] }, { "$lte": [left, millis(DEAD_LOOK_WAIT)] }] };
    doc! { "$and": [{ "$ifNull": ["$ari_after", false] }, within(left)] }
}

/// What becomes of a certificate after a look. When it is renewed changes only with the window: a wait after a failure must
/// not end with every look.
fn stages(looked: &Looked) -> Result<Vec<Document>, StoreError> {
    Ok(match looked {
        Looked::Judged(at, judged) => {
            let seen = bson("certificates", &RenewalInfoSeen::of(*at, judged))?;
            let mut set = doc! { "ari": { "$literal": seen }, "ari_at": database_now_plus(judged.after) };
            if let Some(suggestion) = judged.suggestion.filter(|_| judged.is_new) {
                set.insert("renew_at", date(suggestion.renew_at));
            }
            vec![doc! { "$set": set }, plan::stage()]
        }
        Looked::NeverAgain => {
            let suggested = doc! { "$eq": ["$renew_at", { "$ifNull": ["$ari.renew_at", false] }] };
            let by_life = doc! { "$ifNull": ["$by_life_at", "$renew_at"] };
            vec![
                doc! { "$set": { "renew_at": { "$cond": [suggested, by_life, "$renew_at"] } } },
                doc! { "$unset": ["ari", "ari_at"] },
                plan::stage(),
            ]
        }
    })
}

impl DueDocument {
    fn into_look(self) -> DueLook {
        let watched = Watched {
            not_before: self.version.not_before,
            not_after: self.version.not_after,
            suggestion: self.seen.as_ref().and_then(RenewalInfoSeen::suggestion),
            explanation_url: self.seen.and_then(|seen| seen.explanation_url),
        };
        let VersionRecord { id: version, ari_id: id, .. } = self.version;
        DueLook { certificate: self.id, version, id, due_at: self.at, watched }
    }
}

/// Forgets, in a change of a certificate, what was suggested for the version before `version`, and has that looked at in its
/// time where its CA offers renewal information.
pub(crate) fn renew(change: &mut Document, version: &IssuedVersion) {
    let mut set = doc! { "by_life_at": date(version.renew_at) };
    let mut unset = doc! { "ari": "" };
    match version.renewal_info_at {
        Some(at) => set.insert("ari_at", date(at)),
        None => unset.insert("ari_at", ""),
    };
    for (operator, fields) in [("$set", set), ("$unset", unset)] {
        match change.get_document_mut(operator) {
            Ok(there) => there.extend(fields),
            Err(_) => {
                change.insert(operator, fields);
            }
        }
    }
}
