// SPDX-License-Identifier: Apache-2.0
//! The orders that were begun for each set of names, in the same write that begins one.

use bson::{DateTime, Document, doc};
use cap_core::order::{Fuse, Order};
use jiff::Timestamp;

use crate::document::{database_now_plus, date, time};
use crate::error::StoreError;
use crate::fact::Fact;
use crate::{Store, bounded};

/// A set of names, in one project: nobody else's orders count against it.
fn key(order: &Order) -> String {
    format!("{}/{}", order.project, hex::encode(order.names.set_sha256()))
}

/// Where the last order stands that may be begun, in the list of those that are counted.
fn last(fuse: Fuse) -> String {
    format!("orders.{}", fuse.orders.saturating_sub(1))
}

impl Fact {
    /// With the order counted; refused as a conflict where that would be one too many. Each counts for the window that it
    /// was begun under. An upsert takes no expression, so here the worker's clock says whether the time has come; the
    /// times themselves are the database's.
    pub(super) fn fused(self, order: &Order, fuse: Fuse, at: Timestamp) -> Self {
        let counted = doc! { "order": order.id.to_string(), "until": database_now_plus(fuse.window) };
        let others = doc! { "$filter": {
            "input": { "$ifNull": ["$orders", []] }, "cond": { "$gt": ["$$this.until", "$$NOW"] },
        } };
        let is_full = doc! { "$gte": [{ "$size": "$orders" }, i64::from(fuse.orders)] };
        let free_at = doc! { "$cond": [is_full, { "$min": "$orders.until" }, DateTime::from_millis(0)] };
        let change = vec![
            doc! { "$set": { "orders": { "$concatArrays": [others, [counted]] } } },
            doc! { "$set": { "free_at": free_at, "expire_at": { "$max": "$orders.until" } } },
        ];
        let may = doc! {
            "_id": key(order),
            "$or": [{ "free_at": { "$lte": date(at) } }, { last(fuse): { "$exists": false } }],
        };
        self.upsert("fuses", may, change)
    }

    /// With the order not counted any more: it failed, and the CA issued nothing for it.
    pub(crate) fn uncounted(self, order: &Order) -> Self {
        let others = doc! { "$filter": {
            "input": "$orders", "cond": { "$ne": ["$$this.order", order.id.to_string()] },
        } };
        let change = vec![doc! { "$set": { "orders": others, "free_at": DateTime::from_millis(0) } }];
        self.may("fuses", doc! { "_id": key(order), "orders.order": order.id.to_string() }, change)
    }
}

impl Store {
    /// When another order for the same names may be begun, if too many were.
    pub(super) async fn blown_until(
        &self,
        order: &Order,
        fuse: Fuse,
        at: Timestamp,
    ) -> Result<Option<Timestamp>, StoreError> {
        let blown =
            doc! { "_id": key(order), "free_at": { "$gt": date(at) }, last(fuse): { "$exists": true } };
        let fuses = self.collection::<Document>("fuses");
        let found = bounded("read how many orders were begun", fuses.find_one(blown)).await?;
        Ok(found.and_then(|fuse| fuse.get_datetime("free_at").ok().copied()).map(time))
    }
}
