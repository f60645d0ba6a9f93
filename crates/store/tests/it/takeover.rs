// SPDX-License-Identifier: Apache-2.0
//! Taking a job from a peer: not while it could not extend its lease. And jobs that a wrong clock stamped: not for days.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use cap_core::clock::{Clock, later};
use cap_core::id::{ClaimId, JobId};
use cap_core::job::{Claim, Settlement};
use cap_core::limits::{JOB_PARTITIONS, RETRY_AFTER_MAX};
use cap_store::Search;
use cap_testkit::mongo::driver::bson::{DateTime, Document, doc};
use jiff::Timestamp;

use crate::queue::raw;
use crate::world::{LEASE, World, search};

const DAY: Duration = Duration::from_secs(86_400);

/// A clock that is a second later each time that it is read.
#[derive(Debug, Default)]
struct Ticks(Mutex<u64>);

#[async_trait]
impl Clock for Ticks {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    fn boottime(&self) -> Duration {
        let mut ticks = self.0.lock().unwrap();
        *ticks += 1;
        Duration::from_secs(*ticks)
    }

    async fn sleep(&self, _: Duration) {}
}

/// A job that a peer holds under a lease that ran out, and one that waits.
struct Two {
    world: World,
    held: JobId,
    waiting: JobId,
    /// Since when both are due.
    due_at: DateTime,
}

impl Two {
    async fn new() -> Self {
        let world = World::new().await;
        world.certificate("held.example.test").await;
        let held = world.claim("peer", Duration::ZERO).await.remove(0).job;
        let waiting = world.certificate_before("waits.example.test", None).await.1.id;
        let due_at = DateTime::from_millis(world.clock.now().as_millisecond() - 1_000);
        Self { world, held, waiting, due_at }
    }

    /// What a look takes that differs from the usual by this; afterwards both jobs are again as they were.
    async fn taken(&self, differs: impl for<'a> FnOnce(&mut Search<'a>)) -> Vec<JobId> {
        self.taken_until(None, differs).await
    }

    async fn taken_until(
        &self,
        fair_until: Option<(&dyn Clock, Duration)>,
        differs: impl for<'a> FnOnce(&mut Search<'a>),
    ) -> Vec<JobId> {
        let Self { world, .. } = self;
        let all: Vec<u16> = (0..JOB_PARTITIONS).collect();
        let held = BTreeMap::new();
        let mut look = Search { partitions: &all, fair_until, ..search(&held, world.clock.now()) };
        differs(&mut look);
        let token = ClaimId::generate(world.clock.as_ref(), world.entropy.as_ref());
        let claims = world.store.claim_jobs("one", token, LEASE, &look).await.unwrap().claims;
        let jobs = raw(world).await.collection::<Document>("jobs");
        for (job, state) in [(self.held, "running"), (self.waiting, "queued")] {
            let as_before =
                doc! { "$set": { "claim_at": self.due_at, "state": state, "lease_ms": 60_000_i64 } };
            jobs.update_one(doc! { "_id": job.to_string() }, as_before).await.unwrap();
        }
        let mut ids: Vec<JobId> = claims.iter().map(|claim| claim.job).collect();
        ids.sort_unstable();
        ids
    }

    fn both(&self) -> Vec<JobId> {
        let mut both = vec![self.held, self.waiting];
        both.sort_unstable();
        both
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_that_may_not_take_over_leaves_what_a_peer_may_still_hold() {
    let two = Two::new().await;
    for (by_lanes, is_crowded) in [(false, false), (true, false), (true, true)] {
        let what = format!("by lanes: {by_lanes}, crowded: {is_crowded}");
        let taken = two.taken(|look| {
            (look.by_lanes, look.is_crowded, look.takes_over) = (by_lanes, is_crowded, false);
        });
        assert_eq!(taken.await, [two.waiting], "{what}");
        let taken = two.taken(|look| (look.by_lanes, look.is_crowded) = (by_lanes, is_crowded));
        assert_eq!(taken.await, two.both(), "{what}");
    }
}

/// It may have waited for a primary, and seen no error: the holder of the lease waited as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_look_that_was_answered_late_takes_nothing_from_a_peer() {
    let two = Two::new().await;
    let (late, soon) = (Ticks::default(), Ticks::default());
    let taken = two.taken_until(Some((&late, Duration::ZERO)), |_| {}).await;
    assert_eq!(taken, [two.waiting]);
    let taken = two.taken_until(Some((&soon, Duration::from_secs(3_600))), |_| {}).await;
    assert_eq!(taken, two.both());
}

