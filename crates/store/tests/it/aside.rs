// SPDX-License-Identifier: Apache-2.0
//! Orders that are set aside give their names free, come back one at a time, and are written by nobody whose claim is over.

use std::time::Duration;

use cap_core::clock::later;
use cap_core::job::{Claim, Settlement};
use cap_core::order::{Ledger, Order, OrderState, Placed};
use cap_core::problem::{Class, Problem};
use cap_store::{OpenOrder, Opened, StoreError};
use cap_testkit::mongo::driver::bson::{Document, doc};

use crate::orders::{begun, version};
use crate::queue::raw;
use crate::world::{FUSE, LEASE, World};

fn problem() -> Problem {
    Problem::new(Class::Transient, "order-overdue", "stuck")
}

fn again() -> Settlement {
    Settlement::Again { after: Duration::ZERO, problem: Some(problem()), setbacks: None }
}

/// An order that may have been finalized, and its claim.
async fn ready(world: &World, name: &str) -> (Claim, Order) {
    let (_, claim, order) = begun(world, name, LEASE).await;
    let since = world.clock.now();
    let expires = Some(later(since, Duration::from_secs(3_600)));
    let placed = Placed { url: "https://ca.example.test/order/1".into(), expires };
    (claim, world.store.advance(&order, OrderState::Ready { placed, since }, &[]).await.unwrap())
}

async fn set_aside(world: &World, claim: &Claim, order: &Order) -> Result<(), StoreError> {
    let (now, audit) = (world.clock.now(), world.row().await);
    world.store.set_aside(claim, order, &again(), now, &audit).await
}

/// The next claim, and the order as it is set aside.
async fn next(world: &World, order: &Order) -> (Claim, Order) {
    (world.claim("two", LEASE).await.remove(0), world.store.order(order.id).await.unwrap().unwrap())
}

async fn open(world: &World, order: &Order) -> Opened {
    let open = OpenOrder { order: order.clone(), fuse: FUSE, at: world.clock.now() };
    world.store.open_order(&open).await.unwrap()
}

async fn watched(world: &World, order: &Order) -> usize {
    let certificate = world.store.certificate(order.project, order.certificate).await.unwrap().unwrap();
    certificate.watched.iter().filter(|id| **id == order.id).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn another_order_is_begun_beside_it_and_gives_way_when_it_comes_back() {
    let world = World::new().await;
    let (claim, first) = ready(&world, "a.example.test").await;
    set_aside(&world, &claim, &first).await.unwrap();
    assert_eq!(watched(&world, &first).await, 1);
    assert!(matches!(set_aside(&world, &claim, &first).await, Err(StoreError::Fenced)), "the claim is over");
    let (claim, aside) = next(&world, &first).await;
    assert_eq!(world.store.take_order(first.certificate, claim.fence).await.unwrap(), None);
    let certificate = world.store.certificate(first.project, first.certificate).await.unwrap().unwrap();
    let second = world.order(&certificate, &claim).await;
    assert_eq!(open(&world, &second).await, Opened::Order(Box::new(second.clone())));

    let now = world.clock.now();
    let back = world.store.take_back(&claim, &aside, Some(&second), now).await.unwrap().unwrap();
    assert_eq!((back.id, back.fence, watched(&world, &first).await), (first.id, claim.fence, 0));
    let over = world.store.order(second.id).await.unwrap().unwrap().state;
    assert!(
        matches!(&over, OrderState::Failed { problem, .. } if problem.kind == "order-superseded"),
        "{over:?}"
    );
    let late = world.store.take_back(&claim, &aside, None, now).await;
    assert!(matches!(late, Err(StoreError::Fenced)), "it came back twice: {late:?}");
    let audit = world.row().await;
    world.store.store(&claim, &back, &version(&world).await, &audit).await.unwrap();
}

/// Whoever asks for it after it was let go of wants all of it.
#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_nobody_wants_ends_unless_somebody_asks_for_it_again() {
    let world = World::new().await;
    let jobs = raw(&world).await.collection::<Document>("jobs");
    let (_, claim, order) = begun(&world, "a.example.test", LEASE).await;
    let (claim, now) = (Claim { is_last: true, ..claim }, world.clock.now());
    let state = async || world.store.order(order.id).await.unwrap().unwrap().state;
    assert!(!world.store.end_unwanted(&claim, &order, now).await.unwrap(), "somebody asked for it since");
    assert_eq!(state().await, order.state);
    let wanted = world.store.settle(&claim, &Settlement::Superseded, now).await;
    assert!(matches!(wanted, Err(StoreError::Fenced)), "{wanted:?}");

    let own = doc! { "_id": claim.job.to_string() };
    jobs.update_one(own, doc! { "$set": { "is_last": true } }).await.unwrap();
    assert!(world.store.end_unwanted(&claim, &order, now).await.unwrap());
    assert!(matches!(state().await, OrderState::Failed { problem, .. } if problem.kind == "job-cancelled"));
    world.store.settle(&claim, &Settlement::Superseded, now).await.unwrap();
}

