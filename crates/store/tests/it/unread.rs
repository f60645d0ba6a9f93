// SPDX-License-Identifier: Apache-2.0
//! Jobs that this build cannot read: however many a newer one left, they keep none of the others waiting.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cap_core::id::{ClaimId, ProjectId};
use cap_core::job::Lane;
use cap_core::limits::JOB_PARTITIONS;
use cap_store::Search;
use cap_testkit::mongo::driver::bson::{DateTime, Document};

use crate::lanes::{job, project, put};
use crate::world::{World, search};

/// More than any look reads at first, in the lane of each project.
const UNREADABLE: i64 = 150;

/// A job of a kind that nobody here knows, longer due than all others and before them in its lane.
fn unknown(world: &World, project: ProjectId, n: i64) -> Document {
    let mut unknown = job(world, project, Lane::Main, 0, DateTime::from_millis(n));
    unknown.get_document_mut("work").unwrap().insert("kind", "rotate-roots");
    unknown
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_an_unknown_kind_keep_neither_lost_ones_nor_the_backlog_from_being_claimed() {
    let world = World::new().await;
    world.certificate("lost.example.test").await;
    assert_eq!(world.claim("dead", Duration::ZERO).await.len(), 1);
    let other = project(&world);
    for project in [world.project, other] {
        put(&world, (1..=UNREADABLE).map(|n| unknown(&world, project, n)).collect()).await;
        put(&world, vec![job(&world, project, Lane::Main, 4, DateTime::from_millis(1_000))]).await;
    }
    let (all, held): (Vec<u16>, _) = ((0..JOB_PARTITIONS).collect(), BTreeMap::new());
    let mut seen = BTreeSet::new();
    for (by_lanes, is_crowded, each_project) in
        [(false, false, None), (false, false, Some(9)), (true, false, None), (true, true, None)]
    {
        let what = format!("by lanes: {by_lanes}, crowded: {is_crowded}, of each project: {each_project:?}");
        let token = ClaimId::generate(world.clock.as_ref(), world.entropy.as_ref());
        let anything = search(&held, world.clock.now());
        let look = Search { partitions: &all, by_lanes, is_crowded, each_project, ..anything };
        // They are due again at once.
        let claims = world.store.claim_jobs("one", token, Duration::ZERO, &look).await.unwrap().claims;
        let jobs: BTreeSet<_> = claims.iter().map(|claim| claim.job).collect();
        assert_eq!(jobs.len(), 3, "{what}");
        seen.extend(jobs);
    }
    assert_eq!(seen.len(), 3);
}
