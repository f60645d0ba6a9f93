// SPDX-License-Identifier: Apache-2.0
//! Totals of finished jobs: each job counts once, whenever it ended, whoever counts, and wherever they are cut off.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use cap_core::id::JobId;
use cap_core::job::Settlement;
use cap_core::page::Page;
use cap_core::retention::Retention;
use cap_core::totals::{Hour, TotalId};
use cap_store::{COUNT_PAGE, StoreError};
use cap_testkit::mongo::driver::bson::{DateTime, Document, doc};
use cap_testkit::wait::{self, Pending};
use jiff::Timestamp;

use crate::queue::raw;
use crate::world::{LEASE, World};

/// More than the locks of one that was cut off, and a busy machine, take.
const COUNTED_WITHIN: Duration = Duration::from_secs(120);
const HOUR: Duration = Duration::from_secs(3_600);

/// Puts so many jobs of a kind that ended at `at` straight into the collection.
async fn ended(world: &World, count: usize, kind: &str, state: &str, at: Timestamp) {
    let at = DateTime::from_millis(at.as_millisecond());
    let job = |_| {
        let id = JobId::generate(world.clock.as_ref(), world.entropy.as_ref()).to_string();
        doc! {
            "_id": &id, "key": &id, "project": world.project.to_string(), "work": { "kind": kind }, "alive": false,
            "state": state, "finished_at": at, "uncounted": true,
        }
    };
    let jobs = raw(world).await.collection::<Document>("jobs");
    jobs.insert_many((0..count).map(job)).await.unwrap();
}

/// Counts page after page until nothing is left; a page that meets another leader, or one that was cut off, is counted again.
async fn count_all(world: &World, epoch: i64) -> u32 {
    let counted = AtomicU32::new(0);
    wait::until("nothing to be left to count", COUNTED_WITHIN, || async {
        loop {
            match world.store.count_finished(epoch).await {
                Ok(0) => return Ok(()),
                Ok(page) => counted.fetch_add(page, Ordering::Relaxed),
                Err(error @ StoreError::Unavailable { .. }) => return Err(Pending::not_yet(error)),
                Err(error) => return Err(Pending::Never(error.into())),
            };
        }
    })
    .await
    .unwrap();
    counted.into_inner()
}

/// The totals, by kind and outcome and the hour's beginning.
async fn totals(world: &World, since: Option<Timestamp>) -> BTreeMap<(String, String, Timestamp), u64> {
    let (mut seen, mut cursor) = (BTreeMap::new(), None::<String>);
    loop {
        let page = Page::parse::<TotalId>(Some(2), cursor.as_deref()).unwrap();
        let slice = world.store.job_totals(world.project, since, &page).await.unwrap();
        for total in slice.items {
            let key = (total.id.kind.clone(), total.id.outcome.to_owned(), total.id.hour.start());
            assert_eq!(seen.insert(key, total.jobs), None, "{total:?} was listed twice");
        }
        cursor = slice.next_cursor;
        if cursor.is_none() {
            return seen;
        }
    }
}

async fn sum(world: &World) -> u64 {
    totals(world, None).await.values().sum()
}

async fn job(world: &World, id: JobId) -> Document {
    let jobs = raw(world).await.collection::<Document>("jobs");
    jobs.find_one(doc! { "_id": id.to_string() }).await.unwrap().unwrap()
}

