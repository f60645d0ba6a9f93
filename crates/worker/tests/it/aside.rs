// SPDX-License-Identifier: Apache-2.0
//! An order that the CA is stuck with holds up no certificate, and what the CA issues for it after all is not bought again.

use cap_testkit::ca::{Asked, Fault, FaultRule, NameSetCounts};
use cap_testkit::mongo::driver::bson::{Bson, Document, doc};
use cap_testkit::mongo::driver::{Client, Database};
use cap_testkit::process::Signal;
use cap_testkit::stack::Stack;
use cap_testkit::wait::{self, Pending};
use serde_json::json;

use crate::bench::{self, Bench, PATIENCE};

/// More looks than any test makes.
const FOR_EVER: u32 = 10_000;
/// So long ago that any order is overdue.
const LONG_AGO: &str = "2026-01-01T00:00:00Z";

/// A certificate whose order the CA is stuck with.
struct Stuck {
    stack: Stack,
    bench: Bench,
    database: Database,
    name: &'static str,
    certificate: String,
    order: String,
}

impl Stuck {
    /// One that was finalized.
    async fn new(name: &'static str) -> Self {
        let hold = FaultRule::always(Fault::Processing { looks: FOR_EVER }).at(&[Asked::Finalize]);
        Self::by(name, hold.times_each(1), 1).await
    }

    /// One whose names the CA does not validate.
    async fn left_open(name: &'static str) -> Self {
        Self::by(name, FaultRule::always(Fault::Unvalidated).at(&[Asked::Challenge]), 0).await
    }

    async fn by(name: &'static str, fault: FaultRule, finalized: u64) -> Self {
        let (stack, bench) = bench::own(bench::workers(1)).await;
        let client = Client::with_uri_str(stack.mongo_uri()).await.unwrap();
        let database = client.default_database().unwrap();
        bench.ca.inject(&fault.names(name)).await.unwrap();
        let certificate = bench.request(name).await;
        let mut stuck = Self { stack, bench, database, name, certificate, order: String::new() };
        stuck.order = stuck.until_finalized(finalized).await;
        stuck
    }

    /// The time that the order in flight may take is over.
    async fn is_overdue(&self) {
        let since = doc! { "$set": { "state.since": LONG_AGO } };
        let orders = self.database.collection::<Document>("orders");
        let live = doc! { "certificate": &self.certificate, "live": true };
        assert_eq!(orders.update_one(live, since).await.unwrap().matched_count, 1);
        self.hasten().await;
    }

    /// The order in flight, once the CA has all that it needs for it: the last of so many.
    async fn until_finalized(&self, so_many: u64) -> String {
        let ready = doc! { "certificate": &self.certificate, "live": true, "state.phase": "ready" };
        wait::until("the CA to have all that it needs", PATIENCE, || async {
            let orders = self.database.collection::<Document>("orders");
            let found = orders.find_one(ready.clone()).await.map_err(Pending::not_yet)?;
            match (found, self.bench.counted(self.name).await.finalized) {
                (Some(order), finalized) if finalized == so_many => {
                    Ok(order.get_str("_id").unwrap().to_owned())
                }
                (_, finalized) => Err(Pending::not_yet(finalized)),
            }
        })
        .await
        .unwrap()
    }

    /// It is set aside, and no other one can be placed.
    async fn is_set_aside_alone(&self) {
        let refused =
            FaultRule::always(Fault::ServerError { status: 500, acts: false }).at(&[Asked::NewOrder]);
        self.bench.ca.inject(&refused.names(self.name)).await.unwrap();
        self.is_overdue().await;
        self.until_watched().await;
    }

    /// The CA is well again, and somebody asks.
    async fn heal(&self) {
        self.stack.ca().heal().await.unwrap();
        self.hasten().await;
    }

    /// The worker dies at this point of what `act` leads to.
    async fn dies_at(&mut self, point: &str, act: impl AsyncFn(&Self)) {
        let worker = &mut self.stack.workers[0];
        worker.kill9().unwrap();
        worker.set_env("CAP_DRILL_KILL", point);
        worker.restart().unwrap();
        act(self).await;
        let worker = &mut self.stack.workers[0];
        assert_eq!(worker.wait_exit(PATIENCE).await.unwrap(), None, "{point}: ended by a signal");
        worker.set_env("CAP_DRILL_KILL", "");
    }

