// SPDX-License-Identifier: Apache-2.0
//! Jobs that work on an account: one at a time, also when one takes the place of another.

use cap_core::id::JobId;
use cap_core::job::{JobDraft, Work};
use cap_store::Mutation;

use crate::dead::registering;
use crate::world::{LEASE, World};

/// Has the account of the world's one issuer deactivated; answers the job.
async fn deactivate(world: &World, issuer: &str) -> JobId {
    let seen = world.store.issuer(world.project, issuer).await.unwrap().unwrap();
    let work = Work::RegisterIssuer { issuer: seen.id };
    let job = JobDraft::now(world.project, work, 0, world.clock.as_ref(), world.entropy.as_ref());
    let audit = world.row().await;
    let mutation = Mutation { audit: &audit, request: None };
    world.store.request_deactivation(&seen, true, &job, mutation).await.unwrap();
    job.id
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_the_place_of_a_job_that_runs_waits_until_its_worker_has_let_go() {
    let world = World::new().await;
    let issuer = world.certificate("a.example.test").await.issuer.to_string();
    let runs = registering(&world).await;
    let next = deactivate(&world, &issuer).await;
    assert!(world.claim("two", LEASE).await.is_empty(), "the CA may yet hear the one that runs");
    let due = world.store.job(world.project, next).await.unwrap().unwrap().due_at.unwrap();
    let wait = cap_core::clock::until(world.clock.now(), due);
    assert!(wait <= LEASE && wait > LEASE / 2, "{wait:?}");
    world.store.release_successor(&runs).await.unwrap();
    let claimed = world.claim("two", LEASE).await.remove(0);
    assert_eq!(claimed.job, next);
    assert!(claimed.fence > runs.fence);

    // It runs itself now, and is nobody's successor.
    world.store.release_successor(&claimed).await.unwrap();
    assert!(world.claim("three", LEASE).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_the_place_of_a_job_that_waits_runs_at_once() {
    let world = World::new().await;
    let issuer = world.certificate("a.example.test").await.issuer.to_string();
    let next = deactivate(&world, &issuer).await;
    let claimed = world.claim("one", LEASE).await;
    assert!(claimed.iter().any(|claim| claim.job == next), "{claimed:?}");
}
