// SPDX-License-Identifier: Apache-2.0
//! How deep the queue is: counted up to a bound, written by the leader alone, told only while it is young.

use std::time::Duration;

use cap_core::id::JobId;
use cap_core::job::partition;
use cap_core::limits::{ARI_PARTITION, JOB_PARTITIONS, QUEUE_COUNT, QUEUE_SAMPLE_KEPT, REVOCATION_PARTITION};
use cap_core::queue::{ByKind, Depth, OfKind, Sample};
use cap_store::StoreError;
use cap_testkit::mongo::driver::bson::{DateTime, Document, doc};
use cap_testkit::mongo::driver::{Client, Collection, Database};

use crate::explain::{asked, explain};
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
    let oldest_age = Duration::from_secs(2);
    let mut kinds = ByKind::default();
    kinds[2] = OfKind { due: 10_001, running: 3, capped: true, oldest_age };
    // As the database has it: in milliseconds.
    let measured_at = jiff::Timestamp::from_millisecond(world.clock.now().as_millisecond()).unwrap();
    Sample { depth: depth(jobs), oldest_age, kinds: Some(kinds), measured_at }
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
    // And what stands there is counted further than all of them are.
    jobs.update_many(doc! {}, doc! { "$set": { "p": 0 } }).await.unwrap();
    let told = world.store.sample_queue().await.unwrap().depth;
    assert_eq!(told, Depth { jobs: u64::from(JOB_PARTITIONS) * 3 * QUEUE_COUNT, capped: true });
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
    assert_eq!(told.kinds, sample(&world, 9).kinds);
    // A leader of an earlier build leaves the numbers by kind as they were.
    let set = doc! { "$set": { "measured_at": { "$add": ["$measured_at", 1] } } };
    gauges(&world).await.update_one(doc! { "_id": "queue" }, vec![set]).await.unwrap();
    assert_eq!(world.store.queue_sample().await.unwrap().unwrap().kinds, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_is_counted_by_itself_with_the_age_of_its_oldest() {
    let world = World::new().await;
    let jobs = raw(&world).await.collection::<Document>("jobs");
    let now_ms = world.clock.now().as_millisecond();
    let ago = |seconds: i64| DateTime::from_millis(now_ms - 1_000 * seconds);
    let job = |n: i32, kind: &str, p: u16, state: &str, at| {
        let id = format!("{kind}/{n}");
        doc! {
            "_id": &id, "key": &id, "alive": true, "p": i32::from(p), "work": { "kind": kind }, "state": state, "claim_at": at,
        }
    };
    let hour = DateTime::from_millis(now_ms + 3_600_000);
    jobs.insert_many([
        job(1, "register-issuer", 7, "queued", ago(900)),
        job(2, "issue", 7, "queued", ago(600)),
        job(3, "issue", 8, "queued", ago(500)),
        job(4, "issue", 9, "running", hour),
        job(5, "issue", 9, "queued", hour),
        job(6, "drift-scan", JOB_PARTITIONS + 3, "queued", ago(300)),
        job(7, "drift-scan", JOB_PARTITIONS, "running", hour),
        job(8, "renewal-look", ARI_PARTITION, "running", ago(100)),
        job(9, "revoke", REVOCATION_PARTITION, "queued", ago(200)),
    ])
    .await
    .unwrap();
    let sample = world.store.sample_queue().await.unwrap();
    assert_eq!(sample.depth, depth(4), "what only looks is in no depth");
    let seen = sample.kinds.unwrap().map(|kind| {
        assert!(!kind.capped);
        (kind.due, kind.running, kind.oldest_age.as_secs() / 100)
    });
    assert_eq!(seen, [(2, 1, 6), (1, 0, 9), (1, 1, 3), (1, 0, 1), (1, 0, 2)]);
    assert_eq!(sample.oldest_age.as_secs() / 100, 9);
}

/// Registrations and issuances straight in the queue, spread evenly over the partitions, the n-th due at `at(n)`.
async fn put(world: &World, kind: &str, numbers: std::ops::Range<u64>, at: impl Fn(u64) -> DateTime) {
    let job = |n| {
        // In the order of their numbers.
        let id = format!("{kind}/{n:08}");
        let p = i32::try_from(n % u64::from(JOB_PARTITIONS)).unwrap();
        doc! {
            "_id": &id, "key": &id, "alive": true, "p": p, "work": { "kind": kind }, "state": "queued", "claim_at": at(n),
        }
    };
    raw(world).await.collection::<Document>("jobs").insert_many(numbers.map(job)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn registrations_beyond_what_is_counted_are_no_issuances() {
    let world = World::new().await;
    let each = u64::from(JOB_PARTITIONS);
    put(&world, "register-issuer", 0..300 * each, |_| DateTime::from_millis(1)).await;
    let due = async || {
        let [issuing, registering, ..] = world.store.sample_queue().await.unwrap().kinds.unwrap();
        ((issuing.due, issuing.capped), (registering.due, registering.capped))
    };
    assert_eq!(due().await, ((0, false), (300 * each, true)));
    put(&world, "issue", 0..10 * each, |_| DateTime::from_millis(2)).await;
    assert_eq!(due().await, ((10 * each, false), (300 * each, true)));
}

#[tokio::test(flavor = "multi_thread")]
async fn registrations_that_are_due_are_found_behind_more_that_wait_than_are_counted() {
    const DUE: u64 = 3;
    let world = World::new().await;
    let database = raw(&world).await;
    let ago = |n: u64| {
        DateTime::from_millis(world.clock.now().as_millisecond() - 100_000 * i64::try_from(n).unwrap())
    };
    let hour = DateTime::from_millis(world.clock.now().as_millisecond() + 3_600_000);
    put(&world, "register-issuer", 0..QUEUE_COUNT + 1, |_| hour).await;
    put(&world, "register-issuer", QUEUE_COUNT + 1..QUEUE_COUNT + 1 + DUE, |n| ago(n - QUEUE_COUNT + 1))
        .await;
    put(&world, "issue", 0..2, |n| ago(n + 1)).await;
    let mut sample = None;
    let commands = asked(&database, async { sample = Some(world.store.sample_queue().await.unwrap()) }).await;
    let sample = sample.unwrap();
    let [issuing, registering, ..] = sample.kinds.unwrap();
    assert_eq!((sample.depth, issuing.due, registering.due), (depth(2 + DUE), 2, DUE));
    let age = |kind: OfKind| kind.oldest_age.as_secs() / 100;
    assert_eq!((age(issuing), age(registering)), (2, 1 + DUE));
    let more = commands
        .iter()
        .find(|command| command.to_string().contains("\"$eq\""))
        .expect("what is due is not looked at");
    let plan = explain(&database, more).await;
    plan.goes_by_an_index(more);
    assert!(plan.documents <= 2 + i64::try_from(DUE).unwrap(), "{plan:?}");
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