/// Whatever another build left there, however much of it: others are counted, and expire.
#[tokio::test(flavor = "multi_thread")]
async fn what_ended_and_cannot_be_read_keeps_nothing_else_from_being_counted() {
    let world = World::new().await;
    let (now, many) = (world.clock.now(), COUNT_PAGE as usize * 3);
    ended(&world, many, "issue", "evaporated", cap_core::clock::earlier(now, HOUR)).await;
    ended(&world, 3, "issue", "succeeded", now).await;
    assert_eq!(world.store.count_finished(1).await.unwrap(), 3);
    assert_eq!(sum(&world).await, 3);
    let jobs = raw(&world).await.collection::<Document>("jobs");
    let left = jobs.count_documents(doc! { "uncounted": true }).await.unwrap();
    assert_eq!(left, u64::try_from(many).unwrap());
    assert!(world.store.count_finished(1).await.is_err(), "nobody is told that they are left");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ended_is_counted_once_into_its_hour_and_only_then_expires() {
    let mut world = World::new().await;
    let retention = Retention { jobs: HOUR * 5, totals: HOUR * 48, ..Retention::default() };
    world.store = world.store.clone().keeping(retention);
    for name in ["a.example.test", "b.example.test", "c.example.test"] {
        world.certificate(name).await;
    }
    let claims = world.claim("one", LEASE).await;
    let now = world.clock.now();
    world.store.settle(&claims[0], &Settlement::Succeeded, now).await.unwrap();
    world.store.settle(&claims[1], &Settlement::Superseded, now).await.unwrap();
    let over = job(&world, claims[0].job).await;
    assert!(!over.contains_key("expire_at"), "it may go before it is counted: {over}");

    assert_eq!(world.store.count_finished(1).await.unwrap(), 2, "what lives is not counted");
    assert_eq!(world.store.count_finished(1).await.unwrap(), 0);
    let seen: Vec<_> =
        totals(&world, None).await.into_iter().map(|((kind, how, _), jobs)| (kind, how, jobs)).collect();
    let issue = |how: &str| ("issue".to_owned(), how.to_owned(), 1);
    assert_eq!(seen, [issue("cancelled"), issue("succeeded")]);

    let over = job(&world, claims[0].job).await;
    let left =
        over.get_datetime("expire_at").unwrap().timestamp_millis() - world.clock.now().as_millisecond();
    assert!((17_900_000..=18_060_000).contains(&left), "kept for {left} ms");
    assert!(!over.contains_key("uncounted"), "{over}");
    let total =
        raw(&world).await.collection::<Document>("job_totals").find_one(doc! {}).await.unwrap().unwrap();
    let kept = total.get_datetime("expire_at").unwrap().timestamp_millis();
    let hour: Hour = total.get_str("_id").unwrap().split('/').nth(1).unwrap().parse().unwrap();
    assert_eq!(kept - hour.start().as_millisecond(), 49 * 3_600_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_many_hours_are_counted_page_by_page_and_what_was_counted_may_go_meanwhile() {
    let world = World::new().await;
    let hour = Hour::of(world.clock.now()).start();
    // One that ended in the last millisecond of an hour belongs to it, and one of the next millisecond does not.
    let edge = hour - Duration::from_millis(1);
    ended(&world, 700, "issue", "succeeded", edge).await;
    ended(&world, 400, "issue", "succeeded", hour).await;
    ended(&world, 100, "scan-drift", "dead", edge).await;
    let jobs = raw(&world).await.collection::<Document>("jobs");
    assert_eq!(world.store.count_finished(1).await.unwrap(), COUNT_PAGE);
    // What the TTL index would do by and by.
    let gone = jobs.delete_many(doc! { "expire_at": { "$exists": true } }).await.unwrap();
    assert_eq!(gone.deleted_count, u64::from(COUNT_PAGE));
    // A transaction that was committed late: behind what was counted already.
    ended(&world, 50, "issue", "succeeded", edge - Duration::from_secs(7_200)).await;
    // Less is told where the answer to a commit was lost; the totals have it.
    assert!(count_all(&world, 1).await <= 1_250 - COUNT_PAGE);
    let (kind, how) = ("issue".to_owned(), "succeeded".to_owned());
    let expected = BTreeMap::from([
        ((kind.clone(), how.clone(), hour - HOUR * 3), 50),
        ((kind.clone(), how.clone(), hour - HOUR), 700),
        ((kind.clone(), how.clone(), hour), 400),
        (("scan-drift".to_owned(), "dead".to_owned(), hour - HOUR), 100),
    ]);
    assert_eq!(totals(&world, None).await, expected);
    let lately = totals(&world, Some(hour + Duration::from_secs(1))).await;
    assert_eq!(lately, BTreeMap::from([((kind, how, hour), 400)]));
    jobs.delete_many(doc! { "expire_at": { "$exists": true } }).await.unwrap();
    assert_eq!((count_all(&world, 1).await, sum(&world).await), (0, 1_250));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_counts_is_cut_off_anywhere_and_nothing_is_counted_twice_or_missed() {
    let world = World::new().await;
    ended(&world, 3_000, "issue", "succeeded", world.clock.now()).await;
    let mut cut = 0;
    for wait_ms in (1..80).step_by(3) {
        let count = world.store.count_finished(1);
        cut += u32::from(tokio::time::timeout(Duration::from_millis(wait_ms), count).await.is_err());
    }
    assert!(cut > 0, "nobody was cut off, so this shows nothing");
    count_all(&world, 1).await;
    assert_eq!(sum(&world).await, 3_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_leaders_at_once_count_each_job_once_and_the_earlier_one_stops() {
    let world = World::new().await;
    ended(&world, 3_000, "issue", "succeeded", world.clock.now()).await;
    // Two that believe to have the same lead, which cannot be: even so.
    let (one, two) = tokio::join!(count_all(&world, 4), count_all(&world, 4));
    // Less is told where the answer to a commit was lost; the totals have it.
    assert!(one + two <= 3_000, "{one} and {two}");
    assert_eq!(sum(&world).await, 3_000);

    ended(&world, 10, "issue", "succeeded", world.clock.now()).await;
    assert_eq!(world.store.count_finished(5).await.unwrap(), 10);
    ended(&world, 7, "issue", "succeeded", world.clock.now()).await;
    let late = world.store.count_finished(4).await;
    assert!(matches!(late, Err(StoreError::Fenced)), "{late:?}");
    assert_eq!(sum(&world).await, 3_010, "a leader of an earlier epoch counted");
    assert_eq!(count_all(&world, 5).await, 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_cannot_be_read_keeps_no_other_from_being_counted() {
    let world = World::new().await;
    let jobs = raw(&world).await.collection::<Document>("jobs");
    jobs.insert_one(doc! { "_id": "job_broken", "state": "succeeded", "uncounted": true }).await.unwrap();
    ended(&world, 3, "issue", "succeeded", world.clock.now()).await;
    assert_eq!(world.store.count_finished(1).await.unwrap(), 3);
    assert_eq!(sum(&world).await, 3);
    let alone = world.store.count_finished(1).await;
    assert!(
        matches!(&alone, Err(StoreError::Corrupt { cause, .. }) if cause.contains("job_broken")),
        "{alone:?}"
    );
    assert_eq!(jobs.count_documents(doc! { "_id": "job_broken" }).await.unwrap(), 1);
}
