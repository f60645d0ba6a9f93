// SPDX-License-Identifier: Apache-2.0
//! How a project's settings reach its certificates: each change has a number, the certificates follow a page at a time, and
//! none ever goes back to an earlier one.

use std::time::Duration;

use bson::{Document, doc};
use cap_core::drift::DriftSettings;
use cap_core::id::ProjectId;
use cap_core::limits::{DRIFT_SETTLING, DRIFT_SPREAD};
use futures_util::TryStreamExt;
use serde::{Deserialize, Serialize};

use crate::document::read;
use crate::duties::led;
use crate::error::StoreError;
use crate::{Store, bounded};

/// Where the leader of drift scans leaves its epoch.
const STAMP: &str = "drift_epoch";
/// Certificates that follow at once.
const PAGE: i64 = 500;
/// Projects whose certificates follow, before what is due elsewhere has its turn.
const PROJECTS: usize = 20;
/// Projects of one round at most.
const ROUND: i64 = 10_000;

/// A project's drift settings as they are stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectDrift {
    enabled: bool,
    port: i32,
    interval_ms: i64,
    /// Counts the changes.
    #[serde(rename = "gen")]
    pub generation: i64,
}

/// What may be changed about a project's drift scans; what is absent stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DriftChange {
    /// Whether its certificates are scanned.
    pub enabled: Option<bool>,
    /// At which port.
    pub port: Option<u16>,
    /// How often.
    pub interval: Option<Duration>,
}

/// A project whose certificates have not all followed yet.
#[derive(Debug, Deserialize)]
struct Pending {
    #[serde(rename = "_id")]
    project: ProjectId,
    drift: ProjectDrift,
    /// Whether requests that read the settings before are over.
    settled: bool,
}

/// What became of a page of certificates.
struct Followed {
    /// How many were behind.
    found: i64,
    /// How many followed.
    changed: u64,
}

/// A round through the projects whose settings changed.
#[derive(Debug, Default)]
pub struct Enrolment {
    /// Those that have not had their turn.
    left: Vec<Pending>,
    /// Whether one of the others may have more certificates that are to follow.
    more: bool,
}

impl ProjectDrift {
    /// The settings.
    #[must_use]
    pub fn settings(&self) -> DriftSettings {
        DriftSettings {
            enabled: self.enabled,
            port: u16::try_from(self.port).unwrap_or_default(),
            interval: Duration::from_millis(u64::try_from(self.interval_ms).unwrap_or_default()),
        }
    }
}

impl DriftChange {
    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The settings with the change, as fields of an update: what is absent is what it was, or the default.
    pub(crate) fn fields(&self) -> Document {
        let DriftSettings { enabled, port, interval } = DriftSettings::default();
        let millis = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        let kept = |field: &str, default: bson::Bson| bson::Bson::from(doc! { "$ifNull": [field, default] });
        let or_kept = |new: Option<bson::Bson>, field: &str, default: bson::Bson| {
            new.unwrap_or_else(|| kept(field, default))
        };
        doc! {
            "drift.enabled": or_kept(self.enabled.map(Into::into), "$drift.enabled", enabled.into()),
            "drift.port": or_kept(self.port.map(|port| i32::from(port).into()), "$drift.port", i32::from(port).into()),
            "drift.interval_ms":
                or_kept(self.interval.map(|time| millis(time).into()), "$drift.interval_ms", millis(interval).into()),
            "drift.gen": { "$add": [kept("$drift.gen", 0_i64.into()), 1_i64] },
            "drift.pending": true, "drift.changed_at": "$$NOW",
        }
    }
}

impl Store {
    /// Has a page of certificates follow of each of the next projects whose settings changed; behind the last one, another round
    /// begins. Answers whether more may be left: projects of this round, or certificates.
    ///
    /// An earlier leader that comes late finds a later epoch, or a later number of the change, and changes nothing. The
    /// project stays on the list until no request can be under way that read the settings before.
    ///
    /// # Errors
    /// When the database does not answer; asking again is safe.
    pub async fn enrol_drift(&self, round: &mut Enrolment, epoch: i64) -> Result<bool, StoreError> {
        if round.left.is_empty() {
            *round = Enrolment { left: self.pending_drift().await?, more: false };
        }
        // One that fails has had its turn: the others of the round do not wait for it.
        for _ in 0..PROJECTS {
            let Some(next) = round.left.pop() else { break };
            round.more |= self.enrol(next, epoch).await?;
        }
        Ok(round.more || !round.left.is_empty())
    }

