// SPDX-License-Identifier: Apache-2.0
//! What CAs have refused for a while: rate limits that one order met, and that every worker keeps until they are over, by the
//! database's clock.

use std::time::Duration;

use bson::{DateTime, Document, doc};
use cap_core::id::IssuerId;
use cap_core::job::{Claim, Settlement};
use cap_core::limits::RATE_LIMIT_MAX;
use cap_core::order::{Bucket, Park};
use cap_core::problem::Problem;
use jiff::Timestamp;
use serde::Deserialize;

use crate::Store;
use crate::document::{bson, database_now_plus, read};
use crate::error::StoreError;
use crate::fact::Fact;
use crate::reader::Look;

/// Writes of one limit: two workers that meet it first in the same moment both make its record, and one of them comes second.
const TRIES: u32 = 3;

/// A rate limit that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    /// For how long it still is.
    pub left: Duration,
    /// What the CA said.
    pub problem: Problem,
}

#[derive(Deserialize)]
struct Found {
    left: i64,
    problem: Problem,
}

/// An expression: whether a limit is known that may have been kept since it was met. One that lasts longer than any may was
/// stamped by a database clock that was wrong, and holds nobody up.
fn is_sane() -> Document {
    let until = doc! { "$ifNull": ["$until", null] };
    let latest = database_now_plus(RATE_LIMIT_MAX);
    doc! { "$and": [{ "$ne": [until, null] }, { "$lte": ["$until", latest] }] }
}

/// A condition: the limit is being kept.
pub(crate) fn kept() -> Document {
    doc! { "$expr": { "$and": [{ "$gt": ["$until", "$$NOW"] }, is_sane()] } }
}

/// A condition: a limit of this issuer's CA.
pub(crate) fn of(issuer: IssuerId) -> Document {
    // What stands behind the slash in ASCII.
    doc! { "_id": { "$gt": format!("{issuer}/"), "$lt": format!("{issuer}0") } }
}

/// A projection: for how long a limit is still kept, and why.
pub(crate) fn left() -> Document {
    doc! { "problem": 1, "left": { "$subtract": ["$until", "$$NOW"] } }
}

impl Fact {
    /// With a limit that is kept from now on, and no shorter than one that is kept already.
    fn parking(mut self, park: &Park) -> Result<Self, StoreError> {
        let known = doc! { "$cond": [is_sane(), "$until", DateTime::from_millis(0)] };
        let problem = doc! { "$literal": bson("budgets", &park.problem)? };
        for (bucket, time) in park.kept() {
            let until = database_now_plus(time);
            let is_longest = doc! { "$gt": [until.clone(), known.clone()] };
            let change = vec![doc! { "$set": {
                "problem": { "$cond": [is_longest, &problem, "$problem"] }, "until": { "$max": [&known, until] },
            } }];
            self = self.upsert("budgets", doc! { "_id": bucket.key(park.issuer) }, change);
        }
        Ok(self)
    }
}

impl Store {
    /// Settles a claim because of a rate limit, and has everybody keep that.
    ///
    /// # Errors
    /// As settling; nothing is kept then.
    pub async fn settle_parked(
        &self,
        claim: &Claim,
        settlement: &Settlement,
        park: &Park,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let fact = Fact::new("settle a job that met a rate limit")
            .settling(claim, settlement, now)?
            .parking(park)?;
        let mut result = self.write(fact.clone()).await;
        for _ in 1..TRIES {
            if !matches!(result, Err(StoreError::Conflict { .. })) {
                break;
            }
            result = self.write(fact.clone()).await;
        }
        result
    }

    /// The limit of an issuer's CA that is kept longest of those on these.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn parked(&self, issuer: IssuerId, buckets: &[Bucket]) -> Result<Option<Parked>, StoreError> {
        let keys: Vec<String> = buckets.iter().map(|bucket| bucket.key(issuer)).collect();
        let found = self.look_up("look for rate limits", Look::Limits, keys).await?;
        let found = found.into_iter().map(|found| read::<Found>("budgets", found));
        let found = found.collect::<Result<Vec<_>, _>>()?;
        let longest = found.into_iter().max_by_key(|found| found.left);
        Ok(longest.map(|found| Parked {
            left: Duration::from_millis(u64::try_from(found.left).unwrap_or(0)),
            problem: found.problem,
        }))
    }
}
