// SPDX-License-Identifier: Apache-2.0
//! Instances, and asking a leader to step down: what is kept, what is forgotten, who is meant.

use std::time::Duration;

use bson::{Document, doc};
use cap_core::id::InstanceId;
use cap_core::instance::{Doing, LOST_AFTER, Roll, Standing, State};
use cap_core::lease::Term;
use cap_store::{Beat, MemberStanding, SCHEDULER_LEASE};
use cap_testkit::mongo::{ReplicaSet, ReplicaSetOptions};
use jiff::Timestamp;

use crate::queue::raw;
use crate::world::World;

const TTL: Duration = Duration::from_secs(60);

/// One process, as it beats.
pub(crate) struct Process {
    id: InstanceId,
    name: &'static str,
    started_at: Option<Timestamp>,
}

impl Process {
    pub(crate) fn new(world: &World, name: &'static str) -> Self {
        let id = InstanceId::generate(world.clock.as_ref(), world.entropy.as_ref());
        Self { id, name, started_at: None }
    }

    pub(crate) async fn beat(&mut self, world: &World, doing: Doing) {
        let beat = Beat {
            id: self.id,
            name: self.name,
            version: "1.0.0",
            commit: None,
            host: "$host",
            pid: 7,
            started_at: self.started_at,
            state: State::Ready,
            doing,
        };
        self.started_at = Some(world.store.beat(&beat, world.clock.as_ref()).await.unwrap());
    }

    /// Moves what is known of it into the past, as silence would.
    async fn is_silent_for(&self, world: &World, by: Duration) {
        let by = i64::try_from(by.as_millis()).unwrap();
        let earlier = |field: &str| {
            doc! { "$dateSubtract": { "startDate": field, "unit": "millisecond", "amount": by } }
        };
        let change =
            vec![doc! { "$set": { "started_at": earlier("$started_at"), "seen_at": earlier("$seen_at") } }];
        let instances = raw(world).await.collection::<Document>("instances");
        instances.update_one(doc! { "_id": self.id.to_string() }, change).await.unwrap();
    }
}

