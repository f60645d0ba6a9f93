// SPDX-License-Identifier: Apache-2.0
//! Revocations: what was asked for and what became of it, each written down once and whole.

use std::time::Duration;

use cap_core::certificate::{RevocationReason, Status};
use cap_core::id::{JobId, VersionId};
use cap_core::job::{Claim, JobDraft, JobState, Settlement, Work};
use cap_core::limits::REVOCATION_PARTITION;
use cap_core::order::{Ledger as _, OrderState, Placed};
use cap_core::page::Page;
use cap_store::{
    CertificateChange, CertificateRecord, Deleted, JobRecord, JobRefusal, Mutation, OpenOrder, Opened,
    RevocationAsked, RevocationRecord, Revoked, StoreError, VersionRecord,
};
use cap_testkit::mongo::driver::Client;
use cap_testkit::mongo::driver::bson::{Document, doc};

use crate::notices::issued;
use crate::queue::raw;
use crate::world::{FUSE, LEASE, World};

const DAY: Duration = Duration::from_secs(86_400);

async fn get(world: &World, certificate: &CertificateRecord) -> CertificateRecord {
    world.store.certificate(world.project, certificate.id).await.unwrap().unwrap()
}

async fn newest(world: &World, certificate: &CertificateRecord) -> VersionRecord {
    let page = Page { limit: 1, after: None };
    world.store.versions(certificate.id, &page).await.unwrap().items.remove(0)
}

fn current(certificate: &CertificateRecord) -> VersionId {
    certificate.version.as_ref().unwrap().id
}

pub(crate) async fn ask(
    world: &World,
    certificate: &CertificateRecord,
    reason: RevocationReason,
    replace: Option<bool>,
) -> RevocationAsked {
    ask_of(world, None, certificate, reason, replace).await.unwrap()
}

/// The same of a certificate that must be as it was seen.
pub(crate) async fn ask_of(
    world: &World,
    seen: Option<&CertificateRecord>,
    certificate: &CertificateRecord,
    reason: RevocationReason,
    replace: Option<bool>,
) -> Result<RevocationAsked, StoreError> {
    let work = Work::Revoke { certificate: certificate.id, version: current(certificate) };
    let job = JobDraft::now(world.project, work, 0, world.clock.as_ref(), world.entropy.as_ref()).awaited();
    let wanted = RevocationRecord {
        reason,
        asked_at: world.clock.now(),
        replace,
        revoked_at: None,
        problem: None,
        next_attempt_at: None,
    };
    let audit = world.row().await;
    let mutation = Mutation { audit: &audit, request: None };
    world.store.request_revocation(seen, &wanted, &job, mutation).await
}

