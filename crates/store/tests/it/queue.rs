// SPDX-License-Identifier: Apache-2.0
//! How deep the queue is: counted up to a bound, written by the leader alone, told only while it is young.

use std::time::Duration;

use cap_core::id::JobId;
use cap_core::job::partition;
use cap_core::limits::{JOB_PARTITIONS, QUEUE_COUNT, QUEUE_SAMPLE_KEPT};
use cap_core::queue::{Depth, Sample};
use cap_store::StoreError;
use cap_testkit::mongo::driver::bson::{DateTime, Document, doc};
use cap_testkit::mongo::driver::{Client, Collection, Database};

use crate::world::{LEASE, World};

/// The database itself, past the store.
pub(crate) async fn raw(world: &World) -> Database {
    Client::with_uri_str(&world.uri).await.unwrap().default_database().unwrap()
}

async fn gauges(world: &World) -> Collection<Document> {
    raw(world).await.collection("gauges")
}

/// Puts so many jobs straight into the queue, due since `since`.
pub(crate) async fn enqueue(world: &World, count: u64, since: DateTime) {
    let job = |_| {
        let id = JobId::generate(world.clock.as_ref(), world.entropy.as_ref());
        let p = i32::from(partition(id));
        doc! { "_id": id.to_string(), "key": id.to_string(), "p": p, "state": "queued", "claim_at": since }
    };
    let jobs = raw(world).await.collection::<Document>("jobs");
    jobs.insert_many((0..count).map(job)).await.unwrap();
}

fn depth(jobs: u64) -> Depth {
    Depth { jobs, capped: false }
}

fn sample(world: &World, jobs: u64) -> Sample {
    Sample { depth: depth(jobs), oldest_age: Duration::from_secs(2), measured_at: world.clock.now() }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_depth_is_what_is_due_or_running_and_nothing_that_waits_or_is_over() {
    let world = World::new().await;
    let empty = world.store.sample_queue().await.unwrap();
    assert_eq!((empty.depth, empty.oldest_age), (depth(0), Duration::ZERO));
    for name in ["a.example.test", "b.example.test", "c.example.test"] {
        world.certificate(name).await;
    }
    assert_eq!(world.store.sample_queue().await.unwrap().depth, depth(3), "the issuers' jobs are not due");
    let claims = world.claim("one", LEASE).await;
    let running = world.store.sample_queue().await.unwrap();
    assert_eq!((running.depth, running.oldest_age), (depth(3), Duration::ZERO), "nothing waits");
    let (now, over) = (world.clock.now(), cap_core::job::Settlement::Succeeded);
    world.store.settle(&claims[0], &over, now).await.unwrap();
    assert_eq!(world.store.sample_queue().await.unwrap().depth, depth(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drift_scan_is_in_no_depth_whether_it_waits_or_runs() {
    let world = World::new().await;
    let jobs = raw(&world).await.collection::<Document>("jobs");
    world.certificate("a.example.test").await;
    let scan = doc! { "$set": { "p": i32::from(JOB_PARTITIONS), "work.kind": "drift-scan" } };
    jobs.update_many(doc! { "work.kind": "issue" }, scan).await.unwrap();
    assert_eq!(world.store.sample_queue().await.unwrap().depth, depth(0), "it waits");
    let hour = doc! { "$dateAdd": { "startDate": "$$NOW", "unit": "hour", "amount": 1 } };
    let run = vec![doc! { "$set": { "state": "running", "claim_at": hour } }];
    jobs.update_many(doc! { "work.kind": "drift-scan" }, run).await.unwrap();
    assert_eq!(world.store.sample_queue().await.unwrap().depth, depth(0), "it runs");
    let other = doc! { "$set": { "p": i32::from(JOB_PARTITIONS) - 1 } };
    jobs.update_many(doc! { "work.kind": "drift-scan" }, other).await.unwrap();
    assert_eq!(world.store.sample_queue().await.unwrap().depth, depth(1), "beside work for a CA it counts");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_lease_ran_out_is_counted_once_and_has_an_age() {
    let world = World::new().await;
    world.certificate("a.example.test").await;
    world.claim("one", Duration::ZERO).await;
    assert_eq!(world.store.sample_queue().await.unwrap().depth, depth(1));
    let hour_ago = DateTime::from_millis(world.clock.now().as_millisecond() - 3_600_000);
    enqueue(&world, 1, hour_ago).await;
    let sample = world.store.sample_queue().await.unwrap();
    assert_eq!(sample.depth, depth(2));
    assert!((3_590..3_700).contains(&sample.oldest_age.as_secs()), "{sample:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_cap_the_depth_is_an_estimate_that_is_never_less() {
    let world = World::new().await;
    let past = DateTime::from_millis(1);
    enqueue(&world, QUEUE_COUNT, past).await;
    assert_eq!(world.store.sample_queue().await.unwrap().depth, depth(QUEUE_COUNT));
    enqueue(&world, 2 * QUEUE_COUNT, past).await;
    let Depth { jobs, capped } = world.store.sample_queue().await.unwrap().depth;
    assert!(capped && jobs > QUEUE_COUNT && jobs < 6 * QUEUE_COUNT, "{jobs} jobs of {}", 3 * QUEUE_COUNT);
    // Nothing at all in the partition that stands for all: what was counted still holds.
    let jobs = raw(&world).await.collection::<Document>("jobs");
    jobs.update_many(doc! { "p": 0 }, doc! { "$set": { "p": 1 } }).await.unwrap();
    let told = world.store.sample_queue().await.unwrap().depth;
    assert_eq!(told, Depth { jobs: QUEUE_COUNT + 1, capped: true });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_of_an_earlier_epoch_writes_no_gauge() {
    let world = World::new().await;
    assert_eq!(world.store.queue_sample().await.unwrap(), None, "nobody has measured");
    world.store.record_queue(&sample(&world, 7), 3).await.unwrap();
    world.store.record_queue(&sample(&world, 8), 3).await.unwrap();
    world.store.record_queue(&sample(&world, 9), 4).await.unwrap();
    let before = gauges(&world).await.find_one(doc! {}).await.unwrap();
    let late = world.store.record_queue(&sample(&world, 1), 3).await;
    assert!(matches!(late, Err(StoreError::Fenced)), "{late:?}");
    let after = gauges(&world).await.find_one(doc! {}).await.unwrap();
    assert_eq!(before, after);
    let told = world.store.queue_sample().await.unwrap().unwrap();
    assert_eq!((told.depth, told.oldest_age), (depth(9), Duration::from_secs(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_gauge_is_no_number_and_neither_is_one_from_the_future() {
    let world = World::new().await;
    world.store.record_queue(&sample(&world, 7), 1).await.unwrap();
    let kept = i64::try_from(QUEUE_SAMPLE_KEPT.as_millis()).unwrap();
    for (moved_ms, is_told) in [(5_000 - kept, true), (-1 - kept, false), (kept + 60_000, false)] {
        let at = doc! { "$dateAdd": { "startDate": "$$NOW", "unit": "millisecond", "amount": moved_ms } };
        let set = vec![doc! { "$set": { "measured_at": at } }];
        gauges(&world).await.update_one(doc! { "_id": "queue" }, set).await.unwrap();
        let told = world.store.queue_sample().await.unwrap();
        assert_eq!(told.is_some(), is_told, "moved by {moved_ms} ms: {told:?}");
    }
}
