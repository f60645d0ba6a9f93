// SPDX-License-Identifier: Apache-2.0
//! What no TTL index can remove, page by page. Each write is harmless when it is made twice; what an earlier leader would make late,
//! the epoch keeps out.

use std::time::Duration;

use bson::{Document, doc};
use cap_core::audit::Row;
use cap_core::clock::later;
use cap_core::id::OrderId;
use cap_core::limits::CHALLENGE_KEPT_MAX;
use cap_core::order::{Order, OrderState};
use cap_core::problem::Problem;
use cap_core::retention::Retention;
use futures_util::TryStreamExt;
use jiff::Timestamp;

use crate::document::{database_now_plus, date, read};
use crate::duties::Duty;
use crate::error::StoreError;
use crate::fact::Fact;
use crate::orders::{OrderDocument, fenced};
use crate::transaction::transact;
use crate::{Store, bounded};

/// How far beyond its time a record may be stamped before it is brought back: hosts stamp by their own clocks, and an hour's
/// totals by the hour's end.
const STAMP_SLACK: Duration = Duration::from_secs(2 * 3_600);

/// Collections whose records carry the time at which they go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiring {
    /// Finished jobs.
    Jobs,
    /// Attempts at jobs.
    Attempts,
    /// Orders that are over.
    Orders,
    /// Requests that may be repeated.
    Idempotency,
    /// Totals of finished jobs.
    Totals,
    /// Resolved notices.
    Notices,
    /// Answers to challenges.
    Challenges,
}

impl Expiring {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Jobs,
        Self::Attempts,
        Self::Orders,
        Self::Idempotency,
        Self::Totals,
        Self::Notices,
        Self::Challenges,
    ];

    fn collection(self) -> &'static str {
        match self {
            Self::Jobs => "jobs",
            Self::Attempts => "job_attempts",
            Self::Orders => "orders",
            Self::Idempotency => "idempotency",
            Self::Totals => "job_totals",
            Self::Notices => "notices",
            Self::Challenges => "challenge_tokens",
        }
    }

    fn kept(self, retention: &Retention) -> Duration {
        match self {
            Self::Jobs => retention.jobs,
            Self::Attempts => retention.attempts,
            Self::Orders => retention.orders,
            Self::Idempotency => retention.idempotency,
            Self::Totals => retention.totals,
            Self::Notices => retention.notices,
            Self::Challenges => CHALLENGE_KEPT_MAX,
        }
    }
}

impl Store {
    /// Brings records back that would be kept for longer than they shall be: their time was set when that was longer, by a
    /// clock that was wrong, or by what a CA said. Up to `limit` of them go in as long as they shall be kept from now.
    /// Answers how many. Under the leader's epoch: one of before may have kept them for less.
    ///
    /// # Errors
    /// When the database does not answer; doing it again is safe. [`StoreError::Fenced`] when a later leader was here.
    pub async fn shorten(
        &self,
        which: Expiring,
        now: Timestamp,
        limit: u32,
        epoch: i64,
    ) -> Result<u32, StoreError> {
        const DOING: &str = "shorten what is kept";
        let kept = which.kept(&self.retention);
        let far = doc! { "$gt": date(later(now, kept + STAMP_SLACK)) };
        let records = self.collection::<Document>(which.collection());
        let mut filter = doc! { "expire_at": far };
        if which == Expiring::Orders {
            // What was set aside is watched for as long as the CA may issue for it.
            filter.insert("state.phase", doc! { "$ne": "ready" });
        }
        let ids = self.page_of_ids(which.collection(), filter.clone(), "expire_at", limit).await?;
        if ids.is_empty() {
            return Ok(0);
        }
        let change = vec![doc! { "$set": { "expire_at": database_now_plus(kept) } }];
        let mut still = doc! { "_id": { "$in": ids } };
        still.extend(filter);
        transact!(DOING, {
            let mut transaction = self.begin(DOING).await?;
            let failed = transaction.failed();
            self.stamp_duty(&mut transaction, Duty::Cleanup, epoch).await?;
            let update = records.update_many(still.clone(), change.clone()).session(&mut transaction.session);
            let changed = update.await.map_err(failed)?.matched_count;
            transaction.commit().await?;
            Ok(number(changed))
        })
    }

