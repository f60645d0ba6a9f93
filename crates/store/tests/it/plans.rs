// SPDX-License-Identifier: Apache-2.0
//! What is to be planned: an index has that and nothing else, whoever changes a certificate, and whatever an earlier build
//! leaves behind.

use std::time::Duration;

use cap_core::clock::earlier;
use cap_core::duty;
use cap_core::id::VersionId;
use cap_core::job::{Claim, JobDraft, Settlement};
use cap_core::problem::{Class, Problem};
use cap_store::{CertificateChange, CertificateRecord, Mutation, Planned};
use cap_testkit::mongo::driver::bson::{DateTime, Document, doc};

use crate::explain::{asked_of, explain};
use crate::notices::{issue, issued};
use crate::queue::raw;
use crate::world::{LEASE, World};

const HOUR: Duration = Duration::from_secs(3_600);

async fn stored(world: &World, certificate: &CertificateRecord) -> Document {
    let certificates = raw(world).await.collection::<Document>("certificates");
    certificates.find_one(doc! { "_id": certificate.id.to_string() }).await.unwrap().unwrap()
}

/// When it is to be planned, and when it is due, as stored.
async fn plan_at(world: &World, certificate: &CertificateRecord) -> (Option<DateTime>, Option<DateTime>) {
    let stored = stored(world, certificate).await;
    let at = |field| stored.get_datetime(field).ok().copied();
    (at("plan_at"), at("renew_at"))
}

#[track_caller]
fn is_to_plan((plan_at, renew_at): (Option<DateTime>, Option<DateTime>)) {
    assert!(plan_at.is_some() && plan_at == renew_at, "{plan_at:?}, {renew_at:?}");
}

async fn set(world: &World, certificate: &CertificateRecord, change: Document) {
    let certificates = raw(world).await.collection::<Document>("certificates");
    certificates.update_one(doc! { "_id": certificate.id.to_string() }, change).await.unwrap();
}

/// Plans up to `limit` certificates that are due; answers how many were queued.
async fn plan(world: &World, limit: u32) -> usize {
    let (now, mut queued) = (world.clock.now(), 0);
    for candidate in world.store.due_certificates(now, limit, 1).await.unwrap() {
        let work = duty::renewal(&candidate, now).unwrap();
        let (clock, entropy) = (world.clock.as_ref(), world.entropy.as_ref());
        let job = JobDraft::now(world.project, work, candidate.fence, clock, entropy);
        let planned =
            world.store.plan_renewal(&job, candidate.renew_at, 1, &world.row().await).await.unwrap();
        queued += usize::from(planned == Planned::Queued);
    }
    queued
}

async fn claimed(world: &World) -> Claim {
    world.claim("one", LEASE).await.remove(0)
}

/// Whoever lets it be renewed by itself again means all of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_that_was_to_be_the_last_is_one_like_any_other_when_it_is_planned_again() {
    let world = World::new().await;
    let certificate = issued(&world, "a.example.test", HOUR, HOUR * 8).await;
    assert_eq!(plan(&world, 10).await, 1);
    let jobs = raw(&world).await.collection::<Document>("jobs");
    jobs.update_many(doc! { "alive": true }, doc! { "$set": { "is_last": true } }).await.unwrap();
    let renew_at = plan_at(&world, &certificate).await.1;
    let again = doc! { "$set": { "plan_at": renew_at }, "$unset": { "planned_for": "" } };
    set(&world, &certificate, again).await;
    assert_eq!(plan(&world, 10).await, 0, "it is queued already");
    assert!(!claimed(&world).await.is_last);
}

