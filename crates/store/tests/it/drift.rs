// SPDX-License-Identifier: Apache-2.0
//! Drift: how a project's settings reach its certificates, how often a scan is queued, and what of a scan is stored.

use std::collections::BTreeMap;
use std::time::Duration;

use cap_core::clock::later;
use cap_core::drift::{DriftSettings, DriftState, DriftTarget, Sighting};
use cap_core::duty::DriftCandidate;
use cap_core::id::{CertificateId, ClaimId, ProjectId, VersionId};
use cap_core::job::{Claim, JobDraft, JobState, Settlement, Work};
use cap_core::limits::{DRIFT_PARTITIONS, JOB_PARTITIONS};
use cap_core::order::Ledger;
use cap_core::page::Page;
use cap_core::problem::{Class, Problem};
use cap_store::{
    CertificateChange, CertificateRecord, DriftChange, DriftFound, DriftSeen, Enrolment, JobRecord, Mutation,
    Planned, ProjectChange, ProjectRecord, Search, StoreError,
};
use cap_testkit::mongo::driver::bson::{Bson, Document, doc};

use crate::explain::{asked_of, explain};
use crate::orders::{begun, ordered, version};
use crate::queue::raw;
use crate::world::{FUSE, LEASE, World, search};

const ON: DriftChange = DriftChange { enabled: Some(true), port: None, interval: None };
const OFF: DriftChange = DriftChange { enabled: Some(false), port: None, interval: None };
const HOUR: Duration = Duration::from_secs(3_600);

async fn project(world: &World) {
    let (name, now) = ("drifting".parse().unwrap(), world.clock.now());
    let project = ProjectRecord {
        id: world.project,
        name,
        drift: None,
        weight: cap_core::job::Weight::default(),
        created_at: now,
    };
    let audit = world.row().await;
    world.store.create_project(&project, Mutation { audit: &audit, request: None }).await.unwrap();
}

async fn turn(world: &World, change: DriftChange) {
    let audit = world.row().await;
    let mutation = Mutation { audit: &audit, request: None };
    let change = ProjectChange { weight: None, drift: change };
    assert!(world.store.change_project(world.project, &change, mutation).await.unwrap());
}

/// A certificate with a version, of a project that is on.
async fn issued(world: &World, name: &str) -> CertificateRecord {
    let (certificate, claim, order) = begun(world, name, LEASE).await;
    let order = world.store.advance(&order, ordered(), &[]).await.unwrap();
    let (version, audit) = (version(world).await, world.row().await);
    world.store.store(&claim, &order, &version, &audit).await.unwrap();
    read(world, certificate.id).await
}

pub(crate) async fn on_and_issued() -> (World, CertificateRecord) {
    let world = World::new().await;
    project(&world).await;
    let certificate = issued(&world, "a.example.test").await;
    turn(&world, ON).await;
    world.store.enrol_drift(&mut Enrolment::default(), 1).await.unwrap();
    let certificate = read(&world, certificate.id).await;
    (world, certificate)
}

pub(crate) async fn read(world: &World, id: CertificateId) -> CertificateRecord {
    world.store.certificate(world.project, id).await.unwrap().unwrap()
}

/// Changes a document behind the store.
pub(crate) async fn set(world: &World, collection: &str, change: Document) {
    let documents = raw(world).await.collection::<Document>(collection);
    assert!(documents.update_many(doc! {}, vec![change]).await.unwrap().matched_count > 0);
}

/// Makes every certificate due that has a time, and answers what is due.
pub(crate) async fn due(world: &World) -> Vec<DriftCandidate> {
    let past = doc! { "$dateSubtract": { "startDate": "$$NOW", "unit": "second", "amount": 1 } };
    let past = doc! { "$cond": [{ "$ifNull": ["$drift_at", false] }, past, "$$REMOVE"] };
    set(world, "certificates", doc! { "$set": { "drift_at": past } }).await;
    world.store.due_drift(later(world.clock.now(), LEASE), 10).await.unwrap()
}

pub(crate) fn job(world: &World, candidate: &DriftCandidate) -> JobDraft {
    let work = Work::DriftScan { certificate: candidate.certificate };
    JobDraft::now(candidate.project, work, candidate.fence, world.clock.as_ref(), world.entropy.as_ref())
}

pub(crate) async fn plan(world: &World, candidate: &DriftCandidate, epoch: i64) -> Planned {
    world.store.plan_drift(&job(world, candidate), candidate.drift_at, HOUR, epoch).await.unwrap()
}

