// SPDX-License-Identifier: Apache-2.0
//! What somebody asks for while its job runs.

use std::time::Duration;

use cap_core::certificate::RevocationReason;
use cap_core::id::{CertificateId, JobId};
use cap_core::job::{JobDraft, JobState, Settlement, Work};
use cap_core::limits;
use cap_core::problem::{Class, Problem};
use cap_store::Mutation;
use cap_testkit::mongo::driver::bson::{Document, doc};

use crate::notices::issued;
use crate::queue::raw;
use crate::revocations::{Beside, ask, claim, record, renewal_beside};
use crate::world::{LEASE, World};

const DAY: Duration = Duration::from_secs(86_400);

/// Asks for a certificate's first version, and answers the job.
async fn wish(world: &World, certificate: CertificateId) -> JobId {
    let work = Work::Issue { certificate, made_for: None };
    let job = JobDraft::now(world.project, work, 5, world.clock.as_ref(), world.entropy.as_ref());
    let audit = world.row().await;
    world.store.request_renewal(None, &job, Mutation { audit: &audit, request: None }).await.unwrap().id
}

fn again(after: Duration) -> Settlement {
    let problem = Problem::new(Class::Transient, "test", "the CA is away");
    Settlement::Again { after, problem: Some(problem), setbacks: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_asked_for_while_it_runs_runs_again_behind_that_run_and_once() {
    let world = World::new().await;
    let certificate = world.certificate("a.example.test").await;
    let claim = world.claim("one", LEASE).await.remove(0);
    assert_eq!(wish(&world, certificate.id).await, claim.job);
    assert!(!world.store.show_heeded(&claim).await.unwrap(), "it runs");
    let again = again(LEASE);
    world.store.settle(&claim, &again, world.clock.now()).await.unwrap();
    let shown = async || world.store.certificate(world.project, certificate.id).await.unwrap().unwrap();
    let late = shown().await.next_attempt_at.unwrap();
    assert!(world.store.show_heeded(&claim).await.unwrap());
    assert!(shown().await.next_attempt_at.unwrap() < late);
    let next = world.claim("two", LEASE).await.remove(0);
    assert_eq!(next.job, claim.job);
    world.store.settle(&next, &again, world.clock.now()).await.unwrap();
    assert!(!world.store.show_heeded(&next).await.unwrap(), "it was asked for once");
    assert!(world.claim("three", LEASE).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_asked_for_while_a_worker_ran_it_that_died_is_kept() {
    let world = World::new().await;
    let certificate = world.certificate("a.example.test").await;
    let claim = world.claim("one", Duration::ZERO).await.remove(0);
    wish(&world, certificate.id).await;
    let next = world.claim("two", LEASE).await.remove(0);
    assert_eq!(next.job, claim.job);
    let again = again(LEASE);
    world.store.settle(&next, &again, world.clock.now()).await.unwrap();
    assert!(!world.store.show_heeded(&claim).await.unwrap(), "that claim is over");
    assert!(world.store.show_heeded(&next).await.unwrap());
    assert_eq!(world.claim("three", LEASE).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_asked_for_runs_again_although_the_worker_dies_right_behind_its_run() {
    let world = World::new().await;
    let certificate = world.certificate("a.example.test").await;
    let claim = world.claim("one", LEASE).await.remove(0);
    wish(&world, certificate.id).await;
    world.store.settle(&claim, &again(DAY), world.clock.now()).await.unwrap();
    let next = world.claim("two", LEASE).await.remove(0);
    assert_eq!(next.job, claim.job);
    assert!(!world.store.show_heeded(&claim).await.unwrap(), "its run shows how it goes");
    world.store.settle(&next, &again(DAY), world.clock.now()).await.unwrap();
    assert!(world.claim("three", LEASE).await.is_empty(), "it was asked for once");
    assert!(!world.store.show_heeded(&claim).await.unwrap(), "it waits again");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_on_with_the_same_attempt_keeps_the_wish_for_its_end() {
    let world = World::new().await;
    let certificate = world.certificate("a.example.test").await;
    let claim = world.claim("one", LEASE).await.remove(0);
    wish(&world, certificate.id).await;
    let shortly = again(limits::WISH_WAIT - Duration::from_millis(1));
    world.store.settle(&claim, &shortly, world.clock.now()).await.unwrap();
    assert!(world.claim("two", LEASE).await.is_empty());
    let jobs = raw(&world).await.collection::<Document>("jobs");
    let due = vec![doc! { "$set": { "claim_at": "$$NOW" } }];
    jobs.update_one(doc! { "_id": claim.job.to_string() }, due).await.unwrap();
    let next = world.claim("two", LEASE).await.remove(0);
    world.store.settle(&next, &again(DAY), world.clock.now()).await.unwrap();
    assert_eq!(world.claim("three", LEASE).await.len(), 1);
}

/// A wish counts from when it was made: a revocation that replaces nothing is the later one, however the run went meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_asked_for_while_it_ran_is_not_run_again_behind_a_later_revocation() {
    for is_heeded_before in [true, false] {
        let world = World::new().await;
        let certificate = issued(&world, "a.example.test", DAY, DAY * 90).await;
        let renewal = renewal_beside(&world, &certificate, Beside::RunningAskedFor).await;
        let again = again(DAY);
        ask(&world, &certificate, RevocationReason::CessationOfOperation, Some(false)).await;
        if is_heeded_before {
            world.store.settle(&renewal, &again, world.clock.now()).await.unwrap();
            assert!(world.store.show_heeded(&renewal).await.unwrap());
            record(&world, &claim(&world).await).await.unwrap();
            let job = world.store.job(world.project, renewal.job).await.unwrap().unwrap();
            assert_eq!(job.state, JobState::Cancelled, "it had not begun anew");
        } else {
            record(&world, &claim(&world).await).await.unwrap();
            world.store.settle(&renewal, &again, world.clock.now()).await.unwrap();
            assert!(!world.store.show_heeded(&renewal).await.unwrap(), "it is the last one");
        }
    }
}