    /// Has a page of a project's certificates follow; answers whether it may have more.
    async fn enrol(&self, pending: Pending, epoch: i64) -> Result<bool, StoreError> {
        let Pending { project, drift, settled } = pending;
        let Followed { found, changed } = self.follow(project, &drift, epoch).await?;
        if found == 0 && settled {
            let done = doc! { "_id": project.to_string(), "drift.gen": drift.generation };
            let (done, change) = led(STAMP, epoch, done, vec![doc! { "$set": { "drift.pending": false } }]);
            let projects = self.collection::<Document>("projects");
            bounded("end the enrolment of a project", projects.update_one(done, change)).await?;
        }
        // Those that a later leader changed are its own to have follow.
        Ok(found == PAGE && changed > 0)
    }

    async fn pending_drift(&self) -> Result<Vec<Pending>, StoreError> {
        let millis = i64::try_from(DRIFT_SETTLING.as_millis()).unwrap_or(i64::MAX);
        // Judged before the certificates are looked at: none that was made later is overlooked.
        let settled = doc! { "$lte": [{ "$add": ["$drift.changed_at", millis] }, "$$NOW"] };
        let stages = vec![
            doc! { "$match": { "drift.pending": true } },
            doc! { "$limit": ROUND },
            doc! { "$project": { "drift": 1, "settled": settled } },
        ];
        let found: Vec<Document> = bounded("look for changed projects", async {
            self.collection::<Document>("projects").aggregate(stages).await?.try_collect().await
        })
        .await?;
        let (pending, unread): (Vec<_>, Vec<_>) =
            found.into_iter().map(|document| read::<Pending>("projects", document)).partition(Result::is_ok);
        if let Some(Err(error)) = unread.first() {
            let count = unread.len();
            tracing::error!(count, %error, "projects cannot be read, so their certificates do not follow them");
        }
        Ok(pending.into_iter().flatten().collect())
    }

    async fn follow(
        &self,
        project: ProjectId,
        drift: &ProjectDrift,
        epoch: i64,
    ) -> Result<Followed, StoreError> {
        const DOING: &str = "have certificates follow their project";
        let certificates = self.collection::<Document>("certificates");
        let behind = doc! { "$not": { "$gte": drift.generation } };
        let page: Vec<Document> = bounded(DOING, async {
            let page =
                certificates.find(doc! { "project": project.to_string(), "drift_gen": behind.clone() });
            page.projection(doc! { "_id": 1 }).limit(PAGE).await?.try_collect().await
        })
        .await?;
        let (found, mut changed) = (i64::try_from(page.len()).unwrap_or(PAGE), 0);
        if found > 0 {
            let ids: Vec<&str> = page.iter().filter_map(|found| found.get_str("_id").ok()).collect();
            let follow = doc! { "_id": { "$in": ids }, "drift_gen": behind };
            let (follow, change) = led(STAMP, epoch, follow, drift.change(found));
            changed = bounded(DOING, certificates.update_many(follow, change)).await?.matched_count;
        }
        Ok(Followed { found, changed })
    }
}

impl ProjectDrift {
    /// What becomes of `count` certificates that follow: they are scanned soon, one after the other, or not any more.
    fn change(&self, count: i64) -> Vec<Document> {
        if !self.enabled {
            let gone = doc! { "$unset": ["drift_on", "drift_at", "drift_state", "drift_seen"] };
            return vec![doc! { "$set": { "drift_gen": self.generation } }, gone];
        }
        let spread_ms = i64::try_from(DRIFT_SPREAD.as_millis()).unwrap_or(0).saturating_mul(count);
        let soon = doc! { "$dateAdd": {
            "startDate": "$$NOW", "unit": "millisecond",
            "amount": { "$toLong": { "$multiply": [{ "$rand": {} }, spread_ms] } },
        } };
        // Without a version there is nothing to compare with; the first one sets the time.
        let at = doc! { "$cond": [{ "$ifNull": ["$version.id", false] }, soon, "$$REMOVE"] };
        vec![doc! { "$set": { "drift_gen": self.generation, "drift_on": true, "drift_at": at } }]
    }
}
