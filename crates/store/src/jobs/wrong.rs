// SPDX-License-Identifier: Apache-2.0
//! Jobs whose times were stamped by a database clock that was wrong: they would wait for days for nothing.

use std::time::Duration;

use bson::{Document, doc};
use cap_core::clock::later;
use cap_core::lease::WRONG_AHEAD;
use cap_core::limits::PARTITIONS;
use jiff::Timestamp;

use super::{DUTY_EPOCH, rank};
use crate::document::{date, millis};
use crate::duties::led;
use crate::error::StoreError;
use crate::{Store, bounded};

/// Only what is due later than this is looked at: most waits are shorter, and one that a clock stamped wrong by less is soon over.
const LOOKED_AT: Duration = Duration::from_secs(15 * 60);
/// Partitions that are looked through at once: with a million jobs that wait for a day, each look reads a quarter of them.
const AT_ONCE: usize = 19;
/// The lease of a job that does not say how long it is.
const LEASE: Duration = Duration::from_secs(60);
/// How much later than it was asked to wait a job may be due.
const SLACK: Duration = Duration::from_secs(60);

impl Store {
    /// Shortens the leases of running jobs that end more than [`WRONG_AHEAD`] times their length ahead to that length: the primary's
    /// clock was wrong when it stamped them, and nobody would have these jobs until that time comes. Whoever holds one and lives
    /// extends it before. One that a later leader than that of `epoch` changed is left alone. Answers how many there were.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn shorten_wrong_leases(&self, epoch: i64) -> Result<u64, StoreError> {
        let ahead = doc! { "$subtract": ["$claim_at", "$$NOW"] };
        let all: Vec<i32> = (0..PARTITIONS).map(i32::from).collect();
        // One that an earlier version claimed does not say how long its lease is.
        let length = doc! { "$ifNull": ["$lease_ms", i64::MAX / 2 / i64::from(WRONG_AHEAD)] };
        let wrong = doc! {
            "p": { "$in": all }, "state": "running", "claim_at": { "$exists": true },
            "$expr": { "$gt": [ahead, { "$multiply": [length, i64::from(WRONG_AHEAD)] }] },
        };
        let lease = doc! { "$ifNull": ["$lease_ms", millis(LEASE)] };
        let shorten = vec![doc! { "$set": { "claim_at": { "$add": ["$$NOW", lease] } } }];
        let (wrong, shorten) = led(DUTY_EPOCH, epoch, wrong, shorten);
        let jobs = self.collection::<Document>("jobs");
        Ok(bounded("shorten wrong leases", jobs.update_many(wrong, shorten)).await?.modified_count)
    }

    /// Brings jobs forward, up to `limit` of them, that are due later than they were asked to wait from now on: the primary's
    /// clock was ahead when it stamped them. Those that a later leader than that of `epoch` changed are left alone. Answers how many there were.
    ///
    /// # Errors
    /// When the database does not answer; doing it again is safe.
    pub async fn end_wrong_waits(&self, now: Timestamp, limit: u32, epoch: i64) -> Result<u32, StoreError> {
        let ahead = doc! { "$subtract": ["$claim_at", "$$NOW"] };
        // One that was queued by an earlier version does not say how long it was to wait.
        let asked = doc! { "$ifNull": ["$wait_ms", i64::MAX / 2] };
        let due = vec![
            doc! { "$set": { "claim_at": "$$NOW", "hastened": "$$NOW", "held_until": "$$REMOVE" } },
            rank::stage(),
        ];
        let all: Vec<i32> = (0..PARTITIONS).map(i32::from).collect();
        let mut ended = 0_u32;
        for some in all.chunks(AT_ONCE) {
            let wrong = doc! {
                "p": { "$in": some.to_vec() }, "state": "queued", "claim_at": { "$gt": date(later(now, LOOKED_AT)) },
                "$expr": { "$gt": [&ahead, { "$add": [&asked, millis(SLACK)] }] },
            };
            let left = limit.saturating_sub(ended);
            if left == 0 {
                break;
            }
            ended += self.change_page("end wrong waits", wrong, None, left, due.clone(), epoch).await?;
        }
        Ok(ended)
    }
}
