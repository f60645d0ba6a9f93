// SPDX-License-Identifier: Apache-2.0
//! Looks by lanes in a crowd: one that goes on from where the last one saw the heads, and what it leaves to the next that goes
//! all the way.

use std::collections::BTreeMap;

use cap_core::id::{ClaimId, ProjectId};
use cap_core::job::{Lane, Room};
use cap_core::limits::JOB_PARTITIONS;
use cap_store::{Claimed, LanesSeen, Search};
use cap_testkit::mongo::driver::bson::{DateTime, Document, doc};

use crate::explain::{asked, explain};
use crate::lanes::{job, project, put};
use crate::queue::raw;
use crate::world::{LEASE, World, search};

/// Jobs that wait.
const MANY: i64 = 500;
/// When the first of them fell due.
const FIRST_MS: i64 = 1_000_000;

/// Puts jobs of this rank into the main lane, of which the n-th has been due since `since(n)`.
async fn fill(world: &World, project: ProjectId, rank: i32, count: i64, since: impl Fn(i64) -> i64) {
    let due = |n| job(world, project, Lane::Main, rank, DateTime::from_millis(since(n)));
    put(world, (0..count).map(due).collect()).await;
}

async fn look(world: &World, room: usize, lanes: Option<&LanesSeen>) -> Claimed {
    let all: Vec<u16> = (0..JOB_PARTITIONS).collect();
    let held = BTreeMap::new();
    let room = Room { all: room, side: 0 };
    let search =
        Search { room, partitions: &all, is_crowded: true, lanes, ..search(&held, world.clock.now()) };
    let token = ClaimId::generate(world.clock.as_ref(), world.entropy.as_ref());
    world.store.claim_jobs("one", token, LEASE, &search).await.unwrap()
}

/// When each of the claimed fell due, by what it was put into the queue with.
async fn since(world: &World, claimed: &Claimed) -> Vec<i64> {
    let jobs = raw(world).await.collection::<Document>("jobs");
    let mut since = Vec::new();
    for claim in &claimed.claims {
        let job = jobs.find_one(doc! { "_id": claim.job.to_string() }).await.unwrap().unwrap();
        since.push(job.get_datetime("created_at").unwrap().timestamp_millis());
    }
    since
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quick_look_goes_on_from_the_heads_and_leaves_what_is_older_to_a_whole_one() {
    let world = World::new().await;
    let crowd = project(&world);
    fill(&world, crowd, 4, MANY, |n| FIRST_MS + n).await;
    let whole = look(&world, 10, None).await;
    assert_eq!(whole.claims.len(), 10);
    let seen = whole.lanes.unwrap();
    // Behind the head, before it, and of a rank that was not seen: as old as it may come into sight late, and older.
    fill(&world, crowd, 4, 1, |_| 1).await;
    let now_ms = world.clock.now().as_millisecond();
    fill(&world, crowd, 0, 1, |_| now_ms - 5_000).await;
    fill(&world, crowd, 1, 1, |_| now_ms - 60_000).await;
    let quick = look(&world, 10, Some(&seen)).await;
    let mut got = since(&world, &quick).await;
    got.sort_unstable();
    let expected: Vec<i64> = (10..19).map(|n| FIRST_MS + n).chain([now_ms - 5_000]).collect();
    assert_eq!(got, expected);
    assert_eq!(quick.claims.len(), 10);
    let whole = look(&world, 2, None).await;
    let mut got = since(&world, &whole).await;
    got.sort_unstable();
    assert_eq!(got, [1, now_ms - 60_000], "the most needed, and the oldest");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quick_look_deals_out_among_the_lanes_that_were_seen_and_begins_with_another_each_time() {
    let world = World::new().await;
    let both = [project(&world), project(&world)];
    for one in both {
        fill(&world, one, 4, 50, |n| FIRST_MS + n).await;
    }
    let whole = look(&world, 8, None).await;
    let seen = whole.lanes.unwrap();
    let of = |claimed: &Claimed, one| claimed.claims.iter().filter(|claim| claim.project == one).count();
    let quick = look(&world, 8, Some(&seen)).await;
    assert_eq!(both.map(|one| of(&quick, one)), [4, 4]);
    let (all, held): (Vec<u16>, _) = ((0..JOB_PARTITIONS).collect(), BTreeMap::new());
    let room = Room { all: 1, side: 0 };
    let mut after = quick.last;
    let mut turns = Vec::new();
    for _ in 0..4 {
        let token = ClaimId::generate(world.clock.as_ref(), world.entropy.as_ref());
        let search = Search {
            room,
            partitions: &all,
            is_crowded: true,
            lanes: Some(&seen),
            after,
            ..search(&held, world.clock.now())
        };
        let claimed = world.store.claim_jobs("one", token, LEASE, &search).await.unwrap();
        after = claimed.last;
        turns.push(claimed.claims[0].project);
    }
    assert!(turns[0] != turns[1] && turns[0] == turns[2] && turns[1] == turns[3], "{turns:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quick_look_is_one_request_that_begins_at_the_heads_in_the_index() {
    let world = World::new().await;
    let database = raw(&world).await;
    let crowd = project(&world);
    fill(&world, crowd, 4, MANY, |n| FIRST_MS + n).await;
    let seen = look(&world, 10, None).await.lanes.unwrap();
    // Where the traces would be: what a look from the beginning reads through.
    fill(&world, crowd, 4, MANY, |n| n).await;
    let mut claimed = 0;
    let work = async { claimed = look(&world, 10, Some(&seen)).await.claims.len() };
    let commands = asked(&database, work).await;
    assert_eq!(claimed, 10);
    let [command] = commands.as_slice() else { panic!("{commands:#?}") };
    let plan = explain(&database, command).await;
    plan.goes_by_an_index(command);
    // Ten, those that may be unreadable, and the first of each rank.
    assert!(plan.keys <= 30 + 6 && plan.documents <= 30 + 6, "{plan:?} of {command}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_more_lanes_than_one_look_sees_the_next_goes_all_the_way() {
    let world = World::new().await;
    for _ in 0..17 {
        fill(&world, project(&world), 4, 2, |n| FIRST_MS + n).await;
    }
    assert_eq!(look(&world, 8, None).await.lanes, None);
}