    /// A peer is started; answers how many orders the CA had for the certificate when it was there.
    async fn peer_finishes(&mut self) -> NameSetCounts {
        self.stack.workers[0].restart().unwrap();
        wait::until("the certificate", PATIENCE, || async {
            // What failed waits for its time unless somebody asks; what is there by now is refused.
            let path = self.bench.path(&format!("certificates/{}/renew", self.certificate));
            let _there = self.bench.api.call("POST", &path, Some(&json!({})), None).await;
            let record = self.bench.get(&self.certificate).await;
            if record["status"] == "valid" { Ok(()) } else { Err(Pending::not_yet(record)) }
        })
        .await
        .unwrap();
        assert!(self.watched().await.is_empty());
        self.bench.counted(self.name).await
    }

    async fn hasten(&self) {
        let path = self.bench.path(&format!("certificates/{}/renew", self.certificate));
        self.bench.api.post(&path, &json!({})).await.unwrap();
    }

    async fn watched(&self) -> Vec<String> {
        let own = doc! { "_id": &self.certificate };
        let found = self.database.collection::<Document>("certificates").find_one(own).await.unwrap();
        let watched = found.unwrap().get_array("watched").cloned().unwrap_or_default();
        watched.iter().filter_map(Bson::as_str).map(str::to_owned).collect()
    }

    async fn until_watched(&self) {
        wait::until("the order to be set aside", PATIENCE, || async {
            let watched = self.watched().await;
            if watched == [self.order.clone()] {
                Ok(())
            } else {
                Err(Pending::not_yet(format_args!("{watched:?}")))
            }
        })
        .await
        .unwrap();
    }

    /// The order whose certificate is stored.
    async fn stored(&self) -> String {
        let own = doc! { "certificate": &self.certificate };
        let versions = self.database.collection::<Document>("certificate_versions");
        assert_eq!(versions.count_documents(own.clone()).await.unwrap(), 1);
        versions.find_one(own).await.unwrap().unwrap().get_str("order").unwrap().to_owned()
    }
}

#[tokio::test]
async fn another_order_is_placed_while_the_ca_is_stuck_with_the_first() {
    let stuck = Stuck::new("aside.example.test").await;
    let waiting = stuck.bench.get(&stuck.certificate).await;
    assert!(waiting["version"].is_null(), "{waiting}");
    assert!(stuck.watched().await.is_empty(), "it was set aside before its time");
    stuck.is_overdue().await;
    let record = stuck.bench.valid(&stuck.certificate).await;
    assert!(record["problem"].is_null() && record["version"]["number"] == 1, "{record}");
    let counted = stuck.bench.counted(stuck.name).await;
    assert_eq!((counted.orders, counted.finalized), (2, 2));
    assert_ne!(stuck.stored().await, stuck.order);
    assert!(stuck.watched().await.is_empty(), "nobody waits for the first any more");
    let orders = stuck.database.collection::<Document>("orders");
    let first = orders.find_one(doc! { "_id": &stuck.order }).await.unwrap().unwrap();
    assert!(!first.get_bool("live").unwrap() && first.get_datetime("expire_at").is_ok(), "{first}");
}

#[tokio::test]
async fn what_the_ca_issues_after_all_is_stored_and_not_bought_again() {
    let stuck = Stuck::new("after-all.example.test").await;
    // The first is the only one that can come of it.
    stuck.is_set_aside_alone().await;
    let record = stuck.bench.get(&stuck.certificate).await;
    assert!(record["version"].is_null(), "{record}");
    stuck.heal().await;
    let record = stuck.bench.valid(&stuck.certificate).await;
    assert_eq!(record["version"]["number"], 1, "{record}");
    // The next one may have been placed in the moment at which it could be; it is not finalized.
    assert_eq!(stuck.bench.counted(stuck.name).await.finalized, 1);
    assert_eq!(stuck.stored().await, stuck.order);
    assert!(stuck.watched().await.is_empty());
}

