// SPDX-License-Identifier: Apache-2.0
//! What stands apart from all that is issued is dealt out among projects, too.

use std::collections::BTreeMap;

use cap_core::id::{ClaimId, JobId, ProjectId};
use cap_core::job::{Lane, ProjectLane, Room};
use cap_core::limits::{DRIFT_PARTITIONS, JOB_PARTITIONS};
use cap_store::{Planned, Search};
use cap_testkit::mongo::driver::bson::{DateTime, Document, doc};

use crate::drift::{due, on_and_issued, plan};
use crate::explain::{asked_of, explain};
use crate::queue::raw;
use crate::world::LEASE;

#[tokio::test(flavor = "multi_thread")]
async fn a_project_with_many_scans_leaves_places_to_the_others() {
    const PLACES: usize = 4;
    let (world, _) = on_and_issued().await;
    let candidate = due(&world).await.remove(0);
    assert_eq!(plan(&world, &candidate, 1).await, Planned::Queued);
    let jobs = raw(&world).await.collection::<Document>("jobs");
    let scan = jobs.find_one(doc! { "work.kind": "drift-scan" }).await.unwrap().unwrap();
    let other = ProjectId::generate(world.clock.as_ref(), world.entropy.as_ref());
    let copy = |n: i64, project: ProjectId| {
        let mut copy = scan.clone();
        let id = JobId::generate(world.clock.as_ref(), world.entropy.as_ref()).to_string();
        // The longest due are all of the one project.
        copy.extend(doc! {
            "_id": &id, "key": id, "project": project.to_string(), "claim_at": DateTime::from_millis(n),
        });
        copy
    };
    jobs.insert_many((1..=40).map(|n| copy(n, world.project))).await.unwrap();
    jobs.insert_many([copy(100, other)]).await.unwrap();
    let partitions: Vec<u16> = (JOB_PARTITIONS..JOB_PARTITIONS + DRIFT_PARTITIONS).collect();
    let claim = async |held: BTreeMap<ProjectLane, usize>| {
        let token = ClaimId::generate(world.clock.as_ref(), world.entropy.as_ref());
        let room = Room { all: PLACES, side: 0 };
        let anything = Search::anything(room, &partitions, &held, world.clock.now());
        let search = Search { each_project: Some(PLACES / 2), ..anything };
        let claims = world.store.claim_jobs("scanner", token, LEASE, &search).await.unwrap().claims;
        claims.iter().map(|claim| claim.project).collect::<Vec<_>>()
    };
    let held = BTreeMap::from([(ProjectLane { project: world.project, lane: Lane::Main }, PLACES / 2)]);
    let database = raw(&world).await;
    let commands = asked_of(&database, "jobs", async {
        assert_eq!(claim(held.clone()).await, [other], "behind all that the other has");
    })
    .await;
    for command in &commands {
        explain(&database, command).await.goes_by_an_index(command);
    }
    assert_eq!(claim(held).await, []);
    assert_eq!(claim(BTreeMap::new()).await, [world.project; PLACES / 2]);
}