pub(crate) async fn claim_scans(world: &World) -> Vec<Claim> {
    let token = ClaimId::generate(world.clock.as_ref(), world.entropy.as_ref());
    let partitions: Vec<u16> = (JOB_PARTITIONS..JOB_PARTITIONS + DRIFT_PARTITIONS).collect();
    let (held, now) = (BTreeMap::new(), world.clock.now());
    let search = Search { partitions: &partitions, by_lanes: false, ..search(&held, now) };
    world.store.claim_jobs("scanner", token, LEASE, &search).await.unwrap().claims
}

/// A scan that was planned and claimed.
pub(crate) async fn claimed(world: &World) -> Claim {
    let candidate = due(world).await.remove(0);
    assert_eq!(plan(world, &candidate, 1).await, Planned::Queued);
    claim_scans(world).await.remove(0)
}

pub(crate) fn found(
    world: &World,
    certificate: &CertificateRecord,
    state: DriftState,
    generation: i64,
) -> DriftFound {
    let name = certificate.spec.names.identifiers()[0].clone();
    let version = certificate.version.as_ref().unwrap().id;
    let scanned_at = jiff::Timestamp::from_millisecond(world.clock.now().as_millisecond()).unwrap();
    let seen = DriftSeen { version, scanned_at, names: vec![Sighting::left_out(name)] };
    DriftFound { certificate: certificate.id, state, seen, target: None, generation, next: HOUR }
}

/// Asks for a scan of a certificate, as who read it before its last scan ended does; answers the job that makes it.
pub(crate) async fn ask_for_scan(world: &World, certificate: &CertificateRecord) -> JobRecord {
    let candidate = DriftCandidate {
        certificate: certificate.id,
        project: world.project,
        drift_at: world.clock.now(),
        fence: 0,
    };
    let audit = world.row().await;
    let mutation = Mutation { audit: &audit, request: None };
    world.store.request_drift(&job(world, &candidate), mutation).await.unwrap()
}

pub(crate) async fn state_of_job(world: &World, claim: &Claim) -> JobState {
    world.store.job(world.project, claim.job).await.unwrap().unwrap().state
}

