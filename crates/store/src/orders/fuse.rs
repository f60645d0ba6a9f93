// SPDX-License-Identifier: Apache-2.0
//! The orders that were begun for each set of names, in the same write that begins one.

use bson::{DateTime, Document, doc};
use cap_core::order::{Fuse, Order};
use jiff::Timestamp;

use crate::document::{database_now_plus, date, millis, time};
use crate::error::StoreError;
use crate::fact::Fact;
use crate::{Store, bounded};

/// A set of names, in one project: nobody else's orders count against it.
fn key(order: &Order) -> String {
    format!("{}/{}", order.project, hex::encode(order.names.set_sha256()))
}

impl Fact {
    /// With the order counted; refused as a conflict where that would be one too many. An upsert takes no expression, so
    /// here the worker's clock says whether the time has come; the times themselves are the database's.
    pub(super) fn fused(self, order: &Order, fuse: Fuse, at: Timestamp) -> Self {
        let counted = doc! { "order": order.id.to_string(), "at": "$$NOW" };
        let orders = doc! { "$concatArrays": [{ "$ifNull": ["$orders", []] }, [counted]] };
        let limit = i64::from(fuse.orders);
        let again_at = doc! { "$dateAdd": {
            "startDate": { "$arrayElemAt": ["$orders.at", 0] }, "unit": "millisecond", "amount": millis(fuse.window),
        } };
        let is_full = doc! { "$gte": [{ "$size": "$orders" }, limit] };
        let free_at = doc! { "$cond": [is_full, again_at, DateTime::from_millis(0)] };
        let change = vec![
            doc! { "$set": { "orders": { "$slice": [orders, -limit] } } },
            doc! { "$set": { "free_at": free_at, "expire_at": database_now_plus(fuse.window) } },
        ];
        self.upsert("fuses", doc! { "_id": key(order), "free_at": { "$lte": date(at) } }, change)
    }

    /// With the order not counted any more: it failed.
    pub(super) fn uncounted(self, order: &Order) -> Self {
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
        at: Timestamp,
    ) -> Result<Option<Timestamp>, StoreError> {
        let blown = doc! { "_id": key(order), "free_at": { "$gt": date(at) } };
        let fuses = self.collection::<Document>("fuses");
        let found = bounded("read how many orders were begun", fuses.find_one(blown)).await?;
        Ok(found.and_then(|fuse| fuse.get_datetime("free_at").ok().copied()).map(time))
    }
}
