// SPDX-License-Identifier: Apache-2.0
//! What people ask of jobs: what is done, what is refused, and that no order is left without a successor.

use std::time::Duration;

use cap_core::certificate::Status;
use cap_core::id::{JobId, VersionId};
use cap_core::job::{Claim, JobDraft, JobState, Settlement, Work};
use cap_core::order::{Ledger as _, OrderState};
use cap_store::{CertificateRecord, JobRecord, JobRefusal, Mutation, OpenOrder, Planned, StoreError};
use cap_testkit::mongo::driver::bson::{DateTime, Document, doc};

use crate::queue::raw;
use crate::world::{FUSE, LEASE, World, held};

type Changed = Result<Result<JobRecord, JobRefusal>, StoreError>;

async fn retry(world: &World, job: JobId) -> Changed {
    let audit = world.row().await;
    world.store.retry_job(world.project, job, Mutation { audit: &audit, request: None }).await
}

async fn cancel(world: &World, job: JobId) -> Changed {
    let audit = world.row().await;
    world.store.cancel_job(world.project, job, Mutation { audit: &audit, request: None }).await
}

async fn audited(world: &World) -> u64 {
    raw(world).await.collection::<Document>("audit_outbox").count_documents(doc! {}).await.unwrap()
}

/// A certificate whose job waits for an hour after a first claim.
async fn waiting(world: &World) -> (CertificateRecord, Claim) {
    let certificate = world.certificate("a.example.test").await;
    let claim = world.claim("one", LEASE).await.remove(0);
    postpone(world, &claim).await;
    (certificate, claim)
}

async fn postpone(world: &World, claim: &Claim) {
    let again = Settlement::Again { after: Duration::from_secs(3_600), problem: None, setbacks: None };
    world.store.settle(claim, &again, world.clock.now()).await.unwrap();
}

/// Changes a job behind the store.
async fn set(world: &World, job: JobId, change: Document) {
    let jobs = raw(world).await.collection::<Document>("jobs");
    let done = jobs.update_one(doc! { "_id": job.to_string() }, change).await.unwrap();
    assert_eq!(done.matched_count, 1);
}

async fn die(world: &World, job: JobId) {
    let dead = doc! { "$set": { "state": "dead", "alive": false }, "$unset": { "claim_at": 1, "token": 1 } };
    set(world, job, dead).await;
}

