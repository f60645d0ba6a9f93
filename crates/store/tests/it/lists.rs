// SPDX-License-Identifier: Apache-2.0
//! Lists of certificates: what they have of each, and what comes first in them.

use std::time::Duration;

use cap_core::certificate::Status;
use cap_core::clock::later;
use cap_core::drift::DriftState;
use cap_core::id::{CertificateId, VersionId};
use cap_core::page::Page;
use cap_store::CertificateRecord;
use cap_testkit::mongo::driver::bson::{DateTime, Document, doc};

use crate::notices::issued;
use crate::queue::raw;
use crate::world::World;

const HOUR: Duration = Duration::from_secs(3_600);
/// Names that a certificate has at most.
const NAMES: usize = 100;

fn ids(found: &[CertificateRecord]) -> Vec<CertificateId> {
    found.iter().map(|certificate| certificate.id).collect()
}

/// The certificate once more, with other values in some fields.
async fn another(world: &World, like: &CertificateRecord, fields: Document) -> CertificateId {
    let certificates = raw(world).await.collection::<Document>("certificates");
    let mut copy = certificates.find_one(doc! { "_id": like.id.to_string() }).await.unwrap().unwrap();
    let id = CertificateId::generate(world.clock.as_ref(), world.entropy.as_ref());
    copy.insert("_id", id.to_string());
    certificates.insert_one(copy).await.unwrap();
    certificates.update_one(doc! { "_id": id.to_string() }, doc! { "$set": fields }).await.unwrap();
    id
}

/// What a scan found at a hundred names, the first and the last of which are served.
fn seen(world: &World, state: DriftState, wrong: &str) -> Document {
    let sighting = |n: usize| {
        let state = match n {
            0 | 99 => "served",
            1 => "left_out",
            2 if state == DriftState::Drifted => "unreachable",
            _ => wrong,
        };
        doc! {
            "name": format!("n{n}.example.test"), "state": state, "address": null, "serial": "0a".repeat(150),
            "fingerprint_sha256": null, "not_after": null, "issuer": "CN".repeat(150), "detail": null,
        }
    };
    let version = VersionId::generate(world.clock.as_ref(), world.entropy.as_ref()).to_string();
    let names: Vec<Document> = (0..NAMES).map(sighting).collect();
    let seen = doc! { "version": version, "scanned_at": DateTime::from_millis(1), "names": names };
    doc! { "drift_state": state.as_str(), "drift_seen": seen }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_what_names_showed_the_list_of_drift_has_the_first_wrong_one_and_other_lists_have_nothing() {
    let world = World::new().await;
    let bare = issued(&world, "a.example.test", HOUR, 2 * HOUR).await;
    let states = [(DriftState::Served, "served"), (DriftState::Drifted, "drifted")];
    let states = states.into_iter().chain([(DriftState::Unreachable, "unreachable")]);
    for (state, wrong) in states {
        another(&world, &bare, seen(&world, state, wrong)).await;
    }
    let page = Page { limit: 10, after: None };
    let drift = world.store.drift(world.project, None, &page).await.unwrap().items;
    let shown = |found: &CertificateRecord| {
        let names = found.drift.seen.as_ref().unwrap().names.iter();
        names.map(|one| (one.name.to_string(), one.state.as_str())).collect::<Vec<_>>()
    };
    let first = |n: u8, state| vec![(format!("n{n}.example.test"), state)];
    let wanted = [vec![], first(3, "drifted"), first(2, "unreachable")];
    assert_eq!(drift.iter().map(shown).collect::<Vec<_>>(), wanted);

    let now = world.clock.now();
    let all = world.store.certificates(world.project, None, now, &page).await.unwrap().items;
    let ending = world.store.ending_soonest(world.project, now).await.unwrap();
    for list in [all, ending] {
        assert_eq!(list.len(), 4);
        for found in list.iter().filter(|found| found.id != bare.id) {
            let seen = found.drift.seen.as_ref().unwrap();
            assert_eq!((seen.names.len(), seen.scanned_at.as_millisecond()), (0, 1));
        }
        let other = list.iter().find(|found| found.id == bare.id).unwrap();
        assert_eq!(other.drift.seen, None, "it was never scanned");
    }
    let whole = world.store.certificate(world.project, drift[1].id).await.unwrap().unwrap();
    assert_eq!(whole.drift.seen.unwrap().names.len(), NAMES, "the certificate itself has them all");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ended_or_is_revoked_does_not_hide_what_is_about_to_end() {
    const PAST: u32 = 10;
    let world = World::new().await;
    let soon = issued(&world, "a.example.test", HOUR, 2 * HOUR).await;
    let now = world.clock.now();
    let at = |time: jiff::Timestamp| DateTime::from_millis(time.as_millisecond());
    for n in 1..=PAST {
        let ended = doc! { "version.not_after": at(now - HOUR * n), "status": Status::Valid.as_str() };
        another(&world, &soon, ended).await;
        let revocation =
            doc! { "reason": "superseded", "asked_at": at(now), "revoked_at": at(now), "replace": false };
        let sooner = at(later(now, Duration::from_secs(60)));
        another(&world, &soon, doc! { "version.not_after": sooner, "version.revocation": revocation }).await;
    }
    let asked = doc! { "reason": "superseded", "asked_at": at(now), "revoked_at": null };
    let last = doc! { "version.not_after": at(later(now, 2 * HOUR)), "version.revocation": asked };
    let last = another(&world, &soon, last).await;
    let renewing = doc! { "version.not_after": at(later(now, HOUR / 2)), "status": "renewing" };
    let first = another(&world, &soon, renewing).await;
    let mut wanted = Vec::new();
    for n in (1..=PAST).rev() {
        let stuck = doc! { "version.not_after": at(now - HOUR * n), "status": "renewing" };
        wanted.push(another(&world, &soon, stuck).await);
    }
    wanted.truncate(PAST as usize / 2);
    wanted.extend([first, soon.id, last]);
    let found = world.store.ending_soonest(world.project, now).await.unwrap();
    assert_eq!(ids(&found), wanted, "of those that are still being renewed some are shown");

    // A failing one is looked at first whenever it ended.
    let failing = doc! { "version.not_after": at(now - HOUR), "status": "failing" };
    let failing = another(&world, &soon, failing).await;
    assert_eq!(ids(&world.store.failing_soonest(world.project).await.unwrap()), [failing]);
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_are_read_a_page_at_a_time_the_newest_first() {
    let world = World::new().await;
    let certificate = issued(&world, "a.example.test", HOUR, 2 * HOUR).await;
    let versions = raw(&world).await.collection::<Document>("certificate_versions");
    let first = versions.find_one(doc! {}).await.unwrap().unwrap();
    for number in 2..=7_i64 {
        let id = VersionId::generate(world.clock.as_ref(), world.entropy.as_ref()).to_string();
        let mut next = first.clone();
        next.extend(doc! { "_id": &id, "id": &id, "number": number });
        versions.insert_one(next).await.unwrap();
    }
    let (mut seen, mut after) = (Vec::new(), None);
    for _ in 0..3 {
        let page = Page { limit: 3, after: after.take() };
        let found = world.store.versions(certificate.id, &page).await.unwrap();
        seen.extend(found.items.iter().map(|version| version.number));
        assert_eq!(found.next_cursor.is_some(), seen.len() < 7, "{seen:?}");
        after = seen.last().map(ToString::to_string);
    }
    assert_eq!(seen, [7, 6, 5, 4, 3, 2, 1]);
    let wrong = Page { limit: 3, after: Some("newest".to_owned()) };
    assert!(world.store.versions(certificate.id, &wrong).await.is_err());
}
