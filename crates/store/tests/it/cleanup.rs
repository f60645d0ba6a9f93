// SPDX-License-Identifier: Apache-2.0
//! What is stamped with the time at which it goes, what is brought back to a shorter one, and what goes by hand.

use std::time::Duration;

use cap_core::actor::Role;
use cap_core::clock::{earlier, later};
use cap_core::id::TokenId;
use cap_core::order::{Order, OrderState};
use cap_core::problem::{Class, Problem};
use cap_core::retention::Retention;
use cap_store::{Expiring, Mutation, OpenOrder, Opened, Request, StoreError, TokenRecord};
use cap_testkit::mongo::driver::bson::{DateTime, Document, doc};
use jiff::Timestamp;

use crate::notices::issue;
use crate::queue::raw;
use crate::world::{FUSE, LEASE, World};

const DAY: Duration = Duration::from_secs(86_400);
const PAGE: u32 = 3;
const EPOCH: i64 = 7;

async fn with(retention: Retention) -> World {
    let mut world = World::new().await;
    world.store = world.store.clone().keeping(retention);
    world
}

fn date(at: Timestamp) -> DateTime {
    DateTime::from_millis(at.as_millisecond())
}

/// The days until the one record of a collection goes, by this host's clock; a minute more or less is a day.
async fn days_left(world: &World, collection: &str) -> i64 {
    let records = raw(world).await.collection::<Document>(collection);
    let record = records.find_one(doc! { "expire_at": { "$exists": true } }).await.unwrap().unwrap();
    let left =
        record.get_datetime("expire_at").unwrap().timestamp_millis() - world.clock.now().as_millisecond();
    (left + 60_000) / 86_400_000
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_over_carries_the_time_that_the_settings_say() {
    let retention = Retention { orders: DAY * 4, jobs: DAY * 2, ..Retention::default() };
    let world = with(retention).await;
    world.certificate("a.example.test").await;
    let claim = world.claim("one", LEASE).await.remove(0);
    issue(&world, &claim, Duration::ZERO, DAY).await;
    world.store.count_finished(1).await.unwrap();
    assert_eq!(days_left(&world, "orders").await, 4);
    assert_eq!(days_left(&world, "jobs").await, 2);

    let audit = world.row().await;
    let request = Request {
        id: "caller/route/key".into(),
        body_sha256: "ab".into(),
        status: 201,
        resource: "x".into(),
        remembered_until: later(world.clock.now(), DAY * 5),
    };
    let token = token(&world, world.clock.now());
    world.store.create_token(&token, Mutation { audit: &audit, request: Some(&request) }).await.unwrap();
    assert_eq!(days_left(&world, "idempotency").await, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_attempts_at_a_job_are_kept_in_it_and_none_for_longer_than_the_settings_say() {
    const KEPT: i32 = 10;
    let world = with(Retention { attempts: DAY, ..Retention::default() }).await;
    world.certificate("a.example.test").await;
    let jobs = raw(&world).await.collection::<Document>("jobs");
    let attempts = async || -> Vec<(i32, String)> {
        let job = jobs.find_one(doc! { "work.kind": "issue" }).await.unwrap().unwrap();
        let attempts =
            job.get_array("attempts").unwrap().iter().map(|attempt| attempt.as_document().unwrap());
        attempts
            .map(|attempt| (attempt.get_i32("number").unwrap(), attempt.get_str("owner").unwrap().to_owned()))
            .collect()
    };
    for n in 1..=KEPT + 2 {
        let claims = world.claim(&format!("worker-{n}"), Duration::ZERO).await;
        assert_eq!(claims[0].attempt, n);
    }
    let last: Vec<_> = (3..=KEPT + 2).map(|n| (n, format!("worker-{n}"))).collect();
    assert_eq!(attempts().await, last);
    let two_days_ago = date(earlier(world.clock.now(), DAY * 2));
    let longer_ago = doc! { "$set": { "attempts.$[].started_at": two_days_ago } };
    jobs.update_one(doc! { "work.kind": "issue" }, longer_ago).await.unwrap();
    world.claim("another", Duration::ZERO).await;
    assert_eq!(attempts().await, [(KEPT + 3, "another".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shorter_time_holds_for_what_is_over_already_and_a_longer_one_does_not() {
    let world = with(Retention::default()).await;
    for (which, collection, kept) in [
        (Expiring::Jobs, "jobs", DAY * 7),
        (Expiring::Attempts, "job_attempts", DAY * 30),
        (Expiring::Orders, "orders", DAY * 30),
        (Expiring::Idempotency, "idempotency", DAY),
        (Expiring::Totals, "job_totals", DAY * 400),
        (Expiring::Notices, "notices", DAY * 400),
        (Expiring::Challenges, "challenge_tokens", DAY * 30),
    ] {
        let now = world.clock.now();
        let record = |n: usize, kept: Duration| {
            let id = format!("{n}");
            doc! { "_id": &id, "project": &id, "expire_at": date(later(now, kept)) }
        };
        let records = raw(&world).await.collection::<Document>(collection);
        // A little too long is left alone: hosts stamp by their own clocks.
        let slightly = kept + Duration::from_secs(3_600);
        let mut all = vec![record(0, kept / 2), record(1, slightly)];
        all.extend((2..9).map(|n| record(n, kept * 3)));
        records.insert_many(all).await.unwrap();
        let mut pages = Vec::new();
        for _ in 0..4 {
            pages.push(world.store.shorten(which, now, PAGE, EPOCH).await.unwrap());
        }
        assert_eq!(pages, [3, 3, 1, 0], "{which:?}");
        let far = doc! { "expire_at": { "$gt": date(later(now, slightly)) } };
        assert_eq!(records.count_documents(far).await.unwrap(), 0, "{which:?}");
        let short = doc! { "expire_at": date(later(now, kept / 2)) };
        assert_eq!(
            records.count_documents(short).await.unwrap(),
            1,
            "{which:?}: the shorter one was touched"
        );
        assert_eq!(records.count_documents(doc! { "expire_at": { "$exists": true } }).await.unwrap(), 9);
    }
}

fn token(world: &World, expires_at: Timestamp) -> TokenRecord {
    TokenRecord {
        id: TokenId::generate(world.clock.as_ref(), world.entropy.as_ref()),
        name: "ops".parse().unwrap(),
        role: Role::Viewer,
        project: None,
        digest: vec![1; 32],
        pepper_version: 1,
        created_at: world.clock.now(),
        expires_at,
        revoked_at: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_goes_when_it_ran_out_long_ago_by_both_clocks() {
    let world = with(Retention { tokens: DAY * 2, ..Retention::default() }).await;
    let now = world.clock.now();
    let (dead, lately, good) =
        (token(&world, now - DAY * 3), token(&world, now - DAY), token(&world, now + DAY));
    for token in [&dead, &lately, &good] {
        let audit = world.row().await;
        world.store.create_token(token, Mutation { audit: &audit, request: None }).await.unwrap();
    }
    // This host's clock alone is years ahead: nothing but what is dead goes.
    assert_eq!(world.store.remove_dead_tokens(now + DAY * 1_000, PAGE, EPOCH).await.unwrap(), 1);
    assert_eq!(world.store.token(dead.id).await.unwrap(), None);
    for kept in [&lately, &good] {
        assert!(world.store.token(kept.id).await.unwrap().is_some());
    }
    assert_eq!(world.store.remove_dead_tokens(now, PAGE, EPOCH).await.unwrap(), 0);

    let next = token(&world, now - DAY * 3);
    let audit = world.row().await;
    world.store.create_token(&next, Mutation { audit: &audit, request: None }).await.unwrap();
    let late = world.store.remove_dead_tokens(now, PAGE, EPOCH - 1).await;
    assert!(matches!(late, Err(StoreError::Fenced)), "a leader of before: {late:?}");
    assert!(world.store.token(next.id).await.unwrap().is_some());
}

/// An order in flight, and its certificate's id.
async fn in_flight(world: &World, name: &str) -> Order {
    let certificate = world.certificate(name).await;
    let claim = world.claim("one", LEASE).await.remove(0);
    let order = world.order(&certificate, &claim).await;
    let opened = world
        .store
        .open_order(&OpenOrder { order: order.clone(), fuse: FUSE, at: world.clock.now() })
        .await
        .unwrap();
    assert!(matches!(opened, Opened::Order(_)));
    order
}

async fn end(world: &World, order: &Order, epoch: i64) -> Result<bool, StoreError> {
    let problem = Problem::new(Class::Protocol, "order-abandoned", "nobody went on with it");
    world.store.end_abandoned_order(order, &problem, epoch, &world.row().await).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_no_job_goes_on_with_is_ended_and_gives_its_names_free() {
    let world = with(Retention::default()).await;
    let order = in_flight(&world, "a.example.test").await;
    let now = world.clock.now();
    assert!(world.store.old_live_orders(now - DAY, None, PAGE).await.unwrap().0.is_empty(), "it is young");
    let (old, last) = world.store.old_live_orders(now + DAY, None, PAGE).await.unwrap();
    assert_eq!(last, None, "there is nothing behind it");
    assert_eq!(old, std::slice::from_ref(&order));
    assert!(
        world.store.old_live_orders(now + DAY, Some(&order.id.to_string()), PAGE).await.unwrap().0.is_empty()
    );

    assert!(!end(&world, &order, 1).await.unwrap(), "its job lives");
    let over = doc! { "$set": { "alive": false, "state": "cancelled" } };
    let jobs = raw(&world).await.collection::<Document>("jobs");
    jobs.update_many(doc! { "lists": order.certificate.to_string() }, over).await.unwrap();
    let moved_on = Order { revision: order.revision + 1, ..order.clone() };
    assert!(!end(&world, &moved_on, 1).await.unwrap(), "it is not as it was seen");
    assert!(end(&world, &order, 3).await.unwrap());
    assert!(!end(&world, &order, 3).await.unwrap(), "it was ended twice");

    let stored = world.store.order(order.id).await.unwrap().unwrap();
    assert!(
        matches!(stored.state, OrderState::Failed { .. }) && stored.key.sealed.ct.is_empty(),
        "{stored:?}"
    );
    assert!((29..=30).contains(&days_left(&world, "orders").await));
    let certificate = world.store.certificate(world.project, order.certificate).await.unwrap().unwrap();
    assert_eq!(certificate.order, None);

    let other = in_flight(&world, "b.example.test").await;
    jobs.update_many(doc! { "lists": other.certificate.to_string() }, doc! { "$set": { "alive": false } })
        .await
        .unwrap();
    let late = end(&world, &other, 2).await;
    assert!(matches!(late, Err(StoreError::Fenced)), "{late:?}");
    assert!(world.store.order(other.id).await.unwrap().unwrap().state.is_live());
}
