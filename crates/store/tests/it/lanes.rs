// SPDX-License-Identifier: Apache-2.0
//! Lanes: no project stands in another's way, what expires first goes first, and what keeps failing goes on apart.

use std::collections::BTreeMap;
use std::time::Duration;

use bson::{DateTime, Document, doc};
use cap_core::clock::later;
use cap_core::id::{CertificateId, ClaimId, JobId, ProjectId};
use cap_core::job::{Claim, EXPIRY_RANKS, JobState, Lane, Need, ProjectLane, Room, Settlement};
use cap_core::job::{JobDraft, partition};
use cap_core::limits::{DEAD_WAIT, JOB_PARTITIONS};
use cap_core::order::{FailedAttempt, Ledger};
use cap_core::page::Page;
use cap_core::problem::{Class, Problem};
use cap_store::{JobFilter, Mutation, OpenOrder, Search};
use cap_testkit::mongo::driver::bson;

use crate::explain::{asked, explain};
use crate::queue::raw;
use crate::world::{FUSE, LEASE, World, search};

/// What one project puts into the queue to be in everybody's way.
const FLOOD: usize = 10_000;
const FREE: usize = 8;

/// A job straight in the queue, due since `since`.
pub(crate) fn job(world: &World, project: ProjectId, lane: Lane, rank: i32, since: DateTime) -> Document {
    let id = JobId::generate(world.clock.as_ref(), world.entropy.as_ref());
    let certificate = CertificateId::generate(world.clock.as_ref(), world.entropy.as_ref());
    let lane = ProjectLane { project, lane }.to_string();
    doc! {
        "_id": id.to_string(), "project": project.to_string(), "subject": certificate.to_string(),
        "lists": [project.to_string(), format!("{project}/living"), format!("{project}/issue"), certificate.to_string()],
        "key": id.to_string(), "alive": true, "p": i32::from(partition(id)),
        "work": { "kind": "issue", "certificate": certificate.to_string(), "made_for": null },
        "lane": lane, "rank": rank, "rank_floor": 5, "state": "queued", "claim_at": since,
        "attempt": 0, "fence": 0_i64, "failures": 0, "lost": 0, "created_at": since,
    }
}

pub(crate) async fn put(world: &World, jobs: Vec<Document>) {
    raw(world).await.collection::<Document>("jobs").insert_many(jobs).await.unwrap();
}

pub(crate) fn project(world: &World) -> ProjectId {
    ProjectId::generate(world.clock.as_ref(), world.entropy.as_ref())
}

async fn claim(world: &World, held: &BTreeMap<ProjectLane, usize>, room: Room) -> Vec<Claim> {
    let all: Vec<u16> = (0..JOB_PARTITIONS).collect();
    let token = ClaimId::generate(world.clock.as_ref(), world.entropy.as_ref());
    let search = Search { room, partitions: &all, ..search(held, world.clock.now()) };
    world.store.claim_jobs("one", token, LEASE, &search).await.unwrap().claims
}

fn of(claims: &[Claim], project: ProjectId) -> usize {
    claims.iter().filter(|claim| claim.project == project).count()
}

