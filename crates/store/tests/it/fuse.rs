// SPDX-License-Identifier: Apache-2.0
//! The fuse: however often one set of names is asked for, only so many orders are begun.

use std::time::Duration;

use cap_core::clock::until;
use cap_core::id::ProjectId;
use cap_core::order::{FailedAttempt, Fuse, Ledger};
use cap_core::problem::{Class, Problem};
use cap_store::{OpenOrder, Opened};
use cap_testkit::mongo::driver::bson::{Document, doc};

use crate::queue::raw;
use crate::world::{LEASE, World};

#[tokio::test(flavor = "multi_thread")]
async fn orders_for_one_set_of_names_blow_a_fuse_and_failed_ones_do_not_count() {
    let world = World::new().await;
    let fuse = Fuse { orders: 3, window: Duration::from_secs(3_600) };
    let certificate = world.certificate("loop.example.test").await;
    let claim = world.claim("one", LEASE).await.remove(0);
    let mut begun = 0;
    let orders = raw(&world).await.collection::<Document>("orders");
    for round in 0..5 {
        let order = world.order(&certificate, &claim).await;
        let at = world.clock.now();
        let open = OpenOrder { order: order.clone(), fuse, at };
        match world.store.open_order(&open).await.unwrap() {
            Opened::Order(_) => begun += 1,
            Opened::Blown(again_at) => {
                assert_eq!((round, begun), (4, 4), "one failed, three count");
                let wait = until(at, again_at);
                assert!(wait > Duration::from_secs(3_500) && wait <= Duration::from_secs(3_600), "{wait:?}");
                continue;
            }
            other => panic!("{other:?}"),
        }
        if round == 1 {
            let failed = FailedAttempt {
                problem: Problem::new(Class::Validation, "dns", "no address"),
                next_attempt_at: at,
                needs_new_key: false,
                is_issued: false,
            };
            world.store.fail(&claim, &order, &failed, &world.row().await).await.unwrap();
        } else {
            // Another order may be begun: what the first came to makes no difference to the fuse.
            let over = doc! { "$set": { "live": false } };
            orders.update_one(doc! { "_id": order.id.to_string() }, over).await.unwrap();
        }
    }
    assert_eq!(begun, 4);
    // A foreign project's orders for the same names do not count.
    let other = ProjectId::generate(world.clock.as_ref(), world.entropy.as_ref());
    let mut order = world.order(&certificate, &claim).await;
    order.project = other;
    let opened = world.store.open_order(&OpenOrder { order, fuse, at: world.clock.now() }).await.unwrap();
    assert!(matches!(opened, Opened::Order(_)), "{opened:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_order_counts_for_the_window_that_it_was_begun_under_and_a_raised_limit_holds_at_once() {
    let world = World::new().await;
    let certificate = world.certificate("pair.example.test").await;
    let claim = world.claim("one", LEASE).await.remove(0);
    let (fuses, orders) = {
        let database = raw(&world).await;
        (database.collection::<Document>("fuses"), database.collection::<Document>("orders"))
    };
    let hour = Fuse { orders: 3, window: Duration::from_secs(3_600) };
    let week = Fuse { window: Duration::from_secs(7 * 86_400), ..hour };
    let begin = async |fuse| {
        let open = OpenOrder { order: world.order(&certificate, &claim).await, fuse, at: world.clock.now() };
        let opened = world.store.open_order(&open).await.unwrap();
        orders.update_many(doc! {}, doc! { "$set": { "live": false } }).await.unwrap();
        matches!(opened, Opened::Order(_))
    };
    for fuse in [hour, hour, week] {
        assert!(begin(fuse).await);
    }
    assert!(!begin(hour).await && !begin(week).await);
    let raised = Fuse { orders: 4, ..hour };
    assert!(begin(raised).await, "a limit that was raised holds at once");
    // An hour later three of the four are over, and the one that counts for a week is not.
    let past = doc! { "$subtract": ["$$this.until", 2 * 3_600 * 1_000] };
    let earlier =
        doc! { "$map": { "input": "$orders", "in": { "$mergeObjects": ["$$this", { "until": past }] } } };
    let earlier = vec![
        doc! { "$set": { "orders": earlier } },
        doc! { "$set": { "free_at": { "$min": "$orders.until" } } },
    ];
    fuses.update_many(doc! {}, earlier).await.unwrap();
    assert!(begin(hour).await && begin(hour).await);
    assert!(!begin(hour).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_the_ca_issued_for_counts_although_what_it_issued_was_wrong() {
    let world = World::new().await;
    let fuse = Fuse { orders: 1, window: Duration::from_secs(3_600) };
    for (name, is_issued) in [("wrong.example.test", true), ("refused.example.test", false)] {
        let certificate = world.certificate(name).await;
        let claim = world.claim("one", LEASE).await.remove(0);
        let order = world.order(&certificate, &claim).await;
        let at = world.clock.now();
        world.store.open_order(&OpenOrder { order: order.clone(), fuse, at }).await.unwrap();
        let problem = Problem::new(Class::Protocol, "wrong-certificate", "for another key");
        let failed = FailedAttempt { problem, next_attempt_at: at, needs_new_key: false, is_issued };
        world.store.fail(&claim, &order, &failed, &world.row().await).await.unwrap();
        let next = world.claim("one", LEASE).await.remove(0);
        let order = world.order(&certificate, &next).await;
        let opened = world.store.open_order(&OpenOrder { order, fuse, at: world.clock.now() }).await.unwrap();
        assert_eq!(matches!(opened, Opened::Blown(_)), is_issued, "{name}: {opened:?}");
        // Out of the way of the next.
        world.store.settle(&next, &cap_core::job::Settlement::Superseded, world.clock.now()).await.unwrap();
    }
}
