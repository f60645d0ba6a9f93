// SPDX-License-Identifier: Apache-2.0
//! Claims: one worker a job, whoever holds it; late writes refused.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use cap_core::id::JobId;
use cap_core::job::{JobState, Settlement, Work};
use cap_core::page::{Order, Page};
use cap_core::problem::{Class, Problem};
use cap_store::{Extended, JobFilter, JobRecord, StoreError};
use cap_testkit::mongo::driver::Client;
use cap_testkit::mongo::driver::bson::{DateTime, Document, doc};

use crate::explain::{asked, explain};
use crate::world::{LEASE, World, held};

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
    let extended = world.store.extend_claims(&[held(&first)], LEASE).await.unwrap();
    assert_eq!(extended, Extended { kept: vec![], taken: vec![first.job] });
    let extended = world.store.extend_claims(&[held(&second)], LEASE).await.unwrap();
    assert_eq!(extended, Extended { kept: vec![second.job], taken: vec![] });
    world.store.settle(&second, &Settlement::Succeeded, now).await.unwrap();
    let extended = world.store.extend_claims(&[held(&second)], LEASE).await.unwrap();
    assert_eq!(extended, Extended::default(), "nobody took it");
    let extended = world.store.extend_claims(&[held(&first)], LEASE).await.unwrap();
    assert_eq!(extended, Extended { kept: vec![], taken: vec![first.job] }, "a peer had it since");
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
    let job = world.store.request_renewal(None, &draft, mutation).await.unwrap();
    assert_eq!(job.id, claim.job);
    let page = Page::parse::<JobId>(None, None).unwrap();
    let of_subject = JobFilter { subject: Some(certificate.id.to_string()), ..JobFilter::default() };
    assert_eq!(world.store.jobs(world.project, &of_subject, &page).await.unwrap().items.len(), 1);
    assert_eq!(issue_jobs(&world.claim("two", LEASE).await), 1);
}

