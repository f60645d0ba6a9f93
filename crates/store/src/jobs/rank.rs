// SPDX-License-Identifier: Apache-2.0
//! Ranks by the database's clock: made anew whenever the time of a job changes, from what will be left then of the life of
//! what is in use.

use bson::{Bson, Document, doc};
use cap_core::job::{EXPIRY_RANKS, RANK_LATER};

use crate::document::millis;

/// A stage that ranks a job for the time at which it is due: [`cap_core::job::Need::rank`], as an expression.
pub(super) fn stage() -> Document {
    let left = doc! { "$subtract": ["$needed_before", "$claim_at"] };
    let branches: Vec<Bson> = EXPIRY_RANKS
        .iter()
        .map(|(within, rank)| doc! { "case": { "$lt": [&left, millis(*within)] }, "then": rank }.into())
        .collect();
    let by_expiry = doc! { "$switch": { "branches": branches, "default": RANK_LATER } };
    let needed = doc! { "$ifNull": ["$needed_before", false] };
    doc! { "$set": { "rank": {
        "$cond": [needed, { "$min": ["$rank_floor", by_expiry] }, "$rank_floor"],
    } } }
}
