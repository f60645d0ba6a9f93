// SPDX-License-Identifier: Apache-2.0
//! Ranks by the database's clock: made anew whenever the time of a job changes, from what will be left then of the life of
//! what is in use; and while a job waits, when what is left falls below the next bound.

use bson::{Bson, Document, doc};
use cap_core::job::{EXPIRY_RANKS, RANK_LATER};
use jiff::Timestamp;

use crate::Store;
use crate::document::{date, millis};
use crate::error::StoreError;

/// A stage that ranks a job for the time at which it is due.
pub(super) fn stage() -> Document {
    stage_at(&"$claim_at".into())
}

/// A stage that ranks a job for the time `at`: [`cap_core::job::Need::rank`], as an expression, and [`cap_core::job::Need::rank_changes`],
/// which is not there where the rank stays as it is.
fn stage_at(at: &Bson) -> Document {
    let left = doc! { "$subtract": ["$needed_before", at] };
    let ranks: Vec<Bson> = EXPIRY_RANKS
        .iter()
        .map(|(within, rank)| doc! { "case": { "$lt": [&left, millis(*within)] }, "then": rank }.into())
        .collect();
    let by_expiry = doc! { "$switch": { "branches": ranks, "default": RANK_LATER } };
    // The bound that is fallen below next is the largest of those that are not yet.
    let changes: Vec<Bson> = EXPIRY_RANKS
        .iter()
        .rev()
        .map(|(within, rank)| {
            let comes = doc! { "$gte": [&left, millis(*within)] };
            let counts = doc! { "$lt": [rank, "$rank_floor"] };
            let then = doc! { "$subtract": ["$needed_before", millis(*within)] };
            doc! { "case": { "$and": [comes, counts] }, "then": then }.into()
        })
        .collect();
    let change = doc! { "$switch": { "branches": changes, "default": "$$REMOVE" } };
    let is_needed = doc! { "$ifNull": ["$needed_before", false] };
    doc! { "$set": {
        "rank": { "$cond": [&is_needed, { "$min": ["$rank_floor", by_expiry] }, "$rank_floor"] },
        "rank_at": { "$cond": [is_needed, change, "$$REMOVE"] },
    } }
}

impl Store {
    /// Ranks jobs anew that waited until what they renew came nearer to its end than the next bound: up to `limit` of those
    /// whose time came before `before`, the longest passed first, unless a later leader than that of `epoch` changed them. Answers how many.
    ///
    /// # Errors
    /// When the database does not answer; doing it again is safe.
    pub async fn age_ranks(&self, before: Timestamp, limit: u32, epoch: i64) -> Result<u32, StoreError> {
        // Whether it has come is for the database's clock to say; the leader's only narrows the search.
        let passed = doc! {
            "uncounted": null, "finished_at": null, "rank_at": { "$lte": date(before) }, "claim_at": { "$exists": true },
            "$expr": { "$lt": ["$rank_at", "$$NOW"] },
        };
        let anew = vec![stage_at(&doc! { "$max": ["$claim_at", "$$NOW"] }.into())];
        self.change_page("rank jobs anew", passed, Some(doc! { "rank_at": 1 }), limit, anew, epoch).await
    }
}