const ALL: Room = Room { all: FREE, side: FREE };

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_jobs_of_one_project_keep_no_other_waiting() {
    let world = World::new().await;
    let (hostile, other) = (project(&world), project(&world));
    let flood = (0..FLOOD).map(|_| job(&world, hostile, Lane::Main, 2, DateTime::from_millis(1)));
    put(&world, flood.collect()).await;
    put(&world, vec![job(&world, other, Lane::Main, 2, DateTime::from_millis(2))]).await;
    let claims = claim(&world, &BTreeMap::new(), ALL).await;
    assert_eq!((of(&claims, other), of(&claims, hostile)), (1, FREE - 1), "and no place stays empty");
    let more = (0..FREE).map(|_| job(&world, other, Lane::Main, 2, DateTime::from_millis(2)));
    put(&world, more.collect()).await;
    let lane = ProjectLane { project: hostile, lane: Lane::Main };
    let claims = claim(&world, &BTreeMap::from([(lane, FREE)]), ALL).await;
    assert_eq!(of(&claims, other), FREE, "who holds as many places already waits");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_of_three_times_the_weight_gets_three_times_the_places() {
    let world = World::new().await;
    let (light, heavy) = (project(&world), project(&world));
    for project in [light, heavy] {
        let jobs = (0..50).map(|_| job(&world, project, Lane::Main, 2, DateTime::from_millis(1)));
        put(&world, jobs.collect()).await;
    }
    let projects = raw(&world).await.collection::<Document>("projects");
    projects.insert_one(doc! { "_id": heavy.to_string(), "name": "heavy", "weight": 3 }).await.unwrap();
    let claims = claim(&world, &BTreeMap::new(), ALL).await;
    assert_eq!((of(&claims, light), of(&claims, heavy)), (2, 6));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_project_has_its_turn_however_many_there_are() {
    let world = World::new().await;
    let projects: Vec<ProjectId> = (0..40).map(|_| project(&world)).collect();
    for project in &projects {
        let jobs = (0..FREE).map(|_| job(&world, *project, Lane::Main, 2, DateTime::from_millis(1)));
        put(&world, jobs.collect()).await;
    }
    let all: Vec<u16> = (0..JOB_PARTITIONS).collect();
    let (held, mut after, mut seen) = (BTreeMap::new(), None, std::collections::BTreeSet::new());
    // Sixteen lanes a look, each of which gets one of sixteen places: forty have had theirs after three looks.
    for _ in 0..3 {
        let token = ClaimId::generate(world.clock.as_ref(), world.entropy.as_ref());
        let room = Room { all: 16, side: 0 };
        let search = Search { room, partitions: &all, after, ..search(&held, world.clock.now()) };
        let claimed = world.store.claim_jobs("one", token, LEASE, &search).await.unwrap();
        assert_eq!(claimed.claims.len(), 16);
        after = claimed.last;
        seen.extend(claimed.claims.into_iter().map(|claim| claim.project));
    }
    assert_eq!(seen.len(), projects.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_one_project_what_expires_first_goes_first() {
    let world = World::new().await;
    let now = world.clock.now();
    let lives: Vec<u64> = (0..40).map(|n| 3_600 * (1 + n * 37 % 500)).collect();
    let mut due: Vec<JobDraft> = Vec::new();
    for (n, left_s) in lives.iter().enumerate() {
        let expires = later(now, Duration::from_secs(*left_s));
        due.push(world.certificate_before(&format!("h{n}.example.test"), Some(expires)).await.1);
    }
    // The ranks are the database's arithmetic; core says what they are.
    let jobs = raw(&world).await.collection::<Document>("jobs");
    for draft in &due {
        let stored = jobs.find_one(doc! { "_id": draft.id.to_string() }).await.unwrap().unwrap();
        assert_eq!(stored.get_i32("rank").unwrap(), draft.need.rank(now), "{draft:?}");
    }
    let rank = |claim: &Claim| due.iter().find(|draft| draft.id == claim.job).unwrap().need.rank(now);
    let mut ranks = Vec::new();
    for _ in 0..due.len() / FREE {
        let claims = claim(&world, &BTreeMap::new(), ALL).await;
        let of_this: Vec<i32> = claims.iter().map(rank).collect();
        ranks.push((*of_this.iter().min().unwrap(), *of_this.iter().max().unwrap()));
    }
    assert!(ranks.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{ranks:?}");
    assert!(EXPIRY_RANKS.iter().all(|(_, rank)| *rank < Need::default().floor()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_long_for_its_next_attempt_is_ranked_by_what_will_be_left_then() {
    let world = World::new().await;
    world.certificate("a.example.test").await;
    let jobs = raw(&world).await.collection::<Document>("jobs");
    let soon = later(world.clock.now(), Duration::from_secs(8 * 86_400));
    let set =
        doc! { "$set": { "needed_before": DateTime::from_millis(soon.as_millisecond()), "rank_floor": 5 } };
    jobs.update_many(doc! {}, set).await.unwrap();
    let first = world.claim("one", LEASE).await.remove(0);
    let after = Duration::from_secs(3 * 86_400);
    let again = Settlement::Again { after, problem: None, setbacks: None };
    world.store.settle(&first, &again, world.clock.now()).await.unwrap();
    let stored = jobs.find_one(doc! { "_id": first.job.to_string() }).await.unwrap().unwrap();
    assert_eq!(stored.get_i32("rank").unwrap(), 3, "five days will be left: {stored}");
}

#[tokio::test(flavor = "multi_thread")]
async fn quarantine_takes_a_part_of_the_places_and_never_stands_still() {
    let world = World::new().await;
    let (healthy, sick) = (project(&world), project(&world));
    let flood = (0..200).map(|_| job(&world, sick, Lane::Quarantine, 2, DateTime::from_millis(1)));
    put(&world, flood.collect()).await;
    let some = (0..50).map(|_| job(&world, healthy, Lane::Main, 2, DateTime::from_millis(2)));
    put(&world, some.collect()).await;
    let room = Room { all: FREE, side: 2 };
    let claims = claim(&world, &BTreeMap::new(), room).await;
    assert_eq!((of(&claims, sick), of(&claims, healthy)), (2, FREE - 2));
    assert!(claims.iter().all(|claim| (claim.lane == Lane::Quarantine) == (claim.project == sick)));
    let jobs = raw(&world).await.collection::<Document>("jobs");
    jobs.delete_many(doc! { "project": healthy.to_string() }).await.unwrap();
    assert_eq!(claim(&world, &BTreeMap::new(), room).await.len(), 2, "nothing else waits");
    // Also where there is room for everything that is due.
    jobs.delete_many(doc! { "state": "queued" }).await.unwrap();
    let few = (0..5).map(|_| job(&world, sick, Lane::Quarantine, 2, DateTime::from_millis(1)));
    put(&world, few.collect()).await;
    assert_eq!(claim(&world, &BTreeMap::new(), room).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_a_wrong_clock_stamped_is_shortened_and_whoever_holds_it_keeps_it() {
    let world = World::new().await;
    world.certificate("a.example.test").await;
    let claimed = world.claim("one", LEASE).await.remove(0);
    assert_eq!(world.store.shorten_wrong_leases(1).await.unwrap(), 0);
    let jobs = raw(&world).await.collection::<Document>("jobs");
    let running = doc! { "_id": claimed.job.to_string() };
    let stamp = async |year: i32| {
        let later = doc! { "$dateAdd": { "startDate": "$$NOW", "unit": "year", "amount": year } };
        jobs.update_one(running.clone(), vec![doc! { "$set": { "claim_at": later } }]).await.unwrap();
    };
    stamp(1).await;
    assert!(world.claim("two", LEASE).await.is_empty());
    assert_eq!(world.store.shorten_wrong_leases(1).await.unwrap(), 1);
    // Its holder may live.
    assert!(world.claim("two", LEASE).await.is_empty());
    let held = [(claimed.job, claimed.token, claimed.attempt)];
    assert!(world.store.extend_claims(&held, LEASE).await.unwrap().kept.contains(&claimed.job));
    // One that does not lets it run out, as any lease does.
    stamp(1).await;
    let short = doc! { "$set": { "lease_ms": 0 } };
    jobs.update_one(running.clone(), short).await.unwrap();
    assert_eq!(world.store.shorten_wrong_leases(1).await.unwrap(), 1);
    let again = world.claim("two", LEASE).await.remove(0);
    assert_eq!((again.job, again.lost), (claimed.job, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ends_of_workers_are_counted_until_a_run_comes_to_its_own() {
    let world = World::new().await;
    world.certificate("a.example.test").await;
    for lost in 0..3 {
        assert_eq!(world.claim("one", Duration::ZERO).await[0].lost, lost);
    }
    let fourth = world.claim("one", LEASE).await.remove(0);
    assert_eq!(fourth.lost, 3);
    // Whoever hands it back may not have begun with it.
    world.store.settle(&fourth, &Settlement::HandedBack, world.clock.now()).await.unwrap();
    let fifth = world.claim("one", LEASE).await.remove(0);
    assert_eq!(fifth.lost, 3);
    let again = Settlement::Again { after: Duration::ZERO, problem: None, setbacks: None };
    world.store.settle(&fifth, &again, world.clock.now()).await.unwrap();
    assert_eq!(world.claim("one", LEASE).await[0].lost, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_a_person_is_shown_and_tried_again_after_a_day_all_the_same() {
    let world = World::new().await;
    let certificate = world.certificate("a.example.test").await;
    let claimed = world.claim("one", LEASE).await.remove(0);
    let problem =
        Problem::new(Class::RateLimited, "rateLimited", "paused: open https://ca.example.test/unpause");
    let now = world.clock.now();
    world.store.settle(&claimed, &Settlement::Dead(problem.clone()), now).await.unwrap();
    let dead = world
        .store
        .jobs(
            world.project,
            &JobFilter { state: Some(JobState::Dead), ..JobFilter::default() },
            &Page::parse::<JobId>(None, None).unwrap(),
        )
        .await
        .unwrap();
    assert_eq!(dead.items[0].problem, Some(problem.clone()));
    let shown = world.store.certificate(world.project, certificate.id).await.unwrap().unwrap();
    assert_eq!(
        (shown.problem, shown.next_attempt_at, shown.fence),
        (Some(problem), shown.renew_at, claimed.fence + 1)
    );
    assert!(shown.next_attempt_at.unwrap() > later(now, DEAD_WAIT - Duration::from_secs(60)));
    assert!(world.claim("one", LEASE).await.is_empty());
    assert!(world.store.due_certificates(later(now, DEAD_WAIT / 2), 10, 1).await.unwrap().is_empty());
    // A day later it is due, first issuance though it is; once planned it is out of the plan.
    let certificates = raw(&world).await.collection::<Document>("certificates");
    let due = DateTime::from_millis(1);
    let due = doc! { "$set": { "renew_at": due, "plan_at": due } };
    certificates.update_one(doc! { "_id": certificate.id.to_string() }, due).await.unwrap();
    let candidates = world.store.due_certificates(now, 10, 1).await.unwrap();
    assert_eq!((candidates.len(), candidates[0].current), (1, None));
    let work = cap_core::duty::renewal(&candidates[0], now).unwrap();
    let (clock, entropy) = (world.clock.as_ref(), world.entropy.as_ref());
    let draft = JobDraft::now(world.project, work, candidates[0].fence, clock, entropy);
    let planned =
        world.store.plan_renewal(&draft, candidates[0].renew_at, 1, &world.row().await).await.unwrap();
    assert_eq!(planned, cap_store::Planned::Queued);
    assert!(world.store.due_certificates(now, 10, 1).await.unwrap().is_empty());
    let next = world.claim("one", LEASE).await.remove(0);
    assert!(next.fence > claimed.fence);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_twice_waits_in_quarantine_until_somebody_asks_for_it() {
    let world = World::new().await;
    let certificate = world.certificate("a.example.test").await;
    let jobs = raw(&world).await.collection::<Document>("jobs");
    let mut job = None;
    for lane in [Lane::Main, Lane::Main, Lane::Quarantine] {
        let claimed = world.claim("one", LEASE).await.remove(0);
        assert_eq!(claimed.lane, lane);
        let order = world.order(&certificate, &claimed).await;
        let open = OpenOrder { order: order.clone(), fuse: FUSE, at: world.clock.now() };
        world.store.open_order(&open).await.unwrap();
        let problem = Problem::new(Class::Validation, "dns", "no address");
        let failed = FailedAttempt {
            problem,
            next_attempt_at: world.clock.now(),
            needs_new_key: false,
            is_issued: false,
        };
        world.store.fail(&claimed, &order, &failed, &world.row().await).await.unwrap();
        job = Some(claimed.job);
    }
    let job = doc! { "_id": job.unwrap().to_string() };
    let stored = jobs.find_one(job.clone()).await.unwrap().unwrap();
    assert!(stored.get_str("lane").unwrap().ends_with("/quarantine"), "{stored}");
    let id = stored.get_str("_id").unwrap().parse().unwrap();
    let audit = world.row().await;
    let mutation = Mutation { audit: &audit, request: None };
    let retried = world.store.retry_job(world.project, id, mutation).await.unwrap().unwrap();
    assert_eq!(retried.lane, Some(Lane::Main));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_places_are_short_each_lane_is_found_by_a_step_in_the_index() {
    let world = World::new().await;
    let database = raw(&world).await;
    let projects: Vec<ProjectId> = (0..3).map(|_| project(&world)).collect();
    for project in &projects {
        let jobs = (0..3_000).map(|_| job(&world, *project, Lane::Main, 2, DateTime::from_millis(1)));
        put(&world, jobs.collect()).await;
    }
    let commands =
        asked(&database, async { assert_eq!(claim(&world, &BTreeMap::new(), ALL).await.len(), FREE) });
    let commands = commands.await;
    let of = |what: &str| {
        let is = |command: &&Document| command.to_string().contains(what);
        commands.iter().find(is).unwrap_or_else(|| panic!("no {what} in {commands:#?}"))
    };
    let lanes = explain(&database, of("$group")).await;
    assert!(lanes.stages.iter().any(|stage| stage == "DISTINCT_SCAN"), "{lanes:?}");
    assert!(lanes.keys <= 8 && lanes.documents == 0, "{lanes:?}");
    let heads = explain(&database, of("$unionWith")).await;
    heads.goes_by_an_index(of("$unionWith"));
    assert!(heads.keys <= 1_000 && heads.documents <= 100, "{heads:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_lane_has_its_turn_at_a_worker_with_one_place() {
    let world = World::new().await;
    let projects: Vec<ProjectId> = (0..3).map(|_| project(&world)).collect();
    for project in &projects {
        let jobs = (0..10).map(|_| job(&world, *project, Lane::Main, 2, DateTime::from_millis(1)));
        put(&world, jobs.collect()).await;
    }
    let all: Vec<u16> = (0..JOB_PARTITIONS).collect();
    let (held, mut after, mut seen) = (BTreeMap::new(), None, std::collections::BTreeSet::new());
    for _ in 0..projects.len() {
        let token = ClaimId::generate(world.clock.as_ref(), world.entropy.as_ref());
        let room = Room { all: 1, side: 0 };
        let search = Search { room, partitions: &all, after, ..search(&held, world.clock.now()) };
        let claimed = world.store.claim_jobs("one", token, LEASE, &search).await.unwrap();
        after = claimed.last;
        seen.extend(claimed.claims.into_iter().map(|claim| claim.project));
    }
    assert_eq!(seen.len(), projects.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_with_one_job_is_served_although_a_look_sees_an_eighth_of_the_queue() {
    let world = World::new().await;
    let (busy, small) = (project(&world), project(&world));
    let jobs = (0..500).map(|_| job(&world, busy, Lane::Main, 2, DateTime::from_millis(1)));
    put(&world, jobs.collect()).await;
    put(&world, vec![job(&world, small, Lane::Main, 2, DateTime::from_millis(2))]).await;
    let (held, narrow) = (BTreeMap::new(), (0..8).collect::<Vec<u16>>());
    let token = ClaimId::generate(world.clock.as_ref(), world.entropy.as_ref());
    let search =
        Search { room: ALL, partitions: &narrow, is_crowded: true, ..search(&held, world.clock.now()) };
    let claims = world.store.claim_jobs("one", token, LEASE, &search).await.unwrap().claims;
    assert_eq!((claims.len(), of(&claims, small)), (FREE, 1));
}

/// Lanes whose jobs run, or are due in a moment, look like lanes with something due until they are read.
#[tokio::test(flavor = "multi_thread")]
async fn lanes_in_which_nothing_is_due_yet_keep_no_other_from_being_served() {
    let world = World::new().await;
    let mut projects: Vec<ProjectId> = (0..41).map(|_| project(&world)).collect();
    projects.sort_unstable();
    let busy = projects.pop().unwrap();
    let soon = DateTime::from_millis(world.clock.now().as_millisecond() + 40_000);
    put(&world, projects.iter().map(|project| job(&world, *project, Lane::Main, 2, soon)).collect()).await;
    put(&world, (0..20).map(|_| job(&world, busy, Lane::Main, 2, DateTime::from_millis(1))).collect()).await;
    assert_eq!(of(&claim(&world, &BTreeMap::new(), ALL).await, busy), FREE);
}
