// SPDX-License-Identifier: Apache-2.0
//! Claims: one worker a job, whoever holds it; late writes refused.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use cap_core::id::JobId;
use cap_core::job::{Settlement, Work};
use cap_core::page::Page;
use cap_store::StoreError;
use cap_testkit::mongo::driver::Client;
use cap_testkit::mongo::driver::bson::{DateTime, doc};

use crate::world::{LEASE, World};

fn issue_jobs(claims: &[cap_core::job::Claim]) -> usize {
    claims.iter().filter(|claim| matches!(claim.work, Work::Issue { .. })).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn eight_claimers_share_sixty_jobs_and_no_job_twice() {
    let world = Arc::new(World::new().await);
    for n in 0..60 {
        world.certificate(&format!("h{n}.example.test")).await;
    }
    let claimers = (0..8).map(|n| {
        let world = world.clone();
        tokio::spawn(async move {
            let mut mine = Vec::new();
            loop {
                let claims = world.claim(&format!("worker-{n}"), LEASE).await;
                if claims.is_empty() {
                    return mine;
                }
                mine.extend(claims.into_iter().map(|claim| claim.job));
            }
        })
    });
    let mut all = Vec::new();
    for claimer in claimers.collect::<Vec<_>>() {
        all.extend(claimer.await.unwrap());
    }
    assert_eq!(all.len(), 60);
    assert_eq!(all.into_iter().collect::<BTreeSet<_>>().len(), 60);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_lease_ran_out_is_claimed_again_with_a_higher_fence() {
    let world = World::new().await;
    world.certificate("a.example.test").await;
    let first = world.claim("one", Duration::ZERO).await.remove(0);
    let second = world.claim("two", LEASE).await.remove(0);
    assert_eq!((first.job, first.attempt + 1, first.fence + 1), (second.job, second.attempt, second.fence));
    assert!(world.claim("three", LEASE).await.is_empty(), "a job with a running lease was claimed");

    let now = world.clock.now();
    let late = world.store.settle(&first, &Settlement::Succeeded, now).await;
    assert!(matches!(late, Err(StoreError::Fenced)), "{late:?}");
    let kept = world.store.extend_claims(&[(first.job, first.token)], LEASE).await.unwrap();
    assert!(kept.is_empty());
    let kept = world.store.extend_claims(&[(second.job, second.token)], LEASE).await.unwrap();
    assert_eq!(kept, vec![second.job]);
    world.store.settle(&second, &Settlement::Succeeded, now).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_handed_back_is_due_at_once_and_one_postponed_is_not() {
    let world = World::new().await;
    world.certificate("a.example.test").await;
    let claim = world.claim("one", LEASE).await.remove(0);
    world.store.settle(&claim, &Settlement::HandedBack, world.clock.now()).await.unwrap();
    let claim = world.claim("two", LEASE).await.remove(0);
    let again = Settlement::Again { after: LEASE, problem: None, setbacks: None };
    world.store.settle(&claim, &again, world.clock.now()).await.unwrap();
    assert!(world.claim("three", LEASE).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn fences_never_restart() {
    let world = World::new().await;
    let certificate = world.certificate("a.example.test").await;
    let claim = world.claim("one", LEASE).await.remove(0);
    world.store.settle(&claim, &Settlement::Succeeded, world.clock.now()).await.unwrap();
    let stored = world.store.certificate(world.project, certificate.id).await.unwrap().unwrap();
    assert!(stored.fence > claim.fence, "{} after {}", stored.fence, claim.fence);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_asked_for_twice_is_one_job_and_comes_forward() {
    let world = World::new().await;
    let certificate = world.certificate("a.example.test").await;
    let claim = world.claim("one", LEASE).await.remove(0);
    let again = Settlement::Again { after: LEASE, problem: None, setbacks: None };
    world.store.settle(&claim, &again, world.clock.now()).await.unwrap();

    let work = Work::Issue { certificate: certificate.id, made_for: None };
    let draft =
        cap_core::job::JobDraft::now(world.project, work, 5, world.clock.as_ref(), world.entropy.as_ref());
    let audit = world.row().await;
    let mutation = cap_store::Mutation { audit: &audit, request: None };
    let job = world.store.request_renewal(&draft, mutation).await.unwrap();
    assert_eq!(job.id, claim.job);
    let page = Page::parse::<JobId>(None, None).unwrap();
    let subject = certificate.id.to_string();
    assert_eq!(world.store.jobs(world.project, None, Some(&subject), &page).await.unwrap().items.len(), 1);
    assert_eq!(issue_jobs(&world.claim("two", LEASE).await), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queued_job_wakes_whoever_watches() {
    let world = World::new().await;
    let mut watch = world.store.watch_jobs().await.unwrap();
    world.certificate("a.example.test").await;
    tokio::time::timeout(Duration::from_secs(10), watch.queued()).await.expect("no wake-up").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_cannot_be_read_keeps_no_other_from_being_claimed() {
    let world = World::new().await;
    let database = Client::with_uri_str(&world.uri).await.unwrap().default_database().unwrap();
    let past = DateTime::from_millis(1);
    let broken = doc! { "_id": "broken", "key": "broken", "p": 0, "state": "queued", "claim_at": past };
    database.collection("jobs").insert_one(broken).await.unwrap();
    world.certificate("a.example.test").await;
    assert_eq!(issue_jobs(&world.claim("one", LEASE).await), 1);
}