/// A CA that is stuck with both may issue for either.
#[tokio::test(flavor = "multi_thread")]
async fn a_younger_one_that_the_ca_may_issue_for_is_set_aside_for_it() {
    let world = World::new().await;
    let (claim, first) = ready(&world, "a.example.test").await;
    set_aside(&world, &claim, &first).await.unwrap();
    let (claim, aside) = next(&world, &first).await;
    let certificate = world.store.certificate(first.project, first.certificate).await.unwrap().unwrap();
    let second = world.order(&certificate, &claim).await;
    assert!(matches!(open(&world, &second).await, Opened::Order(_)));
    let (since, now) = (world.clock.now(), world.clock.now());
    let placed = Placed { url: "https://ca.example.test/order/2".into(), expires: None };
    let second = world.store.advance(&second, OrderState::Ready { placed, since }, &[]).await.unwrap();

    let back = world.store.take_back(&claim, &aside, Some(&second), now).await.unwrap().unwrap();
    assert_eq!((watched(&world, &first).await, watched(&world, &second).await), (0, 1));
    let kept = world.store.order(second.id).await.unwrap().unwrap();
    assert_eq!((&kept.state, kept.revision), (&second.state, second.revision + 1), "the CA may issue for it");
    // And back again: whichever the CA has issued for is the one to go on with.
    let again = world.store.take_back(&claim, &kept, Some(&back), now).await.unwrap().unwrap();
    assert_eq!((watched(&world, &first).await, watched(&world, &second).await), (1, 0));
    let audit = world.row().await;
    world.store.store(&claim, &again, &version(&world).await, &audit).await.unwrap();
    assert_eq!(watched(&world, &first).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_does_not_come_back_while_another_certificate_buys_the_same_names() {
    let world = World::new().await;
    let (claim, first) = ready(&world, "a.example.test").await;
    set_aside(&world, &claim, &first).await.unwrap();
    let (claim, aside) = next(&world, &first).await;
    let (_, _, other) = begun(&world, "b.example.test", LEASE).await;
    // As if it had the same names at the same account.
    let orders = raw(&world).await.collection::<Document>("orders");
    let lock = orders.find_one(doc! { "_id": first.id.to_string() }).await.unwrap().unwrap();
    let lock = doc! { "$set": { "lock": lock.get_str("lock").unwrap() } };
    orders.update_one(doc! { "_id": other.id.to_string() }, lock).await.unwrap();
    let now = world.clock.now();
    assert_eq!(world.store.take_back(&claim, &aside, None, now).await.unwrap(), None);
    assert_eq!(watched(&world, &first).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_watched_until_its_end_is_known_or_a_version_is_stored_and_its_key_goes() {
    let world = World::new().await;
    for is_invalid in [true, false] {
        let name = format!("{is_invalid}.example.test");
        let (claim, first) = ready(&world, &name).await;
        set_aside(&world, &claim, &first).await.unwrap();
        let (claim, aside) = next(&world, &first).await;
        let now = world.clock.now();
        if is_invalid {
            let (id, end) = (first.certificate, Some((&aside, &problem())));
            world.store.end_watch(&claim, id, first.id, end, now).await.unwrap();
            let over = world.store.order(first.id).await.unwrap().unwrap();
            assert!(
                matches!(over.state, OrderState::Failed { .. }) && over.key.sealed.ct.is_empty(),
                "{over:?}"
            );
            world.store.end_watch(&claim, id, first.id, None, now).await.unwrap();
        } else {
            let certificate =
                world.store.certificate(first.project, first.certificate).await.unwrap().unwrap();
            let second = world.order(&certificate, &claim).await;
            assert!(matches!(open(&world, &second).await, Opened::Order(_)));
            let placed = Placed { url: "https://ca.example.test/order/2".into(), expires: None };
            let second =
                world.store.advance(&second, OrderState::Ready { placed, since: now }, &[]).await.unwrap();
            let audit = world.row().await;
            world.store.store(&claim, &second, &version(&world).await, &audit).await.unwrap();
        }
        assert_eq!(watched(&world, &first).await, 0);
        if is_invalid {
            world.store.settle(&claim, &Settlement::Superseded, now).await.unwrap();
        }
    }
}
