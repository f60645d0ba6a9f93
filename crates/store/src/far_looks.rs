// SPDX-License-Identifier: Apache-2.0
//! Looks at certificates that a database clock which was wrong has put off: they would be seen by nobody for as long as it was
//! ahead.

use std::time::Duration;

use bson::{Document, doc};
use cap_core::clock::later;
use cap_core::limits::{ARI_POLL_MAX, DRIFT_INTERVAL_MAX};
use futures_util::TryStreamExt;
use jiff::Timestamp;

use crate::document::{database_now_plus, date};
use crate::duties::led;
use crate::error::StoreError;
use crate::{Store, bounded};

/// What a wait may be longer than asked for, so that not all looks come at once, and what clocks may differ by.
const SLACK: Duration = Duration::from_secs(2 * 86_400);
const DOING: &str = "end far looks";

/// Looks of one sort at certificates.
struct Looks {
    /// The field that says when the next one is.
    at: &'static str,
    /// How far ahead that is at most.
    most: Duration,
    /// The field for the leader's epoch.
    stamp: &'static str,
}

const SCANS: Looks =
    Looks { at: "drift_at", most: DRIFT_INTERVAL_MAX.saturating_add(SLACK), stamp: "drift_epoch" };
const RENEWAL_INFO: Looks =
    Looks { at: "ari_at", most: ARI_POLL_MAX.saturating_add(SLACK), stamp: "ari_epoch" };

impl Store {
    /// Has certificates scanned, and their renewal information looked at, now that are to be later than anything is put off:
    /// up to `limit` certificates, and those of up to `limit` issuers, unless a later leader than that of `epoch`
    /// changed them. Answers how many.
    ///
    /// # Errors
    /// When the database does not answer; doing it again is safe.
    pub async fn end_far_looks(&self, now: Timestamp, limit: u32, epoch: i64) -> Result<u32, StoreError> {
        let found: Vec<Document> = bounded(DOING, async {
            let far = doc! { "drift_at": { "$gt": date(later(now, SCANS.most)) } };
            let certificates = self.collection::<Document>("certificates");
            let far = certificates.find(far).sort(doc! { "drift_at": -1 });
            far.limit(i64::from(limit)).projection(doc! { "_id": 1 }).await?.try_collect().await
        })
        .await?;
        let scans = self.look_now("_id", found, &SCANS, epoch).await?;
        let far = doc! { "issuer": { "$gt": "" }, "ari_at": { "$gt": date(later(now, RENEWAL_INFO.most)) } };
        let stages = vec![
            doc! { "$match": far },
            doc! { "$sort": { "issuer": 1, "ari_at": 1 } },
            doc! { "$group": { "_id": "$issuer", "at": { "$first": "$ari_at" } } },
            doc! { "$limit": i64::from(limit) },
        ];
        let found: Vec<Document> = bounded(DOING, async {
            self.collection::<Document>("certificates").aggregate(stages).await?.try_collect().await
        })
        .await?;
        Ok(scans.saturating_add(self.look_now("issuer", found, &RENEWAL_INFO, epoch).await?))
    }

    /// Has those of `found`, by their `field`, looked at now, if their looks are too far ahead by the database's clock as well.
    async fn look_now(
        &self,
        field: &str,
        found: Vec<Document>,
        looks: &Looks,
        epoch: i64,
    ) -> Result<u32, StoreError> {
        let Looks { at, most, stamp } = looks;
        let ids: Vec<&str> = found.iter().filter_map(|one| one.get_str("_id").ok()).collect();
        if ids.is_empty() {
            return Ok(0);
        }
        let far = doc! {
            field: { "$in": ids }, *at: { "$exists": true },
            "$expr": { "$gt": [format!("${at}"), database_now_plus(*most)] },
        };
        let certificates = self.collection::<Document>("certificates");
        let (far, now) = led(stamp, epoch, far, vec![doc! { "$set": { *at: "$$NOW" } }]);
        let now = certificates.update_many(far, now);
        Ok(u32::try_from(bounded(DOING, now).await?.matched_count).unwrap_or(u32::MAX))
    }
}