/// Another was faster with what a dead job was for.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_for_a_version_that_was_replaced_is_not_retried_and_its_cancellation_ends_no_later_order() {
    let world = World::new().await;
    let (certificate, claim, order) = crate::orders::begun(&world, "a.example.test", LEASE).await;
    postpone(&world, &claim).await;
    let database = raw(&world).await;
    let (certificates, orders) =
        (database.collection::<Document>("certificates"), database.collection::<Document>("orders"));
    let id = doc! { "_id": certificate.id.to_string() };
    let version = VersionId::generate(world.clock.as_ref(), world.entropy.as_ref()).to_string();
    let replaced = doc! { "$set": { "version": { "id": &version }, "status": "renewing", "fence": 90_i64 } };
    certificates.update_one(id.clone(), replaced).await.unwrap();
    let later = doc! { "$set": { "made_for": &version } };
    orders.update_one(doc! { "_id": order.id.to_string() }, later).await.unwrap();
    let before = certificates.find_one(id.clone()).await.unwrap();
    cancel(&world, claim.job).await.unwrap().unwrap();
    assert_eq!(certificates.find_one(id).await.unwrap(), before);
    assert!(world.store.order(order.id).await.unwrap().unwrap().state.is_live());
    die(&world, claim.job).await;
    assert_eq!(retry(&world, claim.job).await.unwrap(), Err(JobRefusal::Pointless));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_the_ca_cannot_have_issued_for_ends_with_its_cancelled_job_and_frees_the_names() {
    let world = World::new().await;
    let (certificate, claim, order) = crate::orders::begun(&world, "a.example.test", LEASE).await;
    world.store.advance(&order, crate::orders::ordered(), &[]).await.unwrap();
    postpone(&world, &claim).await;
    cancel(&world, claim.job).await.unwrap().unwrap();
    assert!(!world.store.order(order.id).await.unwrap().unwrap().state.is_live());
    assert_eq!(world.store.certificate(world.project, certificate.id).await.unwrap().unwrap().order, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_waits_is_retried_now_and_wakes_whoever_watches() {
    let world = World::new().await;
    let (_, first) = waiting(&world).await;
    assert!(world.claim("two", LEASE).await.is_empty());
    let mut watch = world.store.watch_jobs(|| Duration::ZERO).await.unwrap();
    let before = audited(&world).await;
    let job = retry(&world, first.job).await.unwrap().unwrap();
    assert_eq!((job.id, job.state), (first.job, JobState::Queued));
    assert_eq!(audited(&world).await, before + 1);
    tokio::time::timeout(Duration::from_secs(10), watch.queued()).await.expect("no wake-up").unwrap();
    let second = world.claim("two", LEASE).await.remove(0);
    assert_eq!((second.job, second.fence), (first.job, first.fence + 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_overdue_keeps_its_age_when_it_is_retried() {
    let world = World::new().await;
    world.certificate("a.example.test").await;
    let claim = world.claim("one", Duration::ZERO).await.remove(0);
    world.store.settle(&claim, &Settlement::HandedBack, world.clock.now()).await.unwrap();
    let before = world.store.job(world.project, claim.job).await.unwrap().unwrap();
    let after = retry(&world, claim.job).await.unwrap().unwrap();
    assert_eq!(after.due_at, before.due_at);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_job_is_revived_under_its_key_with_a_fence_above_every_other() {
    let world = World::new().await;
    let (certificate, first) = waiting(&world).await;
    die(&world, first.job).await;
    set(&world, first.job, doc! { "$currentDate": { "expire_at": true }, "$set": { "uncounted": true } })
        .await;
    let certificates = raw(&world).await.collection::<Document>("certificates");
    let id = doc! { "_id": certificate.id.to_string() };
    certificates.update_one(id, doc! { "$set": { "fence": 40_i64 } }).await.unwrap();

    let revived = retry(&world, first.job).await.unwrap().unwrap();
    assert_eq!((revived.id, revived.state, revived.finished_at), (first.job, JobState::Queued, None));
    let jobs = raw(&world).await.collection::<Document>("jobs");
    let stored = jobs.find_one(doc! { "_id": first.job.to_string() }).await.unwrap().unwrap();
    assert!(stored.get_bool("alive").unwrap() && !stored.contains_key("expire_at"), "{stored}");
    assert!(
        !stored.contains_key("uncounted"),
        "one that lives would be counted as dead, and removed: {stored}"
    );
    assert_eq!(world.claim("two", LEASE).await.remove(0).fence, 41);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_job_is_not_revived_beside_another_or_for_what_is_gone() {
    let world = World::new().await;
    let (certificate, first) = waiting(&world).await;
    die(&world, first.job).await;
    let work = Work::Issue { certificate: certificate.id, made_for: None };
    let draft = JobDraft::now(world.project, work, 9, world.clock.as_ref(), world.entropy.as_ref());
    let audit = world.row().await;
    let mutation = Mutation { audit: &audit, request: None };
    let other = world.store.request_renewal(None, &draft, mutation).await.unwrap();
    let before = audited(&world).await;
    assert_eq!(retry(&world, first.job).await.unwrap(), Err(JobRefusal::Doubled));
    die(&world, other.id).await;
    let certificates = raw(&world).await.collection::<Document>("certificates");
    certificates.delete_one(doc! { "_id": certificate.id.to_string() }).await.unwrap();
    assert_eq!(retry(&world, first.job).await.unwrap(), Err(JobRefusal::Pointless));
    assert_eq!(audited(&world).await, before, "a refusal was audited as done");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_or_is_over_is_neither_retried_nor_cancelled() {
    let world = World::new().await;
    world.certificate("a.example.test").await;
    let claim = world.claim("one", LEASE).await.remove(0);
    let before = audited(&world).await;
    let refused = |state| Err(JobRefusal::State(state));
    for change in [retry(&world, claim.job).await, cancel(&world, claim.job).await] {
        assert_eq!(change.unwrap(), refused(JobState::Running));
    }
    let extended = world.store.extend_claims(&[held(&claim)], LEASE).await.unwrap();
    assert_eq!(extended.kept, vec![claim.job], "a refusal took the job from its worker");
    world.store.settle(&claim, &Settlement::Succeeded, world.clock.now()).await.unwrap();
    for change in [retry(&world, claim.job).await, cancel(&world, claim.job).await] {
        assert_eq!(change.unwrap(), refused(JobState::Succeeded));
    }
    let unknown = JobId::generate(world.clock.as_ref(), world.entropy.as_ref());
    assert_eq!(retry(&world, unknown).await.unwrap(), Err(JobRefusal::Missing));
    assert_eq!(cancel(&world, unknown).await.unwrap(), Err(JobRefusal::Missing));
    assert_eq!(audited(&world).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_job_runs_no_more_and_the_next_one_goes_on_with_an_order_that_may_be_finalized() {
    let world = World::new().await;
    let certificate = world.certificate("a.example.test").await;
    let mut claim = world.claim("one", LEASE).await.remove(0);
    let order = world.order(&certificate, &claim).await;
    let open = OpenOrder { order: order.clone(), fuse: FUSE, at: world.clock.now() };
    world.store.open_order(&open).await.unwrap();
    // Claimed once more, so that the job's fence is above the one that the certificate and the order have.
    world.store.settle(&claim, &Settlement::HandedBack, world.clock.now()).await.unwrap();
    claim = world.claim("two", LEASE).await.remove(0);
    let taken = world.store.take_order(certificate.id, claim.fence).await.unwrap().unwrap();
    let placed = crate::orders::ordered().placed().unwrap().clone();
    let ready = OrderState::Ready { placed, since: world.clock.now() };
    world.store.advance(&taken, ready, &[]).await.unwrap();
    postpone(&world, &claim).await;

    let job = cancel(&world, claim.job).await.unwrap().unwrap();
    assert_eq!((job.state, job.due_at, job.finished_at.is_some()), (JobState::Cancelled, None, true));
    assert_eq!(retry(&world, claim.job).await.unwrap(), Err(JobRefusal::State(JobState::Cancelled)));
    assert_eq!(cancel(&world, claim.job).await.unwrap(), Err(JobRefusal::State(JobState::Cancelled)));

    let stored = world.store.certificate(world.project, certificate.id).await.unwrap().unwrap();
    assert_eq!(stored.order, Some(order.id), "the order was dropped");
    assert_eq!((stored.status, stored.problem), (Status::Requested, None), "nothing works on it");
    let work = Work::Issue { certificate: certificate.id, made_for: None };
    // Whoever asks for it read the certificate before the job was cancelled.
    let draft = JobDraft::now(world.project, work, 0, world.clock.as_ref(), world.entropy.as_ref());
    let audit = world.row().await;
    let mutation = Mutation { audit: &audit, request: None };
    let next = world.store.request_renewal(None, &draft, mutation).await.unwrap();
    assert_ne!(next.id, claim.job);
    let next = world.claim("three", LEASE).await.remove(0);
    assert!(next.fence > claim.fence, "{} after {}", next.fence, claim.fence);
    let taken = world.store.take_order(certificate.id, next.fence).await.unwrap().unwrap();
    assert_eq!(taken.id, order.id, "another order would be bought");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_renewal_is_planned_again() {
    let world = World::new().await;
    let certificate = world.certificate("a.example.test").await;
    let first = world.claim("one", LEASE).await.remove(0);
    world.store.settle(&first, &Settlement::Succeeded, world.clock.now()).await.unwrap();
    let version = VersionId::generate(world.clock.as_ref(), world.entropy.as_ref());
    let certificates = raw(&world).await.collection::<Document>("certificates");
    let due = world.clock.now();
    let at = DateTime::from_millis(due.as_millisecond());
    let set = doc! { "$set": { "version": { "id": version.to_string() }, "renew_at": at, "plan_at": at } };
    certificates.update_one(doc! { "_id": certificate.id.to_string() }, set).await.unwrap();
    let fence = async || {
        let found = certificates.find_one(doc! { "_id": certificate.id.to_string() }).await.unwrap().unwrap();
        found.get_i64("fence").unwrap()
    };
    let plan = async |fence| {
        let work = Work::Issue { certificate: certificate.id, made_for: Some(version) };
        let job = JobDraft::now(world.project, work, fence, world.clock.as_ref(), world.entropy.as_ref());
        let audit = world.row().await;
        (job.id, world.store.plan_renewal(&job, due, 1, &audit).await.unwrap())
    };
    let planned_for = async || {
        let found = certificates.find_one(doc! { "_id": certificate.id.to_string() }).await.unwrap().unwrap();
        found.get_str("planned_for").ok().map(str::to_owned)
    };
    assert_eq!(plan(fence().await - 1).await.1, Planned::Unneeded, "it was read before another job ended");
    assert_eq!(planned_for().await, None);
    let (job, planned) = plan(fence().await).await;
    assert_eq!((planned, planned_for().await), (Planned::Queued, Some(version.to_string())));
    cancel(&world, job).await.unwrap().unwrap();
    assert_eq!(planned_for().await, None, "the planner would pass it over");
    let found = certificates.find_one(doc! { "_id": certificate.id.to_string() }).await.unwrap().unwrap();
    assert_eq!(found.get_str("status").unwrap(), "valid");
    assert_eq!(plan(fence().await).await.1, Planned::Queued);
}