/// The ids of all jobs that are wanted, read in pages of two.
async fn listed(world: &World, wanted: &JobFilter) -> Vec<String> {
    let (mut ids, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let page = Page::parse_in::<JobId>(wanted.order, Some(2), cursor.as_deref()).unwrap();
        let slice = world.store.jobs(world.project, wanted, &page).await.unwrap();
        ids.extend(slice.items.into_iter().map(|job| job.id.to_string()));
        cursor = slice.next_cursor;
        if cursor.is_none() {
            return ids;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_listed_by_what_is_wanted_the_newest_first_and_by_an_index() {
    let world = World::new().await;
    let first = world.certificate("a.example.test").await;
    for name in ["b.example.test", "c.example.test"] {
        world.certificate(name).await;
    }
    let all = listed(&world, &JobFilter::default()).await;
    assert_eq!(all.len(), 6);
    let kind =
        |kind: &str| JobFilter { kind: Some(kind.to_owned()), order: Order::Desc, ..JobFilter::default() };
    let database = crate::queue::raw(&world).await;
    let dead = world.claim("one", LEASE).await.remove(0);
    let problem = Problem::new(Class::Protocol, "odd", "nobody can read it");
    world.store.settle(&dead, &Settlement::Dead(problem), world.clock.now()).await.unwrap();
    let mut seen = Vec::new();
    let commands = asked(&database, async {
        for wanted in [
            JobFilter { order: Order::Desc, ..JobFilter::default() },
            kind("issue"),
            JobFilter { state: Some(JobState::Dead), order: Order::Desc, ..JobFilter::default() },
            JobFilter { subject: Some(first.id.to_string()), order: Order::Desc, ..JobFilter::default() },
            JobFilter { state: Some(JobState::Dead), ..kind("issue") },
            JobFilter { state: Some(JobState::Dead), ..kind("revoke") },
            JobFilter { state: Some(JobState::Queued), ..kind("revoke") },
            JobFilter { state: Some(JobState::Dead), ..kind("register-issuer") },
        ] {
            seen.push(listed(&world, &wanted).await);
        }
    })
    .await;
    let newest: Vec<String> = all.iter().rev().cloned().collect();
    assert_eq!(seen[0], newest);
    assert_eq!((seen[1].len(), &seen[2], seen[3].len()), (3, &vec![dead.job.to_string()], 1));
    let issues = dead.work.kind() == "issue";
    assert_eq!(seen[4], if issues { vec![dead.job.to_string()] } else { vec![] });
    assert_eq!((&seen[5], &seen[6]), (&vec![], &vec![]));
    assert_eq!(seen[7], if issues { vec![] } else { vec![dead.job.to_string()] });
    assert!(seen[1].is_sorted_by(|one, next| one > next), "{seen:?}");
    for command in &commands {
        let plan = explain(&database, command).await;
        plan.goes_by_an_index(command);
        // Of one kind, whatever its state, are the jobs of four lists.
        assert!(plan.keys <= 8 && plan.documents <= 3, "{plan:?} of {command}");
    }
}

/// What runs is in no list of its own: it is found where claims are made.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_and_what_runs_is_listed_page_by_page_in_either_order() {
    let world = World::new().await;
    for name in ["a.example.test", "b.example.test", "c.example.test", "d.example.test"] {
        world.certificate(name).await;
    }
    let claims = world.claim("one", LEASE).await;
    assert_eq!(claims.len(), 4, "their issuers' registrations are due later");
    world.store.settle(&claims[0], &Settlement::HandedBack, world.clock.now()).await.unwrap();
    world.store.settle(&claims[1], &Settlement::Succeeded, world.clock.now()).await.unwrap();
    let mut runs: Vec<String> = claims[2..].iter().map(|claim| claim.job.to_string()).collect();
    runs.sort();
    let wanted = |state, order| JobFilter { state: Some(state), order, ..JobFilter::default() };
    assert_eq!(listed(&world, &wanted(JobState::Running, Order::Asc)).await, runs);
    runs.reverse();
    assert_eq!(listed(&world, &wanted(JobState::Running, Order::Desc)).await, runs);
    let waits = JobFilter { kind: Some("issue".to_owned()), ..wanted(JobState::Queued, Order::Asc) };
    assert_eq!(listed(&world, &waits).await, [claims[0].job.to_string()]);
    assert_eq!(listed(&world, &wanted(JobState::Succeeded, Order::Asc)).await, [claims[1].job.to_string()]);
    let of_kind = JobFilter { kind: Some("issue".to_owned()), ..wanted(JobState::Running, Order::Asc) };
    assert_eq!(listed(&world, &of_kind).await.len(), issue_jobs(&claims[2..]));
    let other = crate::lanes::project(&world);
    let page = Page::parse::<JobId>(None, None).unwrap();
    let others = world.store.jobs(other, &wanted(JobState::Running, Order::Asc), &page).await.unwrap();
    assert!(others.items.is_empty(), "{others:?}");
}

/// Processes of a build from before there were lists run beside this one while they are replaced.
#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_a_build_that_knew_no_lists_come_into_theirs() {
    let world = World::new().await;
    world.certificate("a.example.test").await;
    let ended = world.claim("one", LEASE).await.remove(0);
    world.store.settle(&ended, &Settlement::Succeeded, world.clock.now()).await.unwrap();
    let jobs = crate::queue::raw(&world).await.collection::<Document>("jobs");
    let without = doc! { "$unset": { "lists": "" } };
    jobs.update_one(doc! { "work.kind": "register-issuer" }, without).await.unwrap();
    let living = doc! { "$set": { "lists.1": format!("{}/living", world.project) } };
    let own = doc! { "_id": ended.job.to_string() };
    assert_eq!(jobs.update_one(own, living).await.unwrap().modified_count, 1);

    let all = JobFilter::default();
    assert_eq!(listed(&world, &all).await, [ended.job.to_string()]);
    assert_eq!(world.store.mend_lists(10, 1).await.unwrap(), 1);
    assert_eq!(world.store.mend_lists(10, 1).await.unwrap(), 0);
    assert_eq!(listed(&world, &all).await.len(), 2);
    let succeeded = JobFilter { state: Some(JobState::Succeeded), ..all };
    assert!(listed(&world, &succeeded).await.is_empty());
    assert_eq!(world.store.count_finished(1).await.unwrap(), 1);
    assert_eq!(listed(&world, &succeeded).await, [ended.job.to_string()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_a_kind_that_this_build_does_not_know_is_listed_as_such() {
    let world = World::new().await;
    world.certificate("a.example.test").await;
    let jobs = crate::queue::raw(&world).await.collection::<Document>("jobs");
    let other = doc! { "$set": { "work": { "kind": "mend-the-sky", "sky": 7 } } };
    jobs.update_one(doc! { "work.kind": "register-issuer" }, other).await.unwrap();
    let page = Page::parse::<JobId>(None, None).unwrap();
    let listed = world.store.jobs(world.project, &JobFilter::default(), &page).await.unwrap().items;
    let known = |job: &JobRecord| (job.work.kind().to_owned(), job.work.known().is_some());
    let mut kinds: Vec<_> = listed.iter().map(known).collect();
    kinds.sort();
    assert_eq!(kinds, [("issue".to_owned(), true), ("mend-the-sky".to_owned(), false)]);
    let unknown = listed.iter().find(|job| job.work.known().is_none()).unwrap();
    assert_eq!(world.store.job(world.project, unknown.id).await.unwrap().as_ref(), Some(unknown));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queued_job_wakes_whoever_watches() {
    let world = World::new().await;
    let mut watch = world.store.watch_jobs(|| Duration::ZERO).await.unwrap();
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

#[tokio::test(flavor = "multi_thread")]
async fn what_was_in_the_way_of_a_job_is_not_told_of_it_once_it_has_succeeded() {
    let world = World::new().await;
    world.certificate("a.example.test").await;
    let problem = async |id| world.store.job(world.project, id).await.unwrap().unwrap().problem;
    let claim = world.claim("one", LEASE).await.remove(0);
    let away = Problem::new(Class::Transient, "ca-unreachable", "nobody answers");
    let again = Settlement::Again { after: Duration::ZERO, problem: Some(away.clone()), setbacks: None };
    world.store.settle(&claim, &again, world.clock.now()).await.unwrap();
    assert_eq!(problem(claim.job).await, Some(away));
    let next = world.claim("two", LEASE).await.remove(0);
    world.store.settle(&next, &Settlement::Succeeded, world.clock.now()).await.unwrap();
    assert_eq!(problem(claim.job).await, None);
}