async fn auto_renew(world: &World, certificate: &CertificateRecord, auto_renew: bool) {
    let change = CertificateChange { auto_renew: Some(auto_renew), ..CertificateChange::default() };
    let (now, audit) = (world.clock.now(), world.row().await);
    let mutation = Mutation { audit: &audit, request: None };
    assert!(world.store.update_certificate(certificate.id, None, change, now, mutation).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_changes_a_certificate_says_when_it_is_to_be_planned() {
    let world = World::new().await;
    let certificate = issued(&world, "a.example.test", HOUR, HOUR * 8).await;
    is_to_plan(plan_at(&world, &certificate).await);
    assert_eq!(plan(&world, 10).await, 1);
    assert_eq!(plan_at(&world, &certificate).await.0, None, "planned");

    let claim = claimed(&world).await;
    let problem = Problem::new(Class::RateLimited, "rateLimited", "paused");
    world.store.settle(&claim, &Settlement::Dead(problem), world.clock.now()).await.unwrap();
    is_to_plan(plan_at(&world, &certificate).await);

    auto_renew(&world, &certificate, false).await;
    assert_eq!(plan_at(&world, &certificate).await.0, None, "not by itself");
    auto_renew(&world, &certificate, true).await;
    is_to_plan(plan_at(&world, &certificate).await);

    let now = world.store.certificate(world.project, certificate.id).await.unwrap().unwrap();
    let claim = world.renewing(&now).await;
    assert_eq!(plan_at(&world, &certificate).await.0, None, "somebody asked for it");
    world.store.settle(&claim, &Settlement::Superseded, world.clock.now()).await.unwrap();
    is_to_plan(plan_at(&world, &certificate).await);

    let past = DateTime::from_millis(1);
    set(&world, &certificate, doc! { "$set": { "renew_at": past, "plan_at": past } }).await;
    assert_eq!(plan(&world, 10).await, 1);
    let claim = claimed(&world).await;
    issue(&world, &claim, HOUR, HOUR * 8).await;
    let next = plan_at(&world, &certificate).await;
    is_to_plan(next);
    assert!(next.0 > Some(past), "the new version's");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_what_is_due_reads_nothing_that_was_planned() {
    const MANY: u32 = 40;
    const PAGE: u32 = 5;
    let world = World::new().await;
    let database = raw(&world).await;
    let one = issued(&world, "a.example.test", HOUR, HOUR * 8).await;
    let whole = stored(&world, &one).await;
    let copy = |n: u32| {
        let mut copy = whole.clone();
        copy.insert("_id", format!("crt_{n:032x}"));
        // Those first that are planned: they would stand at the head.
        copy.insert("plan_at", DateTime::from_millis(n.into()));
        copy.insert("renew_at", DateTime::from_millis(n.into()));
        copy
    };
    let certificates = database.collection::<Document>("certificates");
    certificates.insert_many((1..=MANY).map(copy)).await.unwrap();
    assert_eq!(plan(&world, MANY).await, usize::try_from(MANY).unwrap());
    certificates.insert_many((MANY + 1..=2 * MANY).map(copy)).await.unwrap();
    let commands = asked_of(&database, "certificates", async {
        let due = world.store.due_certificates(world.clock.now(), PAGE, 1).await.unwrap();
        assert_eq!(due.len(), usize::try_from(PAGE).unwrap());
    })
    .await;
    let [command] = commands.as_slice() else { panic!("{commands:#?}") };
    let plan = explain(&database, command).await;
    plan.goes_by_an_index(command);
    assert!(plan.documents <= PAGE.into() && plan.keys <= PAGE.into(), "{plan:?}");
}

/// Whoever pauses one is told that nothing renews it by itself, and whoever lets go of one, that it is over.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_was_read_before_a_certificate_was_paused_or_put_off_renews_nothing() {
    let world = World::new().await;
    let paused = issued(&world, "paused.example.test", HOUR, HOUR * 8).await;
    let later = issued(&world, "later.example.test", HOUR, HOUR * 8).await;
    let due = issued(&world, "due.example.test", HOUR, HOUR * 8).await;
    let now = world.clock.now();
    let page = world.store.due_certificates(now, 10, 1).await.unwrap();
    assert_eq!(page.len(), 3);
    let audit = world.row().await;
    let change = CertificateChange { auto_renew: Some(false), ..CertificateChange::default() };
    let mutation = Mutation { audit: &audit, request: None };
    assert!(world.store.update_certificate(paused.id, None, change, now, mutation).await.unwrap());
    let tomorrow = DateTime::from_millis(now.as_millisecond() + 86_400_000);
    set(&world, &later, doc! { "$set": { "renew_at": tomorrow, "plan_at": tomorrow } }).await;
    for candidate in page {
        let work = duty::renewal(&candidate, now).unwrap();
        let (clock, entropy) = (world.clock.as_ref(), world.entropy.as_ref());
        let job = JobDraft::now(world.project, work, candidate.fence, clock, entropy);
        let planned =
            world.store.plan_renewal(&job, candidate.renew_at, 1, &world.row().await).await.unwrap();
        let expected = if candidate.certificate == due.id { Planned::Queued } else { Planned::Unneeded };
        assert_eq!(planned, expected, "{candidate:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_build_planned_leaves_the_plan_and_keeps_nobody_waiting() {
    let world = World::new().await;
    let planned = issued(&world, "planned.example.test", HOUR, HOUR * 8).await;
    let off = issued(&world, "off.example.test", HOUR, HOUR * 8).await;
    let due = issued(&world, "due.example.test", HOUR, HOUR * 8).await;
    let version = planned.version.as_ref().unwrap().id.to_string();
    set(&world, &planned, doc! { "$set": { "planned_for": version } }).await;
    set(&world, &off, doc! { "$set": { "auto_renew": false } }).await;
    let found = world.store.due_certificates(world.clock.now(), 1, 1).await.unwrap();
    assert_eq!(found.iter().map(|found| found.certificate).collect::<Vec<_>>(), [due.id]);
    for gone in [&planned, &off] {
        assert_eq!(plan_at(&world, gone).await.0, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_build_left_out_of_the_plan_is_found_by_going_through_all() {
    let world = World::new().await;
    let right = issued(&world, "right.example.test", HOUR, HOUR * 8).await;
    let wrong = issued(&world, "wrong.example.test", HOUR, HOUR * 8).await;
    assert_eq!(plan(&world, 10).await, 2);
    // It stores the version, and knows nothing of the plan.
    let version = VersionId::generate(world.clock.as_ref(), world.entropy.as_ref()).to_string();
    set(&world, &wrong, doc! { "$set": { "version.id": version } }).await;
    assert!(world.store.due_certificates(world.clock.now(), 10, 1).await.unwrap().is_empty());
    let (mut after, mut mended, mut pages) = (None, 0, 0);
    loop {
        let (last, wrong) = world.store.mend_plans(after.as_deref(), 1, 1).await.unwrap();
        (mended, pages) = (mended + wrong, pages + 1);
        let Some(last) = last else { break };
        after = Some(last);
    }
    assert_eq!((mended, pages), (1, 3));
    is_to_plan(plan_at(&world, &wrong).await);
    assert_eq!(plan_at(&world, &right).await.0, None);
    assert_eq!(world.store.mend_plans(None, 10, 1).await.unwrap(), (None, 0), "all is right");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_migration_fills_the_plan_and_has_the_ranks_of_what_waits_made_anew() {
    let world = World::new().await;
    let due = issued(&world, "due.example.test", HOUR, HOUR * 8).await;
    let planned = issued(&world, "planned.example.test", HOUR, HOUR * 8).await;
    let off = issued(&world, "off.example.test", HOUR, HOUR * 8).await;
    let version = planned.version.as_ref().unwrap().id.to_string();
    set(&world, &planned, doc! { "$set": { "planned_for": version } }).await;
    set(&world, &off, doc! { "$set": { "auto_renew": false } }).await;
    let end = earlier(world.clock.now(), HOUR);
    world.certificate_before("waits.example.test", Some(end)).await;
    let database = raw(&world).await;
    let (certificates, jobs) =
        (database.collection::<Document>("certificates"), database.collection::<Document>("jobs"));
    // As the build before left it.
    certificates.update_many(doc! {}, doc! { "$unset": { "plan_at": "" } }).await.unwrap();
    jobs.update_many(doc! {}, doc! { "$set": { "rank": 5 }, "$unset": { "rank_at": "" } }).await.unwrap();
    database.collection::<Document>("migrations").delete_many(doc! { "_id": { "$gte": 9 } }).await.unwrap();
    assert!(world.migrate().await.contains(&9));
    is_to_plan(plan_at(&world, &due).await);
    for out in [&planned, &off] {
        assert_eq!(plan_at(&world, out).await.0, None);
    }
    assert_eq!(world.store.age_ranks(world.clock.now() + HOUR, 10, 1).await.unwrap(), 1);
    assert_eq!(world.store.age_ranks(world.clock.now() + HOUR, 10, 1).await.unwrap(), 0, "nothing is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_cannot_be_read_hold_up_nobody_however_many_are_due_first() {
    const PAGE: u32 = 5;
    let world = World::new().await;
    let due = issued(&world, "due.example.test", HOUR, HOUR * 8).await;
    let whole = stored(&world, &due).await;
    let odd = |n: u32| {
        let mut odd = whole.clone();
        odd.extend(doc! { "_id": format!("crt_{n:032x}"), "status": "of another build" });
        odd.extend(
            ["plan_at", "notice_at", "drift_at"]
                .map(|at| (at.to_owned(), DateTime::from_millis(n.into()).into())),
        );
        // What drift reads of it.
        odd.insert("project", "of another build");
        odd
    };
    let certificates = raw(&world).await.collection::<Document>("certificates");
    certificates.insert_many((1..=PAGE * 4).map(odd)).await.unwrap();
    let past = DateTime::from_millis(i64::from(PAGE) * 8);
    set(&world, &due, doc! { "$set": { "notice_at": past, "drift_at": past } }).await;
    let now = world.clock.now();
    let planned = world.store.due_certificates(now, PAGE, 1).await.unwrap();
    assert_eq!(planned.iter().map(|found| found.certificate).collect::<Vec<_>>(), [due.id]);
    let scanned = world.store.due_drift(now, PAGE).await.unwrap();
    assert_eq!(scanned.iter().map(|found| found.certificate).collect::<Vec<_>>(), [due.id]);
    let noticed = world.store.due_notices(now, PAGE).await.unwrap();
    assert_eq!(noticed.iter().map(|found| found.certificate.id).collect::<Vec<_>>(), [due.id]);
}