async fn roll(world: &World) -> Roll {
    world.store.roll().await.unwrap().0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_beat_keeps_one_entry_fresh_and_it_goes_with_a_goodbye() {
    let world = World::new().await;
    assert_eq!(roll(&world).await, Roll::default());
    let mut worker = Process::new(&world, "worker-0");
    worker.beat(&world, Doing::Worker { running: 0, concurrency: 32 }).await;
    worker.is_silent_for(&world, LOST_AFTER * 2).await;
    let lost = roll(&world).await;
    let [one] = lost.instances() else { panic!("{lost:?}") };
    assert_eq!((one.id, one.state), (worker.id, State::Lost));
    let started_at = one.started_at;
    worker.beat(&world, Doing::Worker { running: 3, concurrency: 32 }).await;
    let found = roll(&world).await;
    let [one] = found.instances() else { panic!("{found:?}") };
    assert_eq!((one.name.as_str(), one.host.as_str(), one.pid), ("worker-0", "$host", 7));
    assert_eq!((one.state, one.doing), (State::Ready, Doing::Worker { running: 3, concurrency: 32 }));
    assert_eq!(one.started_at, started_at, "a beat is no start");
    assert!(one.skew.unsigned_abs() < Duration::from_secs(5), "{:?}", one.skew);

    // An entry that is gone, by the hand of somebody, is made anew with the first beat that it had.
    let began = worker.started_at;
    world.store.forget_instance(worker.id).await.unwrap();
    assert_eq!(roll(&world).await, Roll::default());
    worker.beat(&world, Doing::Api).await;
    assert_eq!(worker.started_at, began);
    assert_eq!(Some(roll(&world).await.instances()[0].started_at), began);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_start_forgets_those_before_it_that_were_not_seen_since() {
    let world = World::new().await;
    let names = ["api-0", "api-0", "api-0", "api-1"];
    let [mut dead, mut alive, mut new, mut other] = names.map(|name| Process::new(&world, name));
    for process in [&mut dead, &mut alive, &mut other] {
        process.beat(&world, Doing::Api).await;
        process.is_silent_for(&world, Duration::from_secs(1)).await;
    }
    alive.started_at = None;
    new.beat(&world, Doing::Api).await;
    alive.beat(&world, Doing::Api).await;
    let gone = world.store.forget_replaced(new.id, "api", "api-0", new.started_at.unwrap()).await.unwrap();
    assert_eq!(gone, 1, "the dead one alone");
    let (called, _) = world.store.roll_of("api", "api-0").await.unwrap();
    let ids: Vec<InstanceId> = called.instances().iter().map(|one| one.id).collect();
    assert_eq!(ids, [alive.id, new.id]);
    assert_eq!(called.namesakes().len(), 1);
    assert_eq!(roll(&world).await.instances().len(), 3);
    assert!(world.store.roll_of("worker", "api-0").await.unwrap().0.instances().is_empty());
}

async fn acquire(world: &World, holder: &str) -> Term {
    for _ in 0..2 {
        let clock = world.clock.as_ref();
        let won = world.store.acquire_lease(SCHEDULER_LEASE, holder, holder, TTL, clock).await.unwrap();
        if let Some(term) = won {
            return term;
        }
    }
    panic!("{holder} did not win a lease that is free");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_epoch_that_is_named_is_asked_to_step_down() {
    let world = World::new().await;
    let extend = async |term| {
        world.store.extend_lease(SCHEDULER_LEASE, term, TTL, world.clock.as_ref()).await.unwrap()
    };
    let first = acquire(&world, "one").await;
    assert!(!first.asked_to_leave);
    assert!(!world.store.ask_step_down(SCHEDULER_LEASE, first.epoch - 1).await.unwrap());
    let was_asked = async |epoch| world.store.was_asked_to_step_down(SCHEDULER_LEASE, epoch).await.unwrap();
    assert!(!was_asked(first.epoch).await && !was_asked(first.epoch - 1).await);
    assert!(!extend(first).await.asked_to_leave, "another epoch was meant");

    let mut watch = world.store.watch_step_down(SCHEDULER_LEASE).await.unwrap();
    assert!(world.store.ask_step_down(SCHEDULER_LEASE, first.epoch).await.unwrap());
    tokio::time::timeout(Duration::from_secs(10), watch.changed()).await.expect("no wake-up").unwrap();
    assert!(extend(first).await.asked_to_leave);
    assert!(world.store.lease(SCHEDULER_LEASE).await.unwrap().unwrap().0.asked_to_leave);
    assert!(world.store.ask_step_down(SCHEDULER_LEASE, first.epoch).await.unwrap(), "asked twice");

    world.store.release_lease(SCHEDULER_LEASE, first).await.unwrap();
    assert!(!world.store.ask_step_down(SCHEDULER_LEASE, first.epoch).await.unwrap(), "it holds it no more");
    let second = acquire(&world, "two").await;
    assert_eq!(second.epoch, first.epoch + 1);
    // What was asked of the one before is still written there, and means nobody any more.
    assert!(!second.asked_to_leave && !extend(second).await.asked_to_leave);
    assert!(!world.store.ask_step_down(SCHEDULER_LEASE, first.epoch).await.unwrap());
    assert!(was_asked(first.epoch).await && !was_asked(second.epoch).await);
    assert!(!extend(second).await.asked_to_leave);
    let leases = world.store.leases().await.unwrap();
    let found = leases.iter().find(|(name, ..)| name == SCHEDULER_LEASE).unwrap();
    assert!(!found.1.asked_to_leave && found.1.since.is_some() && !found.2, "{leases:?}");
    assert!(leases.iter().any(|(name, _, expired)| name == "schema" && *expired), "{leases:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_replica_set_is_told_by_what_anybody_may_ask() {
    let set = ReplicaSet::start_with(ReplicaSetOptions { members: 3, ..ReplicaSetOptions::default() });
    let set = set.await.unwrap();
    let world = World::at(set.uri_for("certautopilot")).await;
    let state = world.store.replica_set().await.unwrap();
    let of = |standing| state.members.iter().filter(|member| member.standing == standing).count();
    assert_eq!((of(MemberStanding::Primary), of(MemberStanding::Secondary)), (1, 2), "{state:?}");
    assert!(state.name.is_some() && state.majority_lag.is_some(), "{state:?}");
    assert!(state.members.iter().all(|member| member.lag.is_some()), "{state:?}");

    let secondary = (set.primary().await.unwrap() + 1) % 3;
    set.kill(secondary).unwrap();
    let asked = std::time::Instant::now();
    let state = world.store.replica_set().await.unwrap();
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
    let away: Vec<_> =
        state.members.iter().filter(|member| member.standing == MemberStanding::Unavailable).collect();
    assert_eq!((away.len(), state.members.len()), (1, 3), "{state:?}");
}

/// A scheduler is a candidate as far as the roll says so.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_scheduler_says_of_itself_comes_back_whole() {
    let world = World::new().await;
    let mut scheduler = Process::new(&world, "scheduler-0");
    for standing in [Standing::Leads { epoch: 7 }, Standing::StandsBack, Standing::StandsBy] {
        scheduler.beat(&world, Doing::Scheduler(standing)).await;
        assert_eq!(roll(&world).await.instances()[0].doing, Doing::Scheduler(standing));
    }
    assert_eq!(roll(&world).await.standbys("another"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_was_seen_in_the_future_is_forgotten_and_one_that_lives_tells_again() {
    let world = World::new().await;
    let (mut lives, mut dead) = (Process::new(&world, "api-0"), Process::new(&world, "worker-0"));
    let mut right = Process::new(&world, "worker-1");
    lives.beat(&world, Doing::Api).await;
    for process in [&mut dead, &mut right] {
        process.beat(&world, Doing::Worker { running: 0, concurrency: 32 }).await;
    }
    // As a primary would stamp them whose clock is two days ahead.
    let ahead = doc! { "$dateAdd": { "startDate": "$$NOW", "unit": "day", "amount": 2 } };
    let instances = raw(&world).await.collection::<Document>("instances");
    let both = doc! { "_id": { "$in": [lives.id.to_string(), dead.id.to_string()] } };
    instances.update_many(both, vec![doc! { "$set": { "seen_at": ahead } }]).await.unwrap();
    assert_eq!(roll(&world).await.count("worker", State::Lost), 1);
    let now = world.clock.now();
    assert_eq!(
        world.store.forget_ahead(cap_core::clock::later(now, TTL * 60 * 24 * 3), 10, 1).await.unwrap(),
        0
    );
    assert_eq!(world.store.forget_ahead(now, 10, 1).await.unwrap(), 2);
    lives.beat(&world, Doing::Api).await;
    let left = roll(&world).await;
    let names: Vec<&str> = left.instances().iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["api-0", "worker-1"]);
    assert!(left.instances().iter().all(|one| one.state == State::Ready), "{left:?}");
}