#[tokio::test(flavor = "multi_thread")]
async fn a_projects_settings_reach_every_certificate_and_none_goes_back_to_earlier_ones() {
    let world = World::new().await;
    project(&world).await;
    let old = issued(&world, "a.example.test").await;
    let bare = world.certificate("b.example.test").await;
    assert!(
        old.drift.at.is_none()
            && world.store.due_drift(later(world.clock.now(), HOUR), 9).await.unwrap().is_empty()
    );
    assert!(!world.store.enrol_drift(&mut Enrolment::default(), 1).await.unwrap());
    assert_eq!(read(&world, old.id).await.drift, old.drift, "a project is off until somebody turns it on");

    turn(&world, DriftChange { port: Some(8443), ..ON }).await;
    world.store.enrol_drift(&mut Enrolment::default(), 1).await.unwrap();
    let (now_on, now_bare) = (read(&world, old.id).await, read(&world, bare.id).await);
    assert_eq!((now_on.drift.on, now_on.drift.generation), (Some(true), Some(1)));
    assert!(now_on.drift.at.is_some() && now_bare.drift.at.is_none() && now_bare.drift.on == Some(true));
    let settings = world.store.drift_settings(&[world.project]).await.unwrap()[&world.project];
    assert_eq!((settings.enabled, settings.port, settings.interval), (true, 8443, 6 * HOUR));

    // One that a request made meanwhile, with the settings that it had read before, follows while such requests may be
    // under way, and the project is looked at until then.
    let late = world.certificate("c.example.test").await;
    world.store.enrol_drift(&mut Enrolment::default(), 1).await.unwrap();
    assert_eq!(read(&world, late.id).await.drift.on, Some(true));
    let pending = async || {
        let projects = raw(&world).await.collection::<Document>("projects");
        projects.count_documents(doc! { "drift.pending": true }).await.unwrap()
    };
    assert_eq!(pending().await, 1);
    let settled = doc! { "$dateSubtract": { "startDate": "$$NOW", "unit": "second", "amount": 61 } };
    set(&world, "projects", doc! { "$set": { "drift.changed_at": settled } }).await;
    world.store.enrol_drift(&mut Enrolment::default(), 1).await.unwrap();
    assert_eq!(pending().await, 0);

    // A leader that was late with settings of before finds a later number.
    set(&world, "certificates", doc! { "$set": { "drift_gen": 9_i64 } }).await;
    turn(&world, OFF).await;
    world.store.enrol_drift(&mut Enrolment::default(), 1).await.unwrap();
    assert_eq!(read(&world, old.id).await.drift.on, Some(true));
    set(&world, "certificates", doc! { "$set": { "drift_gen": 1_i64 } }).await;
    world.store.enrol_drift(&mut Enrolment::default(), 1).await.unwrap();
    let off = read(&world, old.id).await.drift;
    assert_eq!((off.on, off.at, off.generation), (None, None, Some(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_due_scan_is_queued_once_and_never_by_an_earlier_leader() {
    let (world, certificate) = on_and_issued().await;
    let seen = due(&world).await;
    assert_eq!(seen.iter().map(|found| found.certificate).collect::<Vec<_>>(), [certificate.id]);
    assert_eq!(plan(&world, &seen[0], 5).await, Planned::Queued);
    assert_eq!(plan(&world, &seen[0], 5).await, Planned::Unneeded, "a plan from an old page");
    let at = read(&world, certificate.id).await.drift.at.unwrap();
    assert!(at > later(world.clock.now(), HOUR / 2), "put off by the interval: {at}");

    // Due again while the first has not been run: one is enough, and it is not looked at again at once.
    let again = due(&world).await.remove(0);
    assert_eq!(plan(&world, &again, 5).await, Planned::Unneeded);
    assert!(read(&world, certificate.id).await.drift.at.unwrap() > at - jiff::SignedDuration::from_mins(1));
    let claim = claim_scans(&world).await.remove(0);
    world.store.settle(&claim, &Settlement::Superseded, world.clock.now()).await.unwrap();

    let again = due(&world).await.remove(0);
    let before = read(&world, certificate.id).await;
    assert_eq!(plan(&world, &again, 4).await, Planned::Unneeded, "the leader of an earlier epoch");
    assert_eq!(read(&world, certificate.id).await, before);
    assert!(claim_scans(&world).await.is_empty());
    assert_eq!(plan(&world, &again, 6).await, Planned::Queued);
}

#[tokio::test(flavor = "multi_thread")]
async fn work_for_a_ca_is_claimed_past_any_number_of_scans() {
    let (world, _) = on_and_issued().await;
    let candidate = due(&world).await.remove(0);
    assert_eq!(plan(&world, &candidate, 1).await, Planned::Queued);
    assert!(world.claim("one", LEASE).await.is_empty(), "a scan took the place of work for a CA");
    world.certificate("b.example.test").await;
    assert_eq!(world.claim("one", LEASE).await[0].work.kind(), "issue");
    assert_eq!(claim_scans(&world).await[0].work.kind(), "drift-scan");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_seen_is_stored_with_the_end_of_its_job_and_once() {
    let (world, certificate) = on_and_issued().await;
    // Above the fence of any issuance: a scan that wrote that one would be seen.
    set(&world, "certificates", doc! { "$set": { "drift_fence": 100_i64 } }).await;
    let claim = claimed(&world).await;
    let found = found(&world, &certificate, DriftState::Drifted, 1);
    let writer = world.store.clone().working_in_groups();
    writer.record_drift(&claim, &found).await.unwrap();
    assert!(matches!(writer.record_drift(&claim, &found).await, Err(StoreError::Fenced)));
    let stored = read(&world, certificate.id).await;
    assert_eq!(
        (stored.drift.state, stored.drift.seen.as_ref()),
        (Some(DriftState::Drifted), Some(&found.seen))
    );
    assert_eq!(
        (stored.fence, stored.drift.fence),
        (certificate.fence, Some(claim.fence + 1)),
        "an issuance's fence"
    );
    assert!(stored.drift.at.unwrap() > later(world.clock.now(), HOUR / 2));
    assert_eq!(state_of_job(&world, &claim).await, JobState::Succeeded);

    // There are many scans: once counted they are kept for two days, and not for a week.
    world.store.count_finished(1).await.unwrap();
    let jobs = raw(&world).await.collection::<Document>("jobs");
    let job = jobs.find_one(doc! { "_id": claim.job.to_string() }).await.unwrap().unwrap();
    let expires =
        job.get_datetime("expire_at").unwrap().timestamp_millis() - world.clock.now().as_millisecond();
    assert!((40 * 3_600_000..50 * 3_600_000).contains(&expires), "{expires} ms");

    let page = Page::parse::<CertificateId>(Some(10), None).unwrap();
    for (state, count) in [(None, 1), (Some(DriftState::Drifted), 1), (Some(DriftState::Served), 0)] {
        let listed = world.store.drift(world.project, state, &page).await.unwrap().items;
        assert_eq!(listed.len(), count, "{state:?}");
    }
    let counts = world.store.count_drift().await.unwrap();
    assert_eq!(counts.map(|(_, count)| count), [0, 1, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_compared_with_another_version_is_not_stored_and_a_new_version_forgets_what_was_seen() {
    let (world, certificate) = on_and_issued().await;
    let claim = claimed(&world).await;
    world.store.record_drift(&claim, &found(&world, &certificate, DriftState::Served, 1)).await.unwrap();
    let late = claimed(&world).await;

    // The next version comes while the scan is under way.
    let issuing = world.renewing(&read(&world, certificate.id).await).await;
    let order = world.order(&certificate, &issuing).await;
    let open = cap_store::OpenOrder { order: order.clone(), fuse: FUSE, at: world.clock.now() };
    world.store.open_order(&open).await.unwrap();
    let order = world.store.advance(&order, ordered(), &[]).await.unwrap();
    let mut next = version(&world).await;
    next.number = 2;
    let audit = world.row().await;
    world.store.store(&issuing, &order, &next, &audit).await.unwrap();
    let renewed = read(&world, certificate.id).await;
    assert_eq!((renewed.drift.state, &renewed.drift.seen), (None, &None));
    let at = renewed.drift.at.unwrap();
    assert!(at > world.clock.now() && at < later(world.clock.now(), Duration::from_secs(120)), "{at}");

    world.store.record_drift(&late, &found(&world, &certificate, DriftState::Served, 1)).await.unwrap();
    let after = read(&world, certificate.id).await;
    assert_eq!((after.drift.state, after.drift.at), (None, Some(at)), "the old version was called served");
    assert_eq!(state_of_job(&world, &late).await, JobState::Succeeded);
    assert!(after.drift.fence > renewed.drift.fence, "fences never restart");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_that_cannot_be_read_keeps_no_other_from_being_scanned() {
    let (world, _) = on_and_issued().await;
    let projects = raw(&world).await.collection::<Document>("projects");
    let broken = |n: u8| -> ProjectId { format!("prj_{n:032x}").parse().unwrap() };
    let wrong = [doc! { "enabled": "perhaps" }.into(), Bson::from("on"), Bson::Null];
    for (n, drift) in (1..).zip(wrong) {
        projects
            .insert_one(doc! { "_id": broken(n).to_string(), "name": n.to_string(), "drift": drift })
            .await
            .unwrap();
    }
    let all = [broken(1), world.project, broken(2), broken(3)];
    let settings = world.store.drift_settings(&all).await.unwrap();
    assert!(settings[&world.project].enabled);
    let unless_asked_otherwise = DriftSettings { enabled: true, ..DriftSettings::default() };
    assert_eq!([settings[&broken(1)], settings[&broken(2)]], [unless_asked_otherwise; 2]);
    assert_eq!(settings.get(&broken(3)), None, "nobody ever turned it on");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_seen_under_settings_that_were_replaced_is_not_stored() {
    let (world, certificate) = on_and_issued().await;
    let claim = claimed(&world).await;
    turn(&world, OFF).await;
    world.store.enrol_drift(&mut Enrolment::default(), 1).await.unwrap();
    world.store.record_drift(&claim, &found(&world, &certificate, DriftState::Drifted, 1)).await.unwrap();
    let stored = read(&world, certificate.id).await.drift;
    assert_eq!((stored.state, stored.at, stored.on), (None, None, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_seen_at_another_place_than_is_configured_now_is_not_stored_and_the_new_place_is_due() {
    let (world, certificate) = on_and_issued().await;
    let claim = claimed(&world).await;
    let audit = world.row().await;
    let target = DriftTarget::parse(Some("192.0.2.7"), Some(8443)).unwrap();
    let change = CertificateChange { drift_target: Some(target.clone()), ..CertificateChange::default() };
    let mutation = Mutation { audit: &audit, request: None };
    world.store.update_certificate(certificate.id, None, change, world.clock.now(), mutation).await.unwrap();
    assert_eq!(read(&world, certificate.id).await.drift.target, target);
    let old = found(&world, &certificate, DriftState::Served, 1);
    world.store.record_drift(&claim, &old).await.unwrap();
    let stored = read(&world, certificate.id).await.drift;
    assert_eq!(stored.state, None);
    assert_eq!(world.store.due_drift(later(world.clock.now(), LEASE), 10).await.unwrap().len(), 1);

    let claim = claimed(&world).await;
    world.store.record_drift(&claim, &DriftFound { target, ..old }).await.unwrap();
    assert_eq!(read(&world, certificate.id).await.drift.state, Some(DriftState::Served));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_that_cannot_be_made_or_is_cancelled_leaves_the_certificate_as_it_is() {
    let (world, certificate) = on_and_issued().await;
    // Above the fence of any issuance: a scan that wrote that one would be seen.
    set(&world, "certificates", doc! { "$set": { "drift_fence": 100_i64 } }).await;
    let claim = claimed(&world).await;
    let problem = Some(Problem::new(Class::Transient, "database-unavailable", "away"));
    let again = Settlement::Again { after: HOUR, problem, setbacks: None };
    assert!(again.is_shown());
    world.store.settle(&claim, &again, world.clock.now()).await.unwrap();
    let audit = world.row().await;
    let cancelled =
        world.store.cancel_job(world.project, claim.job, Mutation { audit: &audit, request: None });
    assert_eq!(cancelled.await.unwrap().unwrap().state, JobState::Cancelled);
    let after = read(&world, certificate.id).await;
    assert_eq!((after.status, after.problem, after.fence), (certificate.status, None, certificate.fence));
    assert_eq!(after.drift.fence, Some(claim.fence + 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_that_is_asked_for_is_queued_once_and_only_where_there_is_a_version() {
    let (world, certificate) = on_and_issued().await;
    let candidate = due(&world).await.remove(0);
    let ask = async |candidate: &DriftCandidate| {
        let audit = world.row().await;
        world.store.request_drift(&job(&world, candidate), Mutation { audit: &audit, request: None }).await
    };
    let first = ask(&candidate).await.unwrap();
    assert_eq!(ask(&candidate).await.unwrap().id, first.id);
    assert_eq!(plan(&world, &candidate, 1).await, Planned::Unneeded);
    assert_eq!(claim_scans(&world).await.len(), 1);
    let bare = world.certificate("b.example.test").await;
    let bare = DriftCandidate { certificate: bare.id, ..candidate };
    assert!(matches!(ask(&bare).await, Err(StoreError::Fenced)));
    assert_eq!(certificate.drift.state, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_drift_asks_goes_by_an_index() {
    let (world, certificate) = on_and_issued().await;
    let database = raw(&world).await;
    let claim = claimed(&world).await;
    world.store.record_drift(&claim, &found(&world, &certificate, DriftState::Served, 1)).await.unwrap();
    // Beside many that are not looked for: what is behind here would be found by looking through all of them.
    let other = |n: i32| {
        let id = VersionId::generate(world.clock.as_ref(), world.entropy.as_ref()).to_string();
        doc! { "_id": id, "project": format!("other-{}", n % 7), "drift_gen": 1_i64 }
    };
    let certificates = database.collection::<Document>("certificates");
    certificates.insert_many((0..2_000).map(other)).await.unwrap();
    due(&world).await;
    turn(&world, ON).await;
    let page = Page::parse::<CertificateId>(Some(10), None).unwrap();
    let commands = asked_of(&database, "certificates", async {
        world.store.due_drift(later(world.clock.now(), LEASE), 10).await.unwrap();
        world.store.drift(world.project, None, &page).await.unwrap();
        world.store.drift(world.project, Some(DriftState::Drifted), &page).await.unwrap();
        world.store.count_drift().await.unwrap();
        world.store.enrol_drift(&mut Enrolment::default(), 1).await.unwrap();
    })
    .await;
    // What is due, two pages, three counts, who is behind.
    assert_eq!(commands.len(), 7, "{commands:#?}");
    for command in &commands {
        let plan = explain(&database, command).await;
        plan.goes_by_an_index(command);
        assert!(plan.keys <= 12 && plan.documents <= 3, "{plan:?} of {command}");
    }
    let commands = asked_of(&database, "projects", async {
        world.store.enrol_drift(&mut Enrolment::default(), 1).await.unwrap();
        world.store.drift_settings(&[world.project]).await.unwrap();
    })
    .await;
    assert_eq!(commands.len(), 2, "{commands:#?}");
    for command in &commands {
        explain(&database, command).await.goes_by_an_index(command);
    }
}
