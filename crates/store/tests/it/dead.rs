// SPDX-License-Identifier: Apache-2.0
//! Jobs that need a person: what is shown, when it is tried again all the same, and what is left alone.

use std::time::Duration;

use cap_core::certificate::Status;
use cap_core::clock::until;
use cap_core::issuer::IssuerStatus;
use cap_core::job::{Claim, JobDraft, JobState, Settlement, Work};
use cap_core::limits::{DEAD_LOOK_WAIT, DEAD_WAIT};
use cap_core::problem::{Class, Problem};
use cap_store::{CertificateRecord, Mutation, Planned, StoreError};
use cap_testkit::mongo::driver::bson::{DateTime, Document, doc};

use crate::notices::issued;
use crate::queue::raw;
use crate::renewal_info::{claim_looks, registered};
use crate::world::{LEASE, World};

const HOUR: Duration = Duration::from_secs(3_600);

fn problem() -> Problem {
    Problem::new(Class::RateLimited, "rateLimited", "paused: open https://ca.example.test/unpause")
}

async fn bury(world: &World, claim: &Claim) -> Result<(), StoreError> {
    world.store.settle(claim, &Settlement::Dead(problem()), world.clock.now()).await
}

/// A certificate whose version was born `age` ago and lives for `life`, with the claim that renews it.
async fn renewing(world: &World, name: &str, age: Duration, life: Duration) -> (CertificateRecord, Claim) {
    let certificate = issued(world, name, age, life).await;
    let claim = world.renewing(&certificate).await;
    (certificate, claim)
}

/// A claimed registration, which is the only job that is due.
pub(crate) async fn registering(world: &World) -> Claim {
    let jobs = raw(world).await.collection::<Document>("jobs");
    let only = doc! { "$set": { "claim_at": DateTime::from_millis(1) } };
    jobs.update_one(doc! { "work.kind": "register-issuer" }, only).await.unwrap();
    jobs.delete_one(doc! { "work.kind": "issue" }).await.unwrap();
    let claim = world.claim("one", LEASE).await.remove(0);
    assert!(matches!(claim.work, Work::RegisterIssuer { .. }), "{claim:?}");
    claim
}

async fn read(world: &World, certificate: &CertificateRecord) -> CertificateRecord {
    world.store.certificate(world.project, certificate.id).await.unwrap().unwrap()
}

