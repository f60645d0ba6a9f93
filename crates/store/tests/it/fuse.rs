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