    /// Removes up to `limit` tokens that ran out so long ago that nobody asks for them, under the leader's epoch. Answers how many.
    ///
    /// # Errors
    /// When the database does not answer; doing it again is safe. [`StoreError::Fenced`] when a later leader was here.
    pub async fn remove_dead_tokens(
        &self,
        now: Timestamp,
        limit: u32,
        epoch: i64,
    ) -> Result<u32, StoreError> {
        const DOING: &str = "remove dead tokens";
        let kept = i64::try_from(self.retention.tokens.as_millis()).unwrap_or(i64::MAX);
        let before = cap_core::clock::earlier(now, self.retention.tokens);
        // Both clocks must say so: one that is wrong must not remove a token that is good.
        let dead = doc! {
            "expires_at": { "$lt": date(before) },
            "$expr": { "$lt": ["$expires_at", { "$subtract": ["$$NOW", kept] }] },
        };
        let ids = self.page_of_ids("tokens", dead.clone(), "expires_at", limit).await?;
        if ids.is_empty() {
            return Ok(0);
        }
        let mut filter = doc! { "_id": { "$in": ids } };
        filter.extend(dead);
        let tokens = self.collection::<Document>("tokens");
        transact!(DOING, {
            let mut transaction = self.begin(DOING).await?;
            let failed = transaction.failed();
            self.stamp_duty(&mut transaction, Duty::Cleanup, epoch).await?;
            let delete = tokens.delete_many(filter.clone()).session(&mut transaction.session);
            let deleted = delete.await.map_err(failed)?.deleted_count;
            transaction.commit().await?;
            Ok(number(deleted))
        })
    }

    pub(crate) async fn page_of_ids(
        &self,
        collection: &'static str,
        filter: Document,
        by: &str,
        limit: u32,
    ) -> Result<Vec<String>, StoreError> {
        let found: Vec<Document> = bounded("look for what is to go", async {
            let records = self.collection::<Document>(collection);
            let page = records.find(filter).sort(doc! { by: 1 }).limit(i64::from(limit));
            page.projection(doc! { "_id": 1 }).await?.try_collect().await
        })
        .await?;
        Ok(found.iter().filter_map(|record| record.get_str("_id").ok().map(str::to_owned)).collect())
    }

    /// Up to `limit` orders in flight that began before `before`, those behind `after`, by their beginning. One that cannot be
    /// read is named in the log. Answers as well the last that was looked at, readable or not, if there may be more behind it.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn old_live_orders(
        &self,
        before: Timestamp,
        after: Option<&str>,
        limit: u32,
    ) -> Result<(Vec<Order>, Option<String>), StoreError> {
        let mut begun = doc! { "$lt": OrderId::text_from(before) };
        if let Some(after) = after {
            begun.insert("$gt", after);
        }
        let found: Vec<Document> = bounded("look for old orders", async {
            let orders = self.collection::<Document>("orders");
            let old = orders.find(doc! { "live": true, "_id": begun }).sort(doc! { "_id": 1 });
            old.limit(i64::from(limit)).await?.try_collect().await
        })
        .await?;
        let is_full = u32::try_from(found.len()).is_ok_and(|found| found >= limit);
        let last = found.last().filter(|_| is_full).and_then(|last| last.get_str("_id").ok());
        let last = last.map(str::to_owned);
        let readable = found.into_iter().filter_map(|document| {
            let order = read::<OrderDocument>("orders", document);
            let told =
                |error: &StoreError| tracing::error!(%error, "an old order cannot be read, so it is left");
            order.inspect_err(told).ok().map(Order::from)
        });
        Ok((readable.collect(), last))
    }

    /// Ends an order that nothing can come of any more, as the leader of `epoch`, unless a job on its certificate lives.
    /// Answers whether it did.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when a later leader does this; when the database does not answer, doing it again is safe.
    pub async fn end_abandoned_order(
        &self,
        order: &Order,
        problem: &Problem,
        epoch: i64,
        audit: &Row,
    ) -> Result<bool, StoreError> {
        const DOING: &str = "end an abandoned order";
        transact!(DOING, {
            let mut transaction = self.begin(DOING).await?;
            let failed = transaction.failed();
            let certificate = order.certificate.to_string();
            let jobs = self.collection::<Document>("jobs");
            let living = jobs.find_one(doc! { "lists": &certificate, "alive": true, "work.kind": "issue" });
            let living = living.projection(doc! { "_id": 1 }).session(&mut transaction.session);
            let orders = self.collection::<Document>("orders");
            if living.await.map_err(&failed)?.is_some() {
                return Ok(false);
            }
            let as_seen = orders.find_one(fenced(order)).projection(doc! { "_id": 1 });
            if as_seen.session(&mut transaction.session).await.map_err(&failed)?.is_none() {
                return Ok(false);
            }
            self.stamp_duty(&mut transaction, Duty::Orders, epoch).await?;
            let state =
                OrderState::Failed { placed: order.state.placed().cloned(), problem: problem.clone() };
            let fact = Fact::new(DOING)
                .ending_order(order, &state, audit.time, self.retention.orders)?
                .may(
                    "certificates",
                    doc! { "_id": certificate, "order": order.id.to_string() },
                    doc! { "$set": { "order": null } },
                )
                .audited(audit);
            self.write_within(&mut transaction, &[fact]).await?;
            transaction.commit().await?;
            Ok(true)
        })
    }
}

fn number(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