async fn state(world: &World, claim: &Claim) -> (JobState, Option<Problem>) {
    let job = world.store.job(world.project, claim.job).await.unwrap().unwrap();
    (job.state, job.problem)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_is_tried_again_after_a_tenth_of_the_life_that_is_left_and_a_day_at_most() {
    let world = World::new().await;
    let second = Duration::from_secs(1);
    for (name, age, life, wait) in [
        ("hour.example.test", HOUR * 7, HOUR * 8, HOUR / 10),
        ("month.example.test", HOUR * 24, HOUR * 24 * 31, DEAD_WAIT),
        ("over.example.test", HOUR * 9, HOUR * 8, DEAD_WAIT),
        // A minute is left.
        ("minute.example.test", HOUR - second * 60, HOUR, second * 15),
    ] {
        let (certificate, claim) = renewing(&world, name, age, life).await;
        let now = world.clock.now();
        bury(&world, &claim).await.unwrap();
        assert_eq!(state(&world, &claim).await, (JobState::Dead, Some(problem())), "{name}");
        let shown = read(&world, &certificate).await;
        assert_eq!(
            (shown.status, shown.problem, shown.fence),
            (Status::Failing, Some(problem()), claim.fence + 1)
        );
        let again = until(now, shown.renew_at.unwrap());
        assert!(again <= wait + second && again + second * 10 >= wait, "{name}: {again:?} and not {wait:?}");
        assert_eq!(shown.next_attempt_at, shown.renew_at, "{name}");
        let stored = raw(&world).await.collection::<Document>("certificates");
        let stored = stored.find_one(doc! { "_id": certificate.id.to_string() }).await.unwrap().unwrap();
        assert!(!stored.contains_key("planned_for"), "it would never be planned again: {stored}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_renewed_by_itself_has_no_next_attempt() {
    let world = World::new().await;
    let (certificate, claim) = renewing(&world, "off.example.test", HOUR, HOUR * 8).await;
    let certificates = raw(&world).await.collection::<Document>("certificates");
    let off = doc! { "$set": { "auto_renew": false } };
    certificates.update_one(doc! { "_id": certificate.id.to_string() }, off).await.unwrap();
    bury(&world, &claim).await.unwrap();
    let shown = read(&world, &certificate).await;
    assert_eq!((shown.status, shown.next_attempt_at), (Status::Failing, None));
}

/// How far away the next attempt is that a certificate shows.
async fn next_in(world: &World, certificate: &CertificateRecord) -> Duration {
    until(world.clock.now(), read(world, certificate).await.next_attempt_at.unwrap())
}

async fn retry(world: &World, claim: &Claim) {
    let audit = world.row().await;
    let mutation = Mutation { audit: &audit, request: None };
    world.store.retry_job(world.project, claim.job, mutation).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_asks_for_again_is_shown_to_be_tried_now() {
    let world = World::new().await;
    let (certificate, claim) = renewing(&world, "a.example.test", HOUR, HOUR * 8).await;
    let postpone = async |claim: &Claim| {
        let again = Settlement::Again { after: HOUR, problem: Some(problem()), setbacks: None };
        world.store.settle(claim, &again, world.clock.now()).await.unwrap();
        assert!(next_in(&world, &certificate).await > HOUR / 2);
    };
    postpone(&claim).await;
    retry(&world, &claim).await;
    assert_eq!(next_in(&world, &certificate).await, Duration::ZERO, "a job that waited");
    let claim = world.claim("one", LEASE).await.remove(0);
    postpone(&claim).await;
    let claim = world.renewing(&certificate).await;
    assert_eq!(next_in(&world, &certificate).await, Duration::ZERO, "a renewal that waited");
    bury(&world, &claim).await.unwrap();
    assert!(next_in(&world, &certificate).await > HOUR / 2);
    let claim = world.renewing(&read(&world, &certificate).await).await;
    assert_eq!(next_in(&world, &certificate).await, Duration::ZERO, "a renewal beside a dead one");

    // Another job's worker may be at it, and comes first.
    postpone(&claim).await;
    let jobs = raw(&world).await.collection::<Document>("jobs");
    let held = doc! { "$set": { "held_until": { "$add": ["$$NOW", 300_000] } } };
    jobs.update_one(doc! { "_id": claim.job.to_string() }, vec![held]).await.unwrap();
    retry(&world, &claim).await;
    let held = next_in(&world, &certificate).await;
    assert!(held > Duration::from_secs(200) && held <= Duration::from_secs(300), "{held:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_that_is_retried_is_shown_to_be_tried_now_and_nothing_is_said_of_what_is_well() {
    let world = World::new().await;
    let certificate = world.certificate("a.example.test").await;
    let claim = registering(&world).await;
    bury(&world, &claim).await.unwrap();
    let next = async || {
        let issuer = world.store.issuer(world.project, &certificate.issuer.to_string()).await;
        issuer.unwrap().unwrap().next_attempt_at
    };
    assert_eq!(next().await, None);
    retry(&world, &claim).await;
    assert!(next().await.is_some_and(|next| next <= world.clock.now()));
    assert_eq!(world.claim("one", LEASE).await.len(), 1);
    let certificate = issued(&world, "well.example.test", HOUR, HOUR * 8).await;
    world.renewing(&certificate).await;
    assert_eq!(read(&world, &certificate).await.next_attempt_at, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_was_taken_over_buries_nothing() {
    let world = World::new().await;
    let certificate = world.certificate("late.example.test").await;
    let late = world.claim("one", Duration::ZERO).await.remove(0);
    let next = world.claim("two", LEASE).await.remove(0);
    let before = read(&world, &certificate).await;
    assert!(matches!(bury(&world, &late).await, Err(StoreError::Fenced)));
    assert_eq!(read(&world, &certificate).await, before);
    assert_eq!(state(&world, &next).await.0, JobState::Running);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_says_what_its_account_needs_and_goes_on_with_a_higher_fence() {
    let world = World::new().await;
    let certificate = world.certificate("a.example.test").await;
    let claim = registering(&world).await;
    bury(&world, &claim).await.unwrap();
    let issuer = world.store.issuer(world.project, &certificate.issuer.to_string()).await.unwrap().unwrap();
    assert_eq!((issuer.status, issuer.problem), (IssuerStatus::Failing, Some(problem())));
    assert_eq!((issuer.next_attempt_at, issuer.fence), (None, claim.fence + 1));
    assert_eq!(state(&world, &claim).await.0, JobState::Dead);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drift_scan_that_is_buried_leaves_its_certificate_as_it_was() {
    let (world, certificate) = crate::drift::on_and_issued().await;
    let claim = crate::drift::claimed(&world).await;
    let before = read(&world, &certificate).await;
    bury(&world, &claim).await.unwrap();
    let after = read(&world, &certificate).await;
    assert_eq!((after.status, &after.problem, after.fence), (before.status, &None, before.fence));
    assert_eq!(after.drift.fence, Some(claim.fence + 1));
    assert_eq!(state(&world, &claim).await, (JobState::Dead, Some(problem())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drift_scan_that_kills_its_workers_is_planned_again_after_a_day() {
    let (world, certificate) = crate::drift::on_and_issued().await;
    let claim = crate::drift::claimed(&world).await;
    let certificates = raw(&world).await.collection::<Document>("certificates");
    let own = doc! { "_id": certificate.id.to_string() };
    // The next one would be due in a moment.
    let soon = vec![doc! { "$set": { "drift_at": "$$NOW" } }];
    certificates.update_one(own.clone(), soon).await.unwrap();
    bury(&world, &claim).await.unwrap();
    let stored = certificates.find_one(own).await.unwrap().unwrap();
    let next =
        stored.get_datetime("drift_at").unwrap().timestamp_millis() - world.clock.now().as_millisecond();
    let day = i64::try_from(DEAD_LOOK_WAIT.as_millis()).unwrap();
    assert!((day - 60_000..=day).contains(&next), "{next} ms");
}

#[tokio::test(flavor = "multi_thread")]
async fn looks_that_kill_their_workers_are_planned_again_after_a_day_or_once_somebody_retries_them() {
    let world = World::new().await;
    let certificate = issued(&world, "a.example.test", HOUR, HOUR * 8).await;
    let issuers = raw(&world).await.collection::<Document>("issuers");
    let own = doc! { "_id": certificate.issuer.to_string() };
    let plan = async || {
        let work = Work::RenewalLook { issuer: certificate.issuer };
        let (clock, entropy) = (world.clock.as_ref(), world.entropy.as_ref());
        let job = JobDraft::now(world.project, work, 0, clock, entropy);
        world.store.plan_renewal_look(&job, 1).await.unwrap()
    };
    registered(&world, certificate.issuer).await;
    assert_eq!(plan().await, Planned::Queued);
    let claim = claim_looks(&world).await.remove(0);
    bury(&world, &claim).await.unwrap();
    assert_eq!(plan().await, Planned::Unneeded, "it would kill the next one at once");
    let moved = async |by: Duration| {
        let ms = i64::try_from(by.as_millis()).unwrap();
        let earlier = doc! { "$set": { "ari_after": { "$subtract": ["$ari_after", ms] } } };
        issuers.update_one(own.clone(), vec![earlier]).await.unwrap();
    };
    moved(DEAD_LOOK_WAIT - HOUR).await;
    assert_eq!(plan().await, Planned::Unneeded, "a day is not over");
    let audit = world.row().await;
    let mutation = Mutation { audit: &audit, request: None };
    world.store.retry_job(world.project, claim.job, mutation).await.unwrap().unwrap();
    let claim = claim_looks(&world).await.remove(0);
    world.store.settle(&claim, &Settlement::Succeeded, world.clock.now()).await.unwrap();
    assert_eq!(plan().await, Planned::Queued, "whoever retries it has mended something");

    let claim = claim_looks(&world).await.remove(0);
    bury(&world, &claim).await.unwrap();
    moved(DEAD_LOOK_WAIT + HOUR).await;
    assert_eq!(plan().await, Planned::Queued, "a day is over");
    let claim = claim_looks(&world).await.remove(0);
    bury(&world, &claim).await.unwrap();
    let wrong = doc! { "$set": { "ari_after": { "$add": ["$$NOW", 100 * 86_400_000_i64] } } };
    issuers.update_one(own.clone(), vec![wrong]).await.unwrap();
    assert_eq!(plan().await, Planned::Queued, "a clock that was wrong keeps nobody waiting");
}