/// Lets the job of this claim wait for so long, and then be due `ahead` later than that.
async fn stamped(world: &World, claim: &Claim, after: Duration, ahead: Duration) {
    let again = Settlement::Again { after, problem: None, setbacks: None };
    world.store.settle(claim, &again, world.clock.now()).await.unwrap();
    let ahead_ms = i64::try_from(ahead.as_millis()).unwrap();
    let later = vec![doc! { "$set": { "claim_at": { "$add": ["$claim_at", ahead_ms] } } }];
    let jobs = raw(world).await.collection::<Document>("jobs");
    jobs.update_one(doc! { "_id": claim.job.to_string() }, later).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_a_clock_stamped_days_ahead_is_brought_forward_and_one_that_waits_for_days_is_not() {
    let world = World::new().await;
    for name in ["days.example.test", "hour.example.test", "right.example.test", "soon.example.test"] {
        world.certificate(name).await;
    }
    let claims = world.claim("one", LEASE).await;
    let [days, hour, right, soon] = claims.as_slice() else { panic!("{claims:?}") };
    stamped(&world, days, Duration::from_secs(60), DAY * 2).await;
    stamped(&world, hour, Duration::from_secs(60), DAY / 24).await;
    // As long as an issuance that the fuse stopped may wait.
    stamped(&world, right, DAY * 7, Duration::ZERO).await;
    stamped(&world, soon, RETRY_AFTER_MAX, Duration::ZERO).await;
    let now = world.clock.now();
    // A leader whose clock is ahead finds nothing more: the database's decides.
    assert_eq!(world.store.end_wrong_waits(later(now, DAY * 400), 10, 1).await.unwrap(), 0);
    assert_eq!(world.store.end_wrong_waits(now, 10, 1).await.unwrap(), 2);
    assert_eq!(world.store.end_wrong_waits(now, 10, 1).await.unwrap(), 0);
    let due: BTreeSet<JobId> = world.claim("two", LEASE).await.iter().map(|claim| claim.job).collect();
    assert_eq!(due, [days.job, hour.job].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_was_queued_by_a_clock_days_ahead_is_brought_forward() {
    let world = World::new().await;
    let (_, draft) = world.certificate_before("a.example.test", None).await;
    let jobs = raw(&world).await.collection::<Document>("jobs");
    let ahead = doc! { "$dateAdd": { "startDate": "$$NOW", "unit": "day", "amount": 2 } };
    let stamped = vec![doc! { "$set": { "claim_at": ahead } }];
    jobs.update_one(doc! { "_id": draft.id.to_string() }, stamped).await.unwrap();
    assert!(world.claim("one", LEASE).await.is_empty());
    assert_eq!(world.store.end_wrong_waits(world.clock.now(), 10, 1).await.unwrap(), 1);
    assert_eq!(world.claim("one", LEASE).await[0].job, draft.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_that_a_clock_put_off_for_longer_than_any_is_made_now() {
    let (world, certificate) = crate::drift::on_and_issued().await;
    let certificates = raw(&world).await.collection::<Document>("certificates");
    let own = doc! { "_id": certificate.id.to_string() };
    let ahead = |days: i32| {
        let at = doc! { "$dateAdd": { "startDate": "$$NOW", "unit": "day", "amount": days } };
        vec![doc! { "$set": { "drift_at": &at, "ari_at": at } }]
    };
    let days = async || {
        let found = certificates.find_one(own.clone()).await.unwrap().unwrap();
        let ahead = |field| {
            let at = found.get_datetime(field).unwrap().timestamp_millis();
            (at - world.clock.now().as_millisecond() + 3_600_000) / 86_400_000
        };
        (ahead("drift_at"), ahead("ari_at"))
    };
    for (put_off, then, ended) in [(40, (0, 0), 2), (30, (30, 0), 1), (2, (2, 2), 0)] {
        certificates.update_one(own.clone(), ahead(put_off)).await.unwrap();
        let now = world.clock.now();
        // A leader whose clock is behind finds nothing more: the database's decides.
        let behind = cap_core::clock::earlier(now, DAY * 400);
        assert_eq!(world.store.end_far_looks(behind, 10, 1).await.unwrap(), ended, "{put_off}");
        assert_eq!(days().await, then, "{put_off}");
        assert_eq!(world.store.end_far_looks(now, 10, 1).await.unwrap(), 0, "{put_off}");
    }
}

/// Otherwise a worker whose database fails now and then would leave for ever what nobody holds any more.
#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_extended_for_as_long_as_its_lease_is_taken_all_the_same() {
    let mut two = Two::new().await;
    two.due_at = DateTime::from_millis(two.world.clock.now().as_millisecond() - 61_000);
    two.taken(|_| {}).await;
    for by_lanes in [false, true] {
        let taken = two.taken(|look| (look.by_lanes, look.takes_over) = (by_lanes, false)).await;
        assert_eq!(taken, two.both());
    }
}
