// SPDX-License-Identifier: Apache-2.0
//! How far a look at the queue goes: where its index ends, and what a quick look sees.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cap_core::clock::earlier;
use cap_core::id::ClaimId;
use cap_core::job::Room;
use cap_core::limits::{JOB_PARTITIONS, PARTITIONS};
use cap_store::{Claimed, Search};
use cap_testkit::mongo::driver::bson::{DateTime, Document, doc};
use cap_testkit::mongo::driver::options::Hint;
use futures_util::TryStreamExt;
use jiff::Timestamp;

use crate::queue::raw;
use crate::world::{LEASE, World, search};

/// Without it, a look runs on through the traces of all partitions behind its own.
#[tokio::test(flavor = "multi_thread")]
async fn every_range_of_the_index_ends_at_a_bound() {
    let world = World::new().await;
    world.certificate("a.example.test").await;
    let jobs = raw(&world).await.collection::<Document>("jobs");
    let keys = jobs.find(doc! { "p": { "$gte": 0 }, "claim_at": { "$exists": true } });
    let keys: Vec<Document> =
        keys.hint(Hint::Name("due".to_owned())).await.unwrap().try_collect().await.unwrap();
    let ends: BTreeSet<(i32, String)> = keys
        .iter()
        .filter(|key| key.get_datetime("claim_at").unwrap().timestamp_millis() > 253_000_000_000_000)
        .map(|key| (key.get_i32("p").unwrap(), key.get_str("state").unwrap().to_owned()))
        .collect();
    for partition in 0..PARTITIONS {
        for state in ["queued", "running"] {
            let end = (i32::from(partition), format!("{state}/end"));
            assert!(ends.contains(&end), "no bound behind {partition}, {state}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bounds_that_somebody_removed_are_put_back_as_they_were() {
    let world = World::new().await;
    let jobs = raw(&world).await.collection::<Document>("jobs");
    let bounds = async || -> Vec<Document> {
        let all = jobs.find(doc! { "_id": { "$gte": "bound/", "$lt": "bound0" } }).sort(doc! { "_id": 1 });
        all.await.unwrap().try_collect().await.unwrap()
    };
    let made = bounds().await;
    assert_eq!(made.len(), 2 * usize::from(PARTITIONS));
    assert_eq!(world.store.restore_bounds(1).await.unwrap(), 0);
    jobs.delete_many(doc! { "_id": { "$in": ["bound/0/queued/end", "bound/72/running/end"] } })
        .await
        .unwrap();
    assert_eq!(world.store.restore_bounds(1).await.unwrap(), 2);
    let same = |bounds: Vec<Document>| -> Vec<String> {
        let fields = ["_id", "p", "state", "claim_at"];
        bounds.iter().map(|bound| format!("{:?}", fields.map(|field| bound.get(field)))).collect()
    };
    assert_eq!(same(bounds().await), same(made));
    jobs.delete_many(doc! { "_id": { "$gte": "bound/", "$lt": "bound0" } }).await.unwrap();
    assert_eq!(world.store.restore_bounds(1).await.unwrap(), 2 * usize::from(PARTITIONS));
}

/// A look that goes back to `since`.
async fn look(world: &World, since: Option<Timestamp>) -> Claimed {
    let token = ClaimId::generate(world.clock.as_ref(), world.entropy.as_ref());
    let all: Vec<u16> = (0..JOB_PARTITIONS).collect();
    let held = BTreeMap::new();
    let search = Search { partitions: &all, since, ..search(&held, world.clock.now()) };
    world.store.claim_jobs("one", token, LEASE, &search).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quick_look_sees_what_comes_due_and_a_whole_one_what_was_left() {
    let world = World::new().await;
    let since = earlier(world.clock.now(), Duration::from_secs(10));
    // Somebody died with this one, and its lease is over.
    world.certificate("lost.example.test").await;
    assert_eq!(world.claim("dead", Duration::ZERO).await.len(), 1);
    assert_eq!(look(&world, Some(since)).await.claims.len(), 0, "a lease is nothing for a quick look");

    world.certificate("new.example.test").await;
    let quick = look(&world, Some(since)).await;
    assert_eq!(quick.claims.len(), 1);
    assert!(quick.oldest.is_some_and(|oldest| oldest >= since), "{quick:?}");

    let whole = look(&world, None).await;
    assert_eq!(whole.claims.len(), 1, "the lost one");
    assert_eq!(whole.oldest, None, "nothing waits");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_says_since_when_what_it_leaves_has_been_due() {
    let world = World::new().await;
    let hour_ago = DateTime::from_millis(world.clock.now().as_millisecond() - 3_600_000);
    for name in ["one.example.test", "other.example.test"] {
        world.certificate(name).await;
    }
    let jobs = raw(&world).await.collection::<Document>("jobs");
    let due = doc! { "state": "queued", "claim_at": { "$lte": DateTime::from_millis(world.clock.now().as_millisecond()) } };
    jobs.update_many(due, doc! { "$set": { "claim_at": hour_ago } }).await.unwrap();
    let (all, held): (Vec<u16>, _) = ((0..JOB_PARTITIONS).collect(), BTreeMap::new());
    let one = Room { all: 1, side: 0 };
    let search = Search { room: one, partitions: &all, ..search(&held, world.clock.now()) };
    let token = ClaimId::generate(world.clock.as_ref(), world.entropy.as_ref());
    let found = world.store.claim_jobs("one", token, LEASE, &search).await.unwrap();
    assert_eq!(found.claims.len(), 1);
    assert_eq!(found.oldest.map(Timestamp::as_millisecond), Some(hour_ago.timestamp_millis()));
}
