// SPDX-License-Identifier: Apache-2.0
//! What leaders write, in the order in which the database took it: who won which epoch when, and whether anything of an
//! earlier epoch came behind it.

use std::time::Duration;

use cap_core::clock::Clock as _;
use cap_runtime::clock::SystemClock;
use cap_testkit::mongo::driver::Database;
use cap_testkit::mongo::driver::bson::{Document, doc};
use futures_util::StreamExt as _;
use tokio::sync::watch;

/// What was seen so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The epoch of the lease.
    pub(crate) epoch: i64,
    /// Who has it.
    pub(crate) holder: String,
    /// When we learned of it (boot time): not before it was committed by a majority.
    pub(crate) won_at: Duration,
    /// Writes that carry an epoch.
    pub(crate) stamped: usize,
    /// Those of them that carry an earlier one than the lease had when the database took them.
    pub(crate) stale: usize,
    /// The epoch of the gauge: a write that does not change it carries it.
    gauge: i64,
}

impl Seen {
    /// Takes in one change: the collection, and the fields that it set.
    fn take(&mut self, collection: &str, fields: &Document, now: Duration) {
        let epoch = match collection {
            "leases" => {
                if let (Ok(epoch), Ok(holder)) = (fields.get_i64("epoch"), fields.get_str("holder"))
                    && epoch > self.epoch
                {
                    (self.epoch, self.won_at) = (epoch, now);
                    holder.clone_into(&mut self.holder);
                } else if let Ok(epoch) = fields.get_i64("epoch")
                    && epoch > self.epoch
                {
                    (self.epoch, self.won_at) = (epoch, now);
                }
                return;
            }
            "certificates" => match fields.get_i64("plan_epoch") {
                Ok(epoch) => epoch,
                Err(_) => return,
            },
            "gauges" => {
                self.gauge = fields.get_i64("fence").unwrap_or(self.gauge);
                self.gauge
            }
            _ => return,
        };
        self.stamped += 1;
        self.stale += usize::from(epoch < self.epoch);
    }
}

/// Follows the database from now on.
pub(crate) async fn follow(database: &Database) -> anyhow::Result<watch::Receiver<Seen>> {
    let stages = vec![doc! { "$match": { "ns.coll": { "$in": ["leases", "certificates", "gauges"] } } }];
    let mut changes = database.watch().pipeline(stages).await?.with_type::<Document>();
    let (tell, seen) = watch::channel(Seen::default());
    tokio::spawn(async move {
        // A stream that breaks ends the channel, and with it the bench.
        while let Some(Ok(change)) = changes.next().await {
            let now = SystemClock.boottime();
            let collection = change.get_document("ns").and_then(|ns| ns.get_str("coll")).unwrap_or_default();
            let update =
                change.get_document("updateDescription").and_then(|it| it.get_document("updatedFields"));
            let Ok(fields) = update.or_else(|_| change.get_document("fullDocument")) else { continue };
            tell.send_modify(|seen| seen.take(collection, fields, now));
        }
    });
    Ok(seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_of_an_earlier_epoch_is_stale_once_the_next_is_won_and_not_before() {
        let mut seen = Seen::default();
        let mut take = |collection, fields| {
            seen.take(collection, &fields, Duration::from_secs(1));
            (seen.stamped, seen.stale)
        };
        take("leases", doc! { "epoch": 1_i64, "holder": "a" });
        assert_eq!(take("certificates", doc! { "plan_epoch": 1_i64 }), (1, 0));
        assert_eq!(take("gauges", doc! { "fence": 1_i64, "depth": 0_i64 }), (2, 0));
        take("leases", doc! { "epoch": 2_i64, "holder": "b" });
        assert_eq!(take("certificates", doc! { "plan_epoch": 1_i64 }), (3, 1));
        assert_eq!(take("gauges", doc! { "depth": 5_i64 }), (4, 2), "its stamp is still the first");
        assert_eq!(take("gauges", doc! { "fence": 2_i64 }), (5, 2));
        assert_eq!(take("certificates", doc! { "status": "valid" }), (5, 2), "nobody leads by that");
        assert_eq!(seen.holder, "b");
    }
}