#[tokio::test]
async fn an_order_that_the_ca_leaves_open_is_given_up_and_another_one_is_placed() {
    let stuck = Stuck::left_open("left-open.example.test").await;
    let own = stuck.bench.path(&format!("certificates/{}", stuck.certificate));
    let record = stuck.bench.api.get(&own).await.unwrap();
    assert_ne!(record["problem"]["type"], "order-overdue", "it was given up before its time");
    stuck.is_overdue().await;
    let record = wait::until("the order to be given up", PATIENCE, || async {
        let record = stuck.bench.api.get(&own).await.map_err(Pending::not_yet)?;
        match record["problem"]["type"] == "order-overdue" {
            true => Ok(record),
            false => Err(Pending::not_yet(record)),
        }
    })
    .await
    .unwrap();
    assert_eq!(record["problem"]["class"], "validation", "{record}");
    let orders = stuck.database.collection::<Document>("orders");
    let first = orders.find_one(doc! { "_id": &stuck.order }).await.unwrap().unwrap();
    assert!(!first.get_bool("live").unwrap(), "{first}");
    stuck.stack.ca().heal().await.unwrap();
    stuck.hasten().await;
    stuck.bench.valid(&stuck.certificate).await;
    let counted = stuck.bench.counted(stuck.name).await;
    assert_eq!((counted.orders, counted.finalized), (2, 1));
    assert_ne!(stuck.stored().await, stuck.order);
}

/// An outage of looks alone outlives no certificate.
#[tokio::test]
async fn an_order_of_which_the_ca_says_nothing_is_set_aside_as_well() {
    let faults = [
        ("unheard.example.test", Fault::ServerError { status: 503, acts: false }),
        ("refused.example.test", Fault::Refused),
    ];
    for (name, fault) in faults {
        let stuck = Stuck::new(name).await;
        let silent = FaultRule::always(fault).at(&[Asked::Order]);
        stuck.bench.ca.inject(&silent.names(stuck.name)).await.unwrap();
        stuck.is_overdue().await;
        stuck.until_watched().await;
        // It has issued meanwhile, as it says when it says anything again.
        stuck.stack.ca().heal().await.unwrap();
        stuck.hasten().await;
        stuck.bench.valid(&stuck.certificate).await;
        assert_eq!(stuck.bench.counted(stuck.name).await.finalized, 1, "{name}");
        assert_eq!(stuck.stored().await, stuck.order, "{name}");
    }
}

/// Of three that the CA is stuck with the last is in flight, and taken where it comes: it is asked for first. Where it does not, another
/// one is taken that the CA has issued for.
#[tokio::test]
async fn what_the_ca_issues_for_an_earlier_one_is_stored_while_the_last_is_overdue() {
    for (name, is_lost) in [("last.example.test", false), ("backlog.example.test", true)] {
        let mut stuck = Stuck::new(name).await;
        let hold = FaultRule::always(Fault::Processing { looks: FOR_EVER }).at(&[Asked::Finalize]);
        stuck.bench.ca.inject(&hold.times_each(2).names(stuck.name)).await.unwrap();
        let mut orders = vec![stuck.order.clone()];
        for finalized in [2, 3] {
            stuck.is_overdue().await;
            orders.push(stuck.until_finalized(finalized).await);
            assert_eq!(stuck.watched().await, orders[..orders.len() - 1]);
        }
        // The CA issues for all of them while nobody looks.
        stuck.stack.workers[0].signal(Signal::TERM).unwrap();
        stuck.stack.workers[0].wait_exit(PATIENCE).await.unwrap();
        stuck.stack.ca().heal().await.unwrap();
        if is_lost {
            // It does not know the last one any more, as a replica that lags.
            let url = doc! { "$concat": ["$state.placed.url", "0"] };
            let unknown = vec![doc! { "$set": { "state.placed.url": url } }];
            let found = stuck.database.collection::<Document>("orders");
            found.update_one(doc! { "_id": orders.last() }, unknown).await.unwrap();
        }
        stuck.is_overdue().await;
        stuck.stack.workers[0].restart().unwrap();
        stuck.bench.valid(&stuck.certificate).await;
        let taken = if is_lost { orders.first() } else { orders.last() };
        assert_eq!(Some(&stuck.stored().await), taken, "{name}");
        assert_eq!(stuck.bench.counted(stuck.name).await.finalized, 3);
    }
}

