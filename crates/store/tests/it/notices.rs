// SPDX-License-Identifier: Apache-2.0
//! Notices: one for each threshold of a version, whoever leads; resolved by what takes the version's place.

use std::time::Duration;

use cap_core::certificate::{Issued, Status};
use cap_core::clock::{later, until};
use cap_core::envelope::Slot;
use cap_core::expiry::{self, NoticeId, Reason, Threshold};
use cap_core::id::VersionId;
use cap_core::job::{Claim, Work};
use cap_core::order::{IssuedVersion, Ledger, OrderState, Placed};
use cap_core::page::Page;
use cap_core::renewal_info::AriId;
use cap_store::{CertificateRecord, Due, Mutation, NoticeRecord, Noticed, OpenOrder};
use cap_testkit::mongo::driver::bson::{Document, doc};
use jiff::Timestamp;

use crate::queue::raw;
use crate::world::{FUSE, LEASE, World};

const HOUR: Duration = Duration::from_secs(3_600);

/// Does the claimed job of a certificate: its next version was born `age` ago and lives for `life`.
pub(crate) async fn issue(world: &World, claim: &Claim, age: Duration, life: Duration) -> CertificateRecord {
    let Work::Issue { certificate, .. } = claim.work else { panic!("{claim:?}") };
    let certificate = world.store.certificate(world.project, certificate).await.unwrap().unwrap();
    let order = world.order(&certificate, claim).await;
    world
        .store
        .open_order(&OpenOrder { order: order.clone(), fuse: FUSE, at: world.clock.now() })
        .await
        .unwrap();
    let placed = Placed { url: "https://ca.example.test/order/1".into(), expires: None };
    let order = world.store.advance(&order, OrderState::Ordered { placed }, &[]).await.unwrap();
    let id = VersionId::generate(world.clock.as_ref(), world.entropy.as_ref());
    let slot = Slot::version_key(world.project, id);
    let key = world.keyring.seal(&slot, b"leaf key").await.unwrap();
    let not_before = Timestamp::from_second((world.clock.now() - age).as_second()).unwrap();
    let issued = Issued {
        chain_pem: "chain".into(),
        serial: "01".into(),
        fingerprint_sha256: "ff".into(),
        not_before,
        not_after: later(not_before, life),
        ari_id: AriId::new(&[1, 2, 3], &[4, 5, 6]),
        chain_issuer: None,
    };
    let number = certificate.versions + 1;
    let version = IssuedVersion {
        id,
        number,
        issuer: certificate.issuer,
        issued,
        key,
        renew_at: world.clock.now(),
        renewal_info_at: Some(world.clock.now()),
    };
    world.store.store(claim, &order, &version, &world.row().await).await.unwrap();
    world.store.certificate(world.project, certificate.id).await.unwrap().unwrap()
}

/// A certificate whose version was born `age` ago and lives for `life`.
pub(crate) async fn issued(world: &World, name: &str, age: Duration, life: Duration) -> CertificateRecord {
    world.certificate(name).await;
    let claim = world.claim("one", LEASE).await.remove(0);
    issue(world, &claim, age, life).await
}

/// What the duty does with one that is due.
pub(crate) async fn notice(world: &World, due: &Due, epoch: i64) -> Noticed {
    let now = world.clock.now();
    let look = expiry::look(due.version.not_before, due.version.not_after, now);
    let own = due.certificate.problem.as_ref();
    let (reason, problem) = expiry::reason(due.certificate.spec.auto_renew, own, due.issuer_problem.as_ref());
    let notice = NoticeRecord {
        id: NoticeId {
            certificate: due.certificate.id,
            version: due.version.id,
            threshold: look.reached.unwrap(),
        },
        project: world.project,
        name: "a.example.test".into(),
        not_after: due.version.not_after,
        reason,
        problem,
        noticed_at: now,
        open: true,
        resolved_at: None,
    };
    world.store.notice(due, &notice, look, epoch, &world.row().await).await.unwrap()
}

async fn due(world: &World) -> Vec<Due> {
    world.store.due_notices(world.clock.now(), 10).await.unwrap()
}

pub(crate) async fn listed(world: &World, open: Option<bool>) -> Vec<NoticeRecord> {
    let page = Page::parse::<NoticeId>(None, None).unwrap();
    world.store.notices(world.project, open, &page).await.unwrap().items
}

async fn raw_certificate(world: &World, certificate: &CertificateRecord) -> Document {
    let certificates = raw(world).await.collection::<Document>("certificates");
    certificates.find_one(doc! { "_id": certificate.id.to_string() }).await.unwrap().unwrap()
}