fn job(asked: RevocationAsked) -> JobRecord {
    match asked {
        RevocationAsked::Job(job) => *job,
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn claim(world: &World) -> Claim {
    world.claim_in(&[REVOCATION_PARTITION], "one", LEASE).await.remove(0)
}

pub(crate) async fn record(world: &World, claim: &Claim) -> Result<JobId, StoreError> {
    let Work::Revoke { certificate, version } = claim.work else { panic!("{claim:?}") };
    let replacement = JobId::generate(world.clock.as_ref(), world.entropy.as_ref());
    let revoked = Revoked { certificate, version, at: world.clock.now(), replacement };
    world.store.record_revoked(claim, &revoked, &world.row().await).await.map(|()| replacement)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_is_one_job_for_one_reason_and_stands_on_the_version_before_the_ca_is_told() {
    let world = World::new().await;
    let certificate = issued(&world, "a.example.test", DAY, DAY * 90).await;
    let first = job(ask(&world, &certificate, RevocationReason::Superseded, None).await);
    let again = job(ask(&world, &certificate, RevocationReason::Superseded, None).await);
    assert_eq!(first.id, again.id, "one job, however often it is asked for");
    let other = ask(&world, &certificate, RevocationReason::KeyCompromise, None).await;
    assert_eq!(other, RevocationAsked::Otherwise(RevocationReason::Superseded));
    let stored = get(&world, &certificate).await;
    let intent = stored.version.as_ref().unwrap().revocation.clone().unwrap();
    assert_eq!((intent.reason, intent.revoked_at), (RevocationReason::Superseded, None));
    assert!(stored.new_key && !stored.version.as_ref().unwrap().is_revoked());
    assert_eq!(newest(&world, &certificate).await.revocation, Some(intent));

    let mut missing = certificate.clone();
    missing.version.as_mut().unwrap().id = VersionId::generate(world.clock.as_ref(), world.entropy.as_ref());
    let asked = ask(&world, &missing, RevocationReason::Superseded, None).await;
    assert_eq!(asked, RevocationAsked::Missing);
    assert!(world.claim("one", LEASE).await.is_empty(), "whoever issues does not meet it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_version_in_use_is_replaced_at_once_with_a_new_key() {
    let world = World::new().await;
    let certificate = issued(&world, "a.example.test", DAY, DAY * 90).await;
    ask(&world, &certificate, RevocationReason::KeyCompromise, None).await;
    let held = claim(&world).await;
    let replacement = record(&world, &held).await.unwrap();
    assert!(matches!(record(&world, &held).await, Err(StoreError::Fenced)), "it was written twice");
    let stored = get(&world, &certificate).await;
    assert!(stored.version.as_ref().unwrap().is_revoked() && !stored.keeps_key());
    assert_eq!(stored.renew_at, certificate.renew_at);
    let issuing = world.claim("one", LEASE).await.remove(0);
    let made_for = Some(current(&certificate));
    assert_eq!(issuing.job, replacement);
    assert_eq!(issuing.work, Work::Issue { certificate: certificate.id, made_for });
    let done = ask(&world, &certificate, RevocationReason::KeyCompromise, None).await;
    assert!(matches!(done, RevocationAsked::Done(_)), "{done:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_that_waits_is_the_replacement() {
    let world = World::new().await;
    let certificate = issued(&world, "a.example.test", DAY, DAY * 90).await;
    let renewal = world.renewing(&certificate).await;
    let later = cap_core::job::Settlement::Again { after: DAY, problem: None, setbacks: None };
    world.store.settle(&renewal, &later, world.clock.now()).await.unwrap();
    ask(&world, &certificate, RevocationReason::Superseded, None).await;
    record(&world, &claim(&world).await).await.unwrap();
    assert_eq!(
        world.claim("one", LEASE).await.remove(0).job,
        renewal.job,
        "it comes forward, and there is no other"
    );
}

/// A renewal that has waited since before the revocation would bring back what was let go of.
#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_that_waits_ends_with_what_is_not_to_be_replaced() {
    for (replace, renewed) in [(Some(false), false), (None, true), (Some(true), true)] {
        let world = World::new().await;
        let certificate = issued(&world, "a.example.test", DAY, DAY * 90).await;
        let renewal = world.renewing(&certificate).await;
        let later = Settlement::Again { after: DAY, problem: None, setbacks: None };
        world.store.settle(&renewal, &later, world.clock.now()).await.unwrap();
        ask(&world, &certificate, RevocationReason::CessationOfOperation, replace).await;
        record(&world, &claim(&world).await).await.unwrap();
        let stored = get(&world, &certificate).await;
        let job = world.store.job(world.project, renewal.job).await.unwrap().unwrap();
        assert_eq!(job.state == JobState::Cancelled, !renewed, "{replace:?}: {job:?}");
        assert_eq!(stored.renew_at.is_some(), renewed, "{replace:?}");
        assert_eq!(world.claim("one", LEASE).await.len(), usize::from(renewed), "{replace:?}");
    }
}

/// A renewal beside a revocation that replaces nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Beside {
    /// The CA may have issued for it.
    Finalized,
    /// Somebody asked for it after the revocation.
    AskedFor,
    /// It fell due after the revocation was asked for.
    Planned,
    /// It waits, and an order that was set aside is watched.
    Watching,
    /// It runs, without an order so far.
    Running,
    /// It runs, and somebody asked for it after the revocation.
    RunningAskedFor,
}

async fn ask_renewal(world: &World, certificate: &CertificateRecord) {
    let work = Work::Issue { certificate: certificate.id, made_for: Some(current(certificate)) };
    let (clock, entropy) = (world.clock.as_ref(), world.entropy.as_ref());
    let job = JobDraft::now(world.project, work, certificate.fence, clock, entropy).awaited();
    let audit = world.row().await;
    world.store.request_renewal(None, &job, Mutation { audit: &audit, request: None }).await.unwrap();
}

pub(crate) async fn renewal_beside(world: &World, certificate: &CertificateRecord, beside: Beside) -> Claim {
    let again = Settlement::Again { after: DAY, problem: None, setbacks: None };
    let claim = match beside {
        Beside::Finalized | Beside::Planned | Beside::Watching => world.renewing(certificate).await,
        Beside::Running => return world.renewing(certificate).await,
        Beside::RunningAskedFor => {
            let claim = world.renewing(certificate).await;
            ask_renewal(world, certificate).await;
            return claim;
        }
        Beside::AskedFor => {
            ask_renewal(world, certificate).await;
            world.claim("one", LEASE).await.remove(0)
        }
    };
    if let Beside::Finalized = beside {
        let order = world.order(&get(world, certificate).await, &claim).await;
        let open = OpenOrder { order: order.clone(), fuse: FUSE, at: world.clock.now() };
        assert!(matches!(world.store.open_order(&open).await.unwrap(), Opened::Order(_)));
        let placed = Placed { url: "https://ca.example.test/order/9".into(), expires: None };
        let ready = OrderState::Ready { placed, since: world.clock.now() };
        world.store.advance(&order, ready, &[]).await.unwrap();
    }
    if let Beside::Watching = beside {
        let watched = doc! { "$set": { "watched": [format!("ord_{:032x}", 7)] } };
        let certificates = raw(world).await.collection::<Document>("certificates");
        certificates.update_one(doc! { "_id": certificate.id.to_string() }, watched).await.unwrap();
    }
    world.store.settle(&claim, &again, world.clock.now()).await.unwrap();
    claim
}

/// What somebody asked for later is a later wish, and what the CA may have issued for is fetched.
#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_that_was_asked_for_later_or_that_the_ca_may_issue_for_goes_on() {
    for (beside, state) in [
        (Beside::Finalized, JobState::Queued),
        (Beside::AskedFor, JobState::Queued),
        (Beside::Planned, JobState::Cancelled),
        (Beside::Watching, JobState::Queued),
        (Beside::Running, JobState::Running),
        (Beside::RunningAskedFor, JobState::Running),
    ] {
        let world = World::new().await;
        let certificate = issued(&world, "a.example.test", DAY, DAY * 90).await;
        let ask = || ask(&world, &certificate, RevocationReason::CessationOfOperation, Some(false));
        let renewal = if let Beside::Finalized = beside {
            let renewal = renewal_beside(&world, &certificate, beside).await;
            ask().await;
            renewal
        } else {
            ask().await;
            renewal_beside(&world, &certificate, beside).await
        };
        record(&world, &claim(&world).await).await.unwrap();
        let job = world.store.job(world.project, renewal.job).await.unwrap().unwrap();
        assert_eq!(job.state, state, "{beside:?}");
        let own = doc! { "_id": renewal.job.to_string(), "is_last": true };
        let last = raw(&world).await.collection::<Document>("jobs").count_documents(own).await.unwrap();
        assert_eq!(
            last == 1,
            matches!(beside, Beside::Finalized | Beside::Watching | Beside::Running),
            "{beside:?}"
        );
        if let Beside::Finalized = beside {
            is_last_until_somebody_asks(&world, &certificate, &renewal).await;
        }
    }
}

/// It brings its order to its end and begins no other, as long as that is what was asked for last.
async fn is_last_until_somebody_asks(world: &World, certificate: &CertificateRecord, renewal: &Claim) {
    let jobs = raw(world).await.collection::<Document>("jobs");
    let own = doc! { "_id": renewal.job.to_string() };
    let now = vec![doc! { "$set": { "claim_at": "$$NOW" } }];
    jobs.update_one(own, now).await.unwrap();
    let claim = world.claim("one", LEASE).await.remove(0);
    assert!(claim.is_last && claim.job == renewal.job);
    let again = Settlement::Again { after: DAY, problem: None, setbacks: None };
    world.store.settle(&claim, &again, world.clock.now()).await.unwrap();
    let claim = world.renewing(certificate).await;
    assert!(!claim.is_last && claim.job == renewal.job, "somebody asked for it since");
}

/// Who says once more that nothing is to take its place means what was asked for until then.
#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_that_was_asked_for_before_the_revocation_was_repeated_ends() {
    let world = World::new().await;
    let certificate = issued(&world, "a.example.test", DAY, DAY * 90).await;
    ask(&world, &certificate, RevocationReason::CessationOfOperation, None).await;
    let renewal = renewal_beside(&world, &certificate, Beside::AskedFor).await;
    ask(&world, &certificate, RevocationReason::CessationOfOperation, Some(false)).await;
    record(&world, &claim(&world).await).await.unwrap();
    let job = world.store.job(world.project, renewal.job).await.unwrap().unwrap();
    assert_eq!(job.state, JobState::Cancelled);
}

/// Whatever was read before: what counts is how it is when it is changed.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_let_go_of_is_due_at_once_when_it_is_to_be_renewed_again() {
    let world = World::new().await;
    let certificate = issued(&world, "a.example.test", DAY, DAY * 90).await;
    let resume = async || {
        let change = CertificateChange { auto_renew: Some(true), ..CertificateChange::default() };
        let (audit, now) = (world.row().await, world.clock.now());
        let mutation = Mutation { audit: &audit, request: None };
        assert!(world.store.update_certificate(certificate.id, None, change, now, mutation).await.unwrap());
        get(&world, &certificate).await.renew_at
    };
    assert_eq!(resume().await, certificate.renew_at, "it is not revoked");
    ask(&world, &certificate, RevocationReason::CessationOfOperation, Some(false)).await;
    record(&world, &claim(&world).await).await.unwrap();
    assert_eq!(get(&world, &certificate).await.renew_at, None);
    assert!(resume().await.is_some_and(|at| at <= world.clock.now()));
    let due = world.store.due_certificates(world.clock.now(), 10, 1).await.unwrap();
    assert_eq!(due.iter().map(|due| due.certificate).collect::<Vec<_>>(), [certificate.id]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_that_ends_dead_does_not_plan_what_was_let_go_of() {
    let world = World::new().await;
    let certificate = issued(&world, "a.example.test", DAY, DAY * 90).await;
    // It runs while the version is revoked.
    let renewal = world.renewing(&certificate).await;
    ask(&world, &certificate, RevocationReason::CessationOfOperation, Some(false)).await;
    record(&world, &claim(&world).await).await.unwrap();
    let problem = cap_core::problem::Problem::new(cap_core::problem::Class::RateLimited, "paused", "");
    world.store.settle(&renewal, &Settlement::Dead(problem), world.clock.now()).await.unwrap();
    let stored = get(&world, &certificate).await;
    assert_eq!((stored.renew_at, stored.next_attempt_at), (None, None));
    let year = cap_core::clock::later(world.clock.now(), DAY * 365);
    assert!(world.store.due_certificates(year, 10, 1).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_to_be_replaced_is_revoked_and_nothing_plans_it_any_more() {
    let world = World::new().await;
    let certificate = issued(&world, "a.example.test", DAY * 80, DAY * 90).await;
    ask(&world, &certificate, RevocationReason::CessationOfOperation, Some(false)).await;
    record(&world, &claim(&world).await).await.unwrap();
    let stored = get(&world, &certificate).await;
    assert_eq!((stored.renew_at, stored.renewal_info.at), (None, None));
    assert!(world.claim("one", LEASE).await.is_empty());
    let now = world.clock.now();
    assert!(world.store.due_certificates(now, 10, 1).await.unwrap().is_empty());
    let page = Page::parse::<cap_core::id::CertificateId>(None, None).unwrap();
    let end = stored.version.as_ref().unwrap().not_after;
    for (status, found) in [(Status::Revoked, 1), (Status::Valid, 0), (Status::Expired, 0)] {
        for at in [now, end] {
            let listed = world.store.certificates(world.project, Some(status), at, &page).await.unwrap();
            assert_eq!(listed.items.len(), found, "{status:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_later_of_the_replacement_counts() {
    for (first, then, is_replaced) in
        [(Some(false), Some(true), true), (None, Some(false), false), (Some(false), None, false)]
    {
        let world = World::new().await;
        let certificate = issued(&world, "a.example.test", DAY, DAY * 90).await;
        let one = job(ask(&world, &certificate, RevocationReason::Superseded, first).await);
        let same = job(ask(&world, &certificate, RevocationReason::Superseded, then).await);
        assert_eq!(one.id, same.id);
        let shown = get(&world, &certificate).await.version.unwrap().revocation;
        assert_eq!(newest(&world, &certificate).await.revocation, shown);
        record(&world, &claim(&world).await).await.unwrap();
        assert_eq!(world.claim("one", LEASE).await.len(), usize::from(is_replaced), "{first:?}, {then:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_taken_over_records_nothing() {
    let world = World::new().await;
    let certificate = issued(&world, "a.example.test", DAY, DAY * 90).await;
    ask(&world, &certificate, RevocationReason::Superseded, None).await;
    let zombie = world.claim_in(&[REVOCATION_PARTITION], "one", Duration::ZERO).await.remove(0);
    let peer = world.claim_in(&[REVOCATION_PARTITION], "two", LEASE).await.remove(0);
    assert!(matches!(record(&world, &zombie).await, Err(StoreError::Fenced)));
    assert!(!get(&world, &certificate).await.version.unwrap().is_revoked());
    assert!(world.claim("one", LEASE).await.is_empty(), "a replacement was queued");
    record(&world, &peer).await.unwrap();
    assert!(get(&world, &certificate).await.version.unwrap().is_revoked());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_deleted_while_it_is_being_revoked_and_a_cancelled_revocation_leaves_no_trace() {
    let world = World::new().await;
    let certificate = issued(&world, "a.example.test", DAY, DAY * 90).await;
    let asked = job(ask(&world, &certificate, RevocationReason::Superseded, None).await);
    let audit = world.row().await;
    let mutation = Mutation { audit: &audit, request: None };
    assert_eq!(
        world.store.delete_certificate(certificate.id, None, mutation).await.unwrap(),
        Deleted::BeingRevoked
    );
    get(&world, &certificate).await;
    let audit = world.row().await;
    let mutation = Mutation { audit: &audit, request: None };
    let cancelled = world.store.cancel_job(world.project, asked.id, mutation).await.unwrap().unwrap();
    assert_eq!(cancelled.state, JobState::Cancelled);
    let stored = get(&world, &certificate).await;
    assert_eq!((stored.status, stored.version.unwrap().revocation), (Status::Valid, None));
    assert_eq!(newest(&world, &certificate).await.revocation, None);
    let audit = world.row().await;
    let again =
        world.store.retry_job(world.project, asked.id, Mutation { audit: &audit, request: None }).await;
    assert_eq!(again.unwrap(), Err(JobRefusal::State(JobState::Cancelled)));
    let audit = world.row().await;
    let mutation = Mutation { audit: &audit, request: None };
    assert_eq!(world.store.delete_certificate(certificate.id, None, mutation).await.unwrap(), Deleted::Gone);
}

/// What the CA may have heard is not taken back: the version goes on saying so, and is asked about again when somebody wants to know.
#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_that_the_ca_may_have_heard_of_stays_asked_for_when_it_is_cancelled() {
    let world = World::new().await;
    let certificate = issued(&world, "a.example.test", DAY, DAY * 90).await;
    let asked = job(ask(&world, &certificate, RevocationReason::Superseded, None).await);
    let claim = claim(&world).await;
    let again = Settlement::Again { after: DAY, problem: None, setbacks: None };
    world.store.settle(&claim, &again, world.clock.now()).await.unwrap();
    let audit = world.row().await;
    let mutation = Mutation { audit: &audit, request: None };
    world.store.cancel_job(world.project, asked.id, mutation).await.unwrap().unwrap();
    let shown = get(&world, &certificate).await.version.unwrap().revocation.unwrap();
    assert_eq!(shown.problem.unwrap().kind, "revocation-cancelled");
    assert!(shown.revoked_at.is_none() && shown.next_attempt_at.is_none());
    let once_more = job(ask(&world, &certificate, RevocationReason::Superseded, None).await);
    assert_ne!(once_more.id, asked.id);
}

/// What says that a key is in other hands says so of every version that has it.
#[tokio::test(flavor = "multi_thread")]
async fn an_earlier_version_with_the_same_key_takes_the_current_one_with_it_for_its_key_alone() {
    for (reason, replaced) in [(RevocationReason::KeyCompromise, true), (RevocationReason::Superseded, false)]
    {
        let world = World::new().await;
        let earlier = issued(&world, "a.example.test", DAY, DAY * 90).await;
        let renewal = world.renewing(&earlier).await;
        // Every order of these tests has the same key.
        let now = crate::notices::issue(&world, &renewal, Duration::ZERO, DAY * 90).await;
        assert_ne!(current(&now), current(&earlier));
        ask(&world, &earlier, reason, None).await;
        assert_eq!(get(&world, &earlier).await.new_key, replaced);
        record(&world, &claim(&world).await).await.unwrap();
        let queued = world.claim("one", LEASE).await;
        assert_eq!(queued.len(), usize::from(replaced), "{reason}");
        let stored = get(&world, &earlier).await;
        assert!(!stored.version.unwrap().is_revoked() && stored.renew_at.is_some());
        let client = Client::with_uri_str(&world.uri).await.unwrap();
        let versions = client.default_database().unwrap().collection::<Document>("certificate_versions");
        let own = doc! { "_id": current(&earlier).to_string(), "revocation.revoked_at": { "$type": "date" } };
        assert_eq!(versions.count_documents(own).await.unwrap(), 1);
    }
}