/// A worker killed in the middle of giving an order up leaves it to a peer, which buys nothing twice: what the CA may issue for stays
/// watched, and what is over is over.
#[tokio::test]
async fn a_worker_killed_while_it_sets_an_order_aside_leaves_that_to_a_peer() {
    for (name, point) in
        [("aside-before.example.test", "set-aside.before"), ("aside-after.example.test", "set-aside.after")]
    {
        let mut stuck = Stuck::new(name).await;
        stuck.dies_at(point, Stuck::is_overdue).await;
        assert_eq!(stuck.watched().await.len(), usize::from(point == "set-aside.after"), "{point}");
        let counted = stuck.peer_finishes().await;
        assert_eq!((counted.orders, counted.finalized), (2, 2), "{point}");
        assert_ne!(stuck.stored().await, stuck.order, "{point}");
    }
}

#[tokio::test]
async fn a_worker_killed_while_it_takes_an_order_back_leaves_that_to_a_peer() {
    for (name, point) in
        [("back-before.example.test", "take-back.before"), ("back-after.example.test", "take-back.after")]
    {
        let mut stuck = Stuck::new(name).await;
        stuck.is_set_aside_alone().await;
        stuck.dies_at(point, Stuck::heal).await;
        let counted = stuck.peer_finishes().await;
        assert_eq!(counted.finalized, 1, "{point}: {counted:?}");
        assert_eq!(stuck.stored().await, stuck.order, "{point}");
    }
}

#[tokio::test]
async fn a_worker_killed_while_it_ends_the_watch_on_an_order_leaves_that_to_a_peer() {
    for (name, point) in
        [("watch-before.example.test", "end-watch.before"), ("watch-after.example.test", "end-watch.after")]
    {
        let mut stuck = Stuck::new(name).await;
        stuck.is_set_aside_alone().await;
        let expires = async |stuck: &Stuck| {
            let expired = doc! { "$set": { "state.placed.expires": LONG_AGO } };
            let orders = stuck.database.collection::<Document>("orders");
            orders.update_one(doc! { "_id": &stuck.order }, expired).await.unwrap();
            stuck.hasten().await;
        };
        stuck.dies_at(point, expires).await;
        stuck.stack.ca().heal().await.unwrap();
        // What the CA issued meanwhile is taken as long as anybody looks.
        let is_ended = point == "end-watch.after";
        let counted = stuck.peer_finishes().await;
        assert_eq!(counted.finalized, 1 + u64::from(is_ended), "{point}: {counted:?}");
        assert_eq!(stuck.stored().await != stuck.order, is_ended, "{point}");
    }
}

#[tokio::test]
async fn a_worker_killed_while_it_gives_an_order_up_leaves_that_to_a_peer() {
    for (name, point) in
        [("up-before.example.test", "withdraw.before"), ("up-after.example.test", "withdraw.after")]
    {
        let mut stuck = Stuck::left_open(name).await;
        stuck.dies_at(point, Stuck::is_overdue).await;
        stuck.stack.ca().heal().await.unwrap();
        let counted = stuck.peer_finishes().await;
        assert_eq!(counted.finalized, 1, "{point}: {counted:?}");
    }
}

#[tokio::test]
async fn a_worker_killed_while_it_records_a_failed_attempt_leaves_that_to_a_peer() {
    for (name, point) in [
        ("failed-before.example.test", "record-failed.before"),
        ("failed-after.example.test", "record-failed.after"),
    ] {
        let mut stuck = Stuck::new(name).await;
        // Behind the one that is stuck, the CA finds fault with the order.
        let invalid = FaultRule::always(Fault::LateFailure).at(&[Asked::Finalize]).times_each(1);
        stuck.bench.ca.inject(&invalid.names(name)).await.unwrap();
        stuck.dies_at(point, Stuck::is_overdue).await;
        let counted = stuck.peer_finishes().await;
        assert_eq!((counted.orders, counted.finalized), (3, 2), "{point}");
    }
}
