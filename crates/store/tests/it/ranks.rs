// SPDX-License-Identifier: Apache-2.0
//! Ranks while jobs wait: what comes near its end overtakes what somebody merely asked for.

use std::time::Duration;

use cap_core::clock::later;
use cap_core::job::{Claim, Room};
use cap_core::limits::JOB_PARTITIONS;
use cap_store::Search;
use cap_testkit::mongo::driver::bson::{Document, doc};

use crate::explain::{asked, explain};
use crate::queue::raw;
use crate::world::{LEASE, World, search};

const DAY: Duration = Duration::from_secs(86_400);

/// The one job that goes first of those in the lane.
async fn first(world: &World) -> Claim {
    let token = cap_core::id::ClaimId::generate(world.clock.as_ref(), world.entropy.as_ref());
    let all: Vec<u16> = (0..JOB_PARTITIONS).collect();
    let held = std::collections::BTreeMap::new();
    let one = Room { all: 1, side: 0 };
    let search = Search { room: one, partitions: &all, is_crowded: true, ..search(&held, world.clock.now()) };
    world.store.claim_jobs("one", token, LEASE, &search).await.unwrap().claims.remove(0)
}

async fn rank(world: &World, job: cap_core::id::JobId) -> (i32, bool) {
    let jobs = raw(world).await.collection::<Document>("jobs");
    let job = jobs.find_one(doc! { "_id": job.to_string() }).await.unwrap().unwrap();
    (job.get_i32("rank").unwrap(), job.contains_key("rank_at"))
}

/// Lets a job that waits have waited for so long already: all its times were so long ago.
async fn wait(world: &World, job: cap_core::id::JobId, passed: Duration) {
    let ms = i64::try_from(passed.as_millis()).unwrap();
    let ago = |field: &str| doc! { "$subtract": [format!("${field}"), ms] };
    let set = doc! { "$set": {
        "claim_at": ago("claim_at"), "needed_before": ago("needed_before"), "rank_at": ago("rank_at"),
    } };
    let jobs = raw(world).await.collection::<Document>("jobs");
    jobs.update_one(doc! { "_id": job.to_string() }, vec![set]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_within_two_days_of_its_end_overtakes_what_somebody_asked_for() {
    let world = World::new().await;
    let (_, renewal) =
        world.certificate_before("a.example.test", Some(later(world.clock.now(), DAY * 3))).await;
    let (_, asked_for) = world.certificate_before("b.example.test", None).await;
    let jobs = raw(&world).await.collection::<Document>("jobs");
    let awaited = doc! { "$set": { "rank": 2, "rank_floor": 2 } };
    jobs.update_one(doc! { "_id": asked_for.id.to_string() }, awaited).await.unwrap();
    assert_eq!(rank(&world, renewal.id).await, (3, true));
    assert_eq!(world.store.age_ranks(world.clock.now(), 10, 1).await.unwrap(), 0, "its time has not come");

    wait(&world, renewal.id, DAY + DAY / 24).await;
    assert_eq!(rank(&world, renewal.id).await.0, 3, "nothing ages by itself");
    assert_eq!(world.store.age_ranks(world.clock.now(), 10, 1).await.unwrap(), 1);
    assert_eq!(rank(&world, renewal.id).await, (1, true));
    assert_eq!(first(&world).await.job, renewal.id);
    assert_eq!(first(&world).await.job, asked_for.id);
    // To its last class, in which it stays.
    wait(&world, renewal.id, DAY * 2).await;
    assert_eq!(world.store.age_ranks(world.clock.now(), 10, 1).await.unwrap(), 1);
    assert_eq!(rank(&world, renewal.id).await, (0, false));
    assert_eq!(world.store.age_ranks(world.clock.now(), 10, 1).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn ranks_are_made_anew_a_page_at_a_time_and_by_an_index() {
    const PAGE: u32 = 5;
    let world = World::new().await;
    let database = raw(&world).await;
    let (_, one) = world.certificate_before("a.example.test", Some(later(world.clock.now(), DAY * 3))).await;
    let jobs = database.collection::<Document>("jobs");
    let whole = jobs.find_one(doc! { "_id": one.id.to_string() }).await.unwrap().unwrap();
    let copy = |n: u32| {
        let mut copy = whole.clone();
        let id = format!("job_{n:032x}");
        copy.extend(doc! { "_id": &id, "key": &id });
        copy
    };
    jobs.insert_many((0..40).map(copy)).await.unwrap();
    let own = doc! { "_id": { "$lt": format!("job_{:032x}", 12) } };
    let ago = |field: &str| doc! { "$subtract": [format!("${field}"), i64::try_from(DAY.as_millis() * 2).unwrap()] };
    let set = doc! { "$set": { "needed_before": ago("needed_before"), "rank_at": ago("rank_at") } };
    jobs.update_many(own, vec![set]).await.unwrap();
    // One that is over is not looked at, whatever it was when it ended.
    let over = doc! { "$unset": { "claim_at": "" }, "$set": { "alive": false, "state": "succeeded" } };
    jobs.update_one(doc! { "_id": format!("job_{:032x}", 0) }, over).await.unwrap();
    let mut pages = Vec::new();
    let commands = asked(&database, async {
        for _ in 0..4 {
            pages.push(world.store.age_ranks(world.clock.now(), PAGE, 1).await.unwrap());
        }
    })
    .await;
    assert_eq!(pages, [5, 5, 1, 0]);
    for command in commands.iter().filter(|command| command.contains_key("find")) {
        let plan = explain(&database, command).await;
        plan.goes_by_an_index(command);
        assert!(plan.keys <= PAGE.into() && plan.documents <= PAGE.into(), "{plan:?} of {command}");
    }
}