/// Changes the stored record past the store.
async fn set(world: &World, collection: &str, id: String, change: Document) {
    let records = raw(world).await.collection::<Document>(collection);
    assert_eq!(records.update_one(doc! { "_id": id }, change).await.unwrap().matched_count, 1);
}

/// Lets a version look as if it was born so long ago, as it would by waiting.
async fn age(world: &World, certificate: &CertificateRecord, age: Duration, life: Duration) {
    let not_before = later(certificate.version.as_ref().unwrap().not_before, Duration::ZERO) - age;
    let date = |at: Timestamp| bson::DateTime::from_millis(at.as_millisecond());
    let change = doc! { "$set": {
        "version.not_before": date(not_before), "version.not_after": date(later(not_before, life)),
    } };
    set(world, "certificates", certificate.id.to_string(), change).await;
}

async fn audited(world: &World) -> u64 {
    raw(world).await.collection::<Document>("audit_outbox").count_documents(doc! {}).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_looked_at_when_a_quarter_of_its_life_is_left_and_not_before() {
    let world = World::new().await;
    let young = issued(&world, "a.example.test", HOUR, HOUR * 8).await;
    let version = young.version.clone().unwrap();
    let stored = raw_certificate(&world, &young).await;
    let at = stored.get_datetime("notice_at").unwrap().timestamp_millis();
    assert_eq!(at, Threshold::QuarterLeft.at(version.not_before, version.not_after).as_millisecond());
    assert!(due(&world).await.is_empty());
    // A leader whose clock is ahead learns nothing earlier: the database's decides.
    assert!(world.store.due_notices(later(world.clock.now(), HOUR * 24), 10).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_leaders_make_one_notice_of_each_threshold_and_an_earlier_leader_none() {
    let world = World::new().await;
    let life = HOUR * 8;
    let certificate = issued(&world, "a.example.test", HOUR * 6, life).await;
    for (threshold, age_h) in Threshold::ALL.into_iter().zip([0, 1, 2]) {
        age(&world, &certificate, HOUR * age_h, life).await;
        // Where the time was made to pass, what is due came due with it.
        let past = doc! { "$currentDate": { "notice_at": true } };
        set(&world, "certificates", certificate.id.to_string(), past).await;
        let seen = due(&world).await;
        assert_eq!(seen.len(), 1, "{threshold:?}");
        let before = audited(&world).await;
        let (one, two) = tokio::join!(notice(&world, &seen[0], 7), notice(&world, &seen[0], 8));
        let made = [one, two].into_iter().filter(|noticed| *noticed == Noticed::Made).count();
        assert_eq!((made, audited(&world).await - before), (1, 1), "{threshold:?}");
        assert_eq!(notice(&world, &seen[0], 8).await, Noticed::Unneeded);
        assert!(due(&world).await.is_empty(), "{threshold:?} is due for ever");
        let all = listed(&world, Some(true)).await;
        assert_eq!(all.iter().filter(|notice| notice.id.threshold == threshold).count(), 1);
    }
    assert_eq!(listed(&world, None).await.len(), 3);
    let stored = raw_certificate(&world, &certificate).await;
    assert!(!stored.contains_key("notice_at"), "nothing is left to notice: {stored}");

    let other = issued(&world, "b.example.test", HOUR * 6, life).await;
    let seen = due(&world).await;
    set(&world, "certificates", other.id.to_string(), doc! { "$set": { "notice_epoch": 9_i64 } }).await;
    assert_eq!(notice(&world, &seen[0], 8).await, Noticed::Unneeded, "a leader of an earlier epoch made it");
    assert_eq!(notice(&world, &seen[0], 9).await, Noticed::Made);
    // What the later leader did stays stamped: the earlier one comes too late for the next threshold, and to put it off.
    age(&world, &other, HOUR, life).await;
    let past = doc! { "$currentDate": { "notice_at": true } };
    set(&world, "certificates", other.id.to_string(), past.clone()).await;
    let seen = due(&world).await;
    let before = raw_certificate(&world, &other).await;
    assert_eq!(notice(&world, &seen[0], 8).await, Noticed::Unneeded, "an earlier leader made the next one");
    let look = expiry::look(seen[0].version.not_before, seen[0].version.not_after, world.clock.now());
    world.store.postpone_notice(&seen[0], look, 8).await.unwrap();
    assert_eq!(raw_certificate(&world, &other).await, before, "an earlier leader put it off");
    world.store.postpone_notice(&seen[0], look, 10).await.unwrap();
    set(&world, "certificates", other.id.to_string(), past).await;
    let seen = due(&world).await;
    assert_eq!(notice(&world, &seen[0], 9).await, Noticed::Unneeded, "what was put off is stamped as well");
    assert_eq!(notice(&world, &seen[0], 10).await, Noticed::Made);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_version_resolves_what_was_noticed_about_the_one_before_and_is_looked_at_itself() {
    let mut world = World::new().await;
    let retention = cap_core::retention::Retention { notices: HOUR * 24 * 7, ..*world.store.retention() };
    world.store = world.store.clone().keeping(retention);
    let certificate = issued(&world, "a.example.test", HOUR * 7, HOUR * 8).await;
    let seen = due(&world).await;
    assert_eq!(notice(&world, &seen[0], 1).await, Noticed::Made);
    assert_eq!(listed(&world, Some(true)).await[0].id.threshold, Threshold::EighthLeft, "the gravest alone");

    let claim = world.renewing(&certificate).await;
    let renewed = issue(&world, &claim, Duration::ZERO, HOUR * 8).await;
    assert_eq!((renewed.status, renewed.versions), (Status::Valid, 2));
    assert!(listed(&world, Some(true)).await.is_empty());
    let resolved = listed(&world, Some(false)).await.remove(0);
    assert!(until(resolved.resolved_at.unwrap(), world.clock.now()) < LEASE, "{resolved:?}");
    let notices = raw(&world).await.collection::<Document>("notices");
    let stored = notices.find_one(doc! {}).await.unwrap().unwrap();
    let (kept, at) = (stored.get_datetime("expire_at").unwrap(), stored.get_datetime("resolved_at").unwrap());
    assert_eq!(kept.timestamp_millis() - at.timestamp_millis(), 7 * 86_400_000);
    assert!(raw_certificate(&world, &certificate).await.contains_key("notice_at"));
    assert!(due(&world).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notice_says_why_and_goes_with_its_certificate() {
    let world = World::new().await;
    let (off, late) = (
        issued(&world, "a.example.test", HOUR * 9, HOUR * 8).await,
        issued(&world, "b.example.test", HOUR * 9, HOUR * 8).await,
    );
    set(&world, "certificates", off.id.to_string(), doc! { "$set": { "auto_renew": false } }).await;
    let problem = doc! { "class": "configuration", "type": "account", "detail": "no such account" };
    set(&world, "issuers", late.issuer.to_string(), doc! { "$set": { "problem": problem } }).await;
    for due in due(&world).await {
        notice(&world, &due, 1).await;
    }
    let seen = listed(&world, Some(true)).await;
    let of = |certificate: &CertificateRecord| {
        seen.iter().find(|notice| notice.id.certificate == certificate.id).unwrap().clone()
    };
    assert_eq!((of(&off).reason, of(&off).id.threshold), (Reason::AutoRenewOff, Threshold::Expired));
    assert_eq!(
        (of(&late).reason, of(&late).problem.unwrap().kind),
        (Reason::IssuerFailing, "account".into())
    );

    let audit = world.row().await;
    world.store.delete_certificate(off.id, None, Mutation { audit: &audit, request: None }).await.unwrap();
    let open = listed(&world, Some(true)).await;
    assert_eq!(open.iter().map(|notice| notice.id.certificate).collect::<Vec<_>>(), [late.id]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_that_was_another_versions_is_put_right_without_a_notice() {
    let world = World::new().await;
    let certificate = issued(&world, "a.example.test", Duration::ZERO, HOUR * 8).await;
    let right = raw_certificate(&world, &certificate).await.get_datetime("notice_at").unwrap().to_owned();
    set(&world, "certificates", certificate.id.to_string(), doc! { "$currentDate": { "notice_at": true } })
        .await;
    let seen = due(&world).await;
    let look = expiry::look(seen[0].version.not_before, seen[0].version.not_after, world.clock.now());
    assert_eq!(look.reached, None);
    world.store.postpone_notice(&seen[0], look, 1).await.unwrap();
    assert_eq!(*raw_certificate(&world, &certificate).await.get_datetime("notice_at").unwrap(), right);
    assert!(listed(&world, None).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_from_before_the_migration_are_looked_at_too() {
    let world = World::new().await;
    let certificate = issued(&world, "a.example.test", Duration::ZERO, HOUR * 8).await;
    let right = raw_certificate(&world, &certificate).await.get_datetime("notice_at").unwrap().to_owned();
    set(&world, "certificates", certificate.id.to_string(), doc! { "$unset": { "notice_at": "" } }).await;
    let migrations = raw(&world).await.collection::<Document>("migrations");
    let ours = migrations.find_one(doc! { "name": "retention" }).await.unwrap().unwrap();
    let since = doc! { "_id": { "$gte": ours.get("_id").unwrap() } };
    assert!(migrations.delete_many(since).await.unwrap().deleted_count >= 1);
    world.migrate().await;
    assert_eq!(*raw_certificate(&world, &certificate).await.get_datetime("notice_at").unwrap(), right);
}
