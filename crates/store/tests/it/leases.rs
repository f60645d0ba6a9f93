// SPDX-License-Identifier: Apache-2.0
//! Leases: one holder, epochs that never repeat, and a stale holder that can do nothing.

use std::sync::Arc;
use std::time::Duration;

use cap_store::{SCHEDULER_LEASE, StoreError};

use crate::world::World;

const TTL: Duration = Duration::from_secs(60);

async fn acquire(world: &World, holder: &str, ttl: Duration) -> Option<cap_core::lease::Term> {
    // The first try may only create the lease.
    for _ in 0..2 {
        let nonce = format!("{holder}-{}", cap_core::entropy::below(world.entropy.as_ref(), u64::MAX));
        let won = world
            .store
            .acquire_lease(SCHEDULER_LEASE, holder, &nonce, ttl, world.clock.as_ref())
            .await
            .unwrap();
        if won.is_some() {
            return won;
        }
    }
    None
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_twenty_who_race_one_wins() {
    let world = Arc::new(World::new().await);
    let racers = (0..20).map(|n| {
        let world = world.clone();
        tokio::spawn(async move { acquire(&world, &format!("s{n}"), TTL).await })
    });
    let mut winners = 0;
    for racer in racers.collect::<Vec<_>>() {
        winners += usize::from(racer.await.unwrap().is_some());
    }
    assert_eq!(winners, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_ran_out_goes_to_another_under_a_higher_epoch() {
    let world = World::new().await;
    let first = acquire(&world, "one", Duration::ZERO).await.unwrap();
    let second = acquire(&world, "two", TTL).await.unwrap();
    assert!(second.epoch > first.epoch);
    let late = world.store.extend_lease(SCHEDULER_LEASE, first, TTL, world.clock.as_ref()).await;
    assert!(matches!(late, Err(StoreError::Fenced)));
    world.store.release_lease(SCHEDULER_LEASE, first).await.unwrap();
    assert_eq!(acquire(&world, "three", TTL).await, None, "a stale holder gave away what was not its own");
    let (lease, expired) = world.store.lease(SCHEDULER_LEASE).await.unwrap().unwrap();
    assert_eq!((lease.holder.as_str(), lease.epoch, expired), ("two", second.epoch, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_won_unheard_is_given_up_and_nothing_else_is() {
    let world = World::new().await;
    let first = acquire(&world, "one", Duration::ZERO).await.unwrap();
    let won = world.store.acquire_lease(SCHEDULER_LEASE, "two", "heard by nobody", TTL, world.clock.as_ref());
    assert!(won.await.unwrap().is_some_and(|term| term.epoch > first.epoch));
    world.store.release_unheard(SCHEDULER_LEASE, "of an earlier try").await.unwrap();
    assert_eq!(acquire(&world, "three", TTL).await, None);
    world.store.release_unheard(SCHEDULER_LEASE, "heard by nobody").await.unwrap();
    assert!(acquire(&world, "three", TTL).await.is_some());
}

/// The primary's clock was wrong when it stamped the lease; it is right now, and nobody shall wait for that time.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_ends_far_later_than_it_is_long_has_run_out() {
    use mongodb::bson::{Document, doc};
    let world = World::new().await;
    let first = acquire(&world, "one", TTL).await.unwrap();
    let raw = mongodb::Client::with_uri_str(&world.uri).await.unwrap().default_database().unwrap();
    let leases = raw.collection::<Document>("leases");
    let ends_in = async |lengths: f64| {
        let ms = i64::try_from(TTL.mul_f64(lengths).as_millis()).unwrap();
        let at = doc! { "$dateAdd": { "startDate": "$$NOW", "unit": "millisecond", "amount": ms } };
        leases
            .update_one(doc! { "_id": SCHEDULER_LEASE }, vec![doc! { "$set": { "expires_at": at } }])
            .await
            .unwrap();
    };
    ends_in(1.9).await;
    assert_eq!(acquire(&world, "two", TTL).await, None, "it runs");
    // Whoever waits for it with a shorter lease of its own does not take it for wrong.
    assert_eq!(acquire(&world, "two", TTL / 10).await, None, "it runs");
    assert!(!world.store.lease(SCHEDULER_LEASE).await.unwrap().unwrap().1);
    ends_in(2.1).await;
    assert!(world.store.lease(SCHEDULER_LEASE).await.unwrap().unwrap().1);
    let second = acquire(&world, "two", TTL).await.unwrap();
    assert!(second.epoch > first.epoch);
    assert!(second.clocks_agree(), "{second:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_learns_how_long_the_lease_runs_and_that_it_does_not() {
    let world = World::new().await;
    let left = async || world.store.lease_left(SCHEDULER_LEASE).await.unwrap();
    assert_eq!(left().await, None, "nobody ever had it");
    let term = acquire(&world, "one", TTL).await.unwrap();
    let first = left().await.unwrap();
    assert!(first <= TTL && first > TTL / 2, "{first:?}");
    assert!(left().await.unwrap() < TTL);
    world.store.release_lease(SCHEDULER_LEASE, term).await.unwrap();
    assert_eq!(left().await, None, "it was given up");
    acquire(&world, "two", Duration::ZERO).await.unwrap();
    assert_eq!(left().await, None, "it has run out");
}

#[tokio::test(flavor = "multi_thread")]
async fn stepping_down_wakes_the_standby() {
    let world = World::new().await;
    let term = acquire(&world, "one", TTL).await.unwrap();
    let mut watch = world.store.watch_lease(SCHEDULER_LEASE).await.unwrap();
    world.store.release_lease(SCHEDULER_LEASE, term).await.unwrap();
    tokio::time::timeout(Duration::from_secs(10), watch.changed()).await.expect("no wake-up").unwrap();
    assert!(acquire(&world, "two", TTL).await.is_some());
}

/// A try that hung, and was given up by its candidate, must not win behind the next one.
#[tokio::test(flavor = "multi_thread")]
async fn the_database_gives_a_try_for_the_lease_up_before_its_candidate_does() {
    use futures_util::TryStreamExt;
    use mongodb::bson::{Document, doc};
    let mut world = World::new().await;
    world.may_scan();
    let database = mongodb::Client::with_uri_str(&world.uri).await.unwrap().default_database().unwrap();
    database.run_command(doc! { "profile": 2 }).await.unwrap();
    let term = acquire(&world, "one", TTL).await.unwrap();
    world.store.extend_lease(SCHEDULER_LEASE, term, TTL, world.clock.as_ref()).await.unwrap();
    database.run_command(doc! { "profile": 0 }).await.unwrap();
    let profile = database.collection::<Document>("system.profile");
    let tries = doc! { "command.findAndModify": "leases" };
    let tries: Vec<Document> = profile.find(tries).await.unwrap().try_collect().await.unwrap();
    assert!(tries.len() >= 2, "{tries:?}");
    for command in tries.iter().map(|entry| entry.get_document("command").unwrap()) {
        let bound = command.get_i32("maxTimeMS").map(i64::from).or_else(|_| command.get_i64("maxTimeMS"));
        assert_eq!(bound.unwrap(), 4_000, "{command}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_leader_of_an_earlier_epoch_plans_changes_nothing() {
    use cap_core::job::{JobDraft, Work};
    use cap_store::Planned;
    let world = World::new().await;
    let certificate = world.certificate("a.example.test").await;
    let version = cap_core::id::VersionId::generate(world.clock.as_ref(), world.entropy.as_ref());
    let raw = mongodb::Client::with_uri_str(&world.uri).await.unwrap().default_database().unwrap();
    let due = world.clock.now();
    let at = mongodb::bson::DateTime::from_millis(due.as_millisecond());
    let version_id = version.to_string();
    let set =
        mongodb::bson::doc! { "$set": { "version": { "id": version_id }, "renew_at": at, "plan_at": at } };
    let certificates = raw.collection::<mongodb::bson::Document>("certificates");
    certificates.update_one(mongodb::bson::doc! { "_id": certificate.id.to_string() }, set).await.unwrap();

    let work = Work::Issue { certificate: certificate.id, made_for: Some(version) };
    let draft =
        || JobDraft::now(world.project, work.clone(), 0, world.clock.as_ref(), world.entropy.as_ref());
    let row = world.row().await;
    assert_eq!(world.store.plan_renewal(&draft(), due, 7, &row).await.unwrap(), Planned::Queued);
    let row = world.row().await;
    assert_eq!(
        world.store.plan_renewal(&draft(), due, 7, &row).await.unwrap(),
        Planned::Unneeded,
        "queued twice"
    );
    let row = world.row().await;
    // As if it were due again and nothing waited: only the epoch stands against it.
    let jobs = raw.collection::<mongodb::bson::Document>("jobs");
    jobs.delete_many(mongodb::bson::doc! { "work.kind": "issue" }).await.unwrap();
    let again = mongodb::bson::doc! { "$set": { "plan_at": at } };
    certificates.update_one(mongodb::bson::doc! { "_id": certificate.id.to_string() }, again).await.unwrap();
    assert_eq!(
        world.store.plan_renewal(&draft(), due, 6, &row).await.unwrap(),
        Planned::Unneeded,
        "a stale epoch wrote"
    );
    let stamped = certificates
        .find_one(mongodb::bson::doc! { "_id": certificate.id.to_string() })
        .await
        .unwrap()
        .unwrap();
    assert_eq!(stamped.get_i64("plan_epoch").unwrap(), 7);
}
