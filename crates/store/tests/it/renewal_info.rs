// SPDX-License-Identifier: Apache-2.0
//! Renewal information: what a look found is written once and for the version that it was about, and an issuer is asked by
//! one job at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use cap_core::clock::{later, until};
use cap_core::id::{ClaimId, IssuerId};
use cap_core::job::{Claim, JobDraft, Room, Settlement, Work};
use cap_core::limits::ARI_PARTITION;
use cap_core::renewal_info::{AriId, Judged, Suggestion, Window};
use cap_store::{CertificateRecord, DueLook, Looked, Planned, Search};
use cap_testkit::mongo::driver::bson::{DateTime, Document, doc};

use crate::explain::{asked_of, explain};
use crate::notices::{issue, issued};
use crate::queue::raw;
use crate::world::{LEASE, World};

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

async fn read(world: &World, certificate: &CertificateRecord) -> CertificateRecord {
    world.store.certificate(world.project, certificate.id).await.unwrap().unwrap()
}

async fn due(world: &World, issuer: IssuerId) -> Vec<DueLook> {
    world.store.due_renewal_looks(issuer, world.clock.now(), 10).await.unwrap().0
}

/// A window an hour from now, of which the middle was drawn.
fn suggested(world: &World) -> Suggestion {
    let start = later(world.clock.now(), HOUR);
    let window = Window::new(start, later(start, HOUR)).unwrap();
    Suggestion { window, renew_at: later(window.start(), HOUR / 2) }
}

fn judged(world: &World, suggestion: Suggestion, is_new: bool) -> Looked {
    let explanation_url = Some("https://ca.example.test/why".to_owned());
    let judged =
        Judged { suggestion: Some(suggestion), is_new, explanation_url, problem: None, after: 6 * HOUR };
    Looked::Judged(world.clock.now(), judged)
}

async fn record(world: &World, due: &DueLook, looked: Looked) {
    world.store.record_renewal_looks(&[(due.clone(), looked)]).await.unwrap();
}

/// Gives the certificate its next version.
async fn renew(world: &World, certificate: &CertificateRecord) -> CertificateRecord {
    let claim = world.renewing(certificate).await;
    issue(world, &claim, Duration::ZERO, 90 * DAY).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_looked_at_and_the_next_one_begins_with_nothing() {
    let world = World::new().await;
    let certificate = issued(&world, "a.example.test", DAY, 90 * DAY).await;
    let version = certificate.version.clone().unwrap();
    assert_eq!(
        (version.issuer, version.ari_id),
        (Some(certificate.issuer), AriId::new(&[1, 2, 3], &[4, 5, 6]))
    );
    assert!(certificate.renewal_info.at.is_some() && certificate.renewal_info.seen.is_none());
    assert_eq!(certificate.renewal_info.by_life_at, certificate.renew_at);

    let look = due(&world, certificate.issuer).await.remove(0);
    assert_eq!((look.certificate, look.version), (certificate.id, version.id));
    assert_eq!((look.watched.not_after, look.watched.suggestion), (version.not_after, None));
    let suggestion = suggested(&world);
    record(&world, &look, judged(&world, suggestion, true)).await;
    let seen = read(&world, &certificate).await;
    let info = seen.renewal_info.seen.clone().unwrap();
    assert_eq!((seen.renew_at, info.suggestion()), (Some(suggestion.renew_at), Some(suggestion)));
    assert_eq!(info.explanation_url.as_deref(), Some("https://ca.example.test/why"));
    let next = until(world.clock.now(), seen.renewal_info.at.unwrap());
    assert!(next > 5 * HOUR && next <= 6 * HOUR, "{next:?}");
    assert!(due(&world, certificate.issuer).await.is_empty());
    let plan = world.store.due_certificates(later(world.clock.now(), DAY), 10, 1).await.unwrap();
    assert!(plan.is_empty(), "it is renewed when its CA suggests, not when it would be by its life");

    let renewed = renew(&world, &seen).await;
    let info = &renewed.renewal_info;
    assert!(info.seen.is_none(), "what was said of version 1 says nothing of version 2");
    assert_eq!((info.by_life_at, info.at.is_some()), (renewed.renew_at, true));
    assert_ne!(renewed.renew_at, seen.renew_at);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_is_written_once_and_for_the_version_that_it_was_about() {
    let world = World::new().await;
    let certificate = issued(&world, "a.example.test", DAY, 90 * DAY).await;
    let look = due(&world, certificate.issuer).await.remove(0);
    let (first, second) = (suggested(&world), suggested(&world));
    let second = Suggestion { renew_at: later(second.renew_at, Duration::from_secs(1)), ..second };
    record(&world, &look, judged(&world, first, true)).await;
    let stored = read(&world, &certificate).await;
    // Somebody else looked in the same moment and was slower, or the write is sent again.
    record(&world, &look, judged(&world, second, true)).await;
    assert_eq!(read(&world, &certificate).await, stored);

    let renewed = renew(&world, &stored).await;
    let of_the_first = DueLook { due_at: renewed.renewal_info.at.unwrap(), ..look };
    record(&world, &of_the_first, judged(&world, second, true)).await;
    record(&world, &of_the_first, Looked::NeverAgain).await;
    assert_eq!(read(&world, &renewed).await, renewed);
}

/// Beside workers of an earlier build, which know nothing of ids and leave the time of the look as it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_version_without_an_id_to_ask_by_is_let_go_and_no_job_is_queued_for_it() {
    let world = World::new().await;
    let certificate = issued(&world, "a.example.test", DAY, 90 * DAY).await;
    let own = doc! { "_id": certificate.id.to_string() };
    let certificates = raw(&world).await.collection::<Document>("certificates");
    certificates.update_one(own, doc! { "$unset": { "version.ari_id": 1 } }).await.unwrap();
    let look = due(&world, certificate.issuer).await.remove(0);
    assert_eq!(look.id, None);
    record(&world, &look, Looked::NeverAgain).await;
    let (now, kept) = (later(world.clock.now(), DAY), read(&world, &certificate).await);
    assert_eq!((kept.renewal_info.at, kept.renew_at), (None, certificate.renew_at));
    assert_eq!(world.store.issuers_to_ask(now, None, 10).await.unwrap(), (vec![], None));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_another_window_changes_when_it_is_renewed() {
    let world = World::new().await;
    let certificate = issued(&world, "a.example.test", DAY, 90 * DAY).await;
    let look = due(&world, certificate.issuer).await.remove(0);
    let suggestion = suggested(&world);
    // It waits after a failure: the same word of the CA must not have it tried at once.
    record(&world, &look, judged(&world, suggestion, false)).await;
    let seen = read(&world, &certificate).await;
    assert_eq!(seen.renew_at, certificate.renew_at);
    assert_eq!(seen.renewal_info.seen.unwrap().suggestion(), Some(suggestion));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_ca_offers_none_any_more_it_is_renewed_by_its_life_and_not_asked_again() {
    let world = World::new().await;
    let database = raw(&world).await;
    let certificates = database.collection::<Document>("certificates");
    for waits in [false, true] {
        let certificate = issued(&world, &format!("{waits}.example.test"), DAY, 90 * DAY).await;
        let look = due(&world, certificate.issuer).await.remove(0);
        record(&world, &look, judged(&world, suggested(&world), true)).await;
        let own = doc! { "_id": certificate.id.to_string() };
        let mut set = doc! { "ari_at": DateTime::from_millis(1) };
        if waits {
            // After a failure, until then.
            set.insert("renew_at", DateTime::from_millis(2));
        }
        certificates.update_one(own, doc! { "$set": set }).await.unwrap();
        let look = due(&world, certificate.issuer).await.remove(0);
        record(&world, &look, Looked::NeverAgain).await;
        let after = read(&world, &certificate).await;
        assert_eq!((after.renewal_info.at, after.renewal_info.seen), (None, None));
        let expected =
            if waits { Some(2) } else { certificate.renew_at.map(jiff::Timestamp::as_millisecond) };
        assert_eq!(after.renew_at.map(jiff::Timestamp::as_millisecond), expected);
        assert!(due(&world, certificate.issuer).await.is_empty());
    }
}

/// As if its account had been registered.
pub(crate) async fn registered(world: &World, issuer: IssuerId) {
    let issuers = raw(world).await.collection::<Document>("issuers");
    let url = doc! { "$set": { "account_url": "https://ca.example.test/acct/1" } };
    let done = issuers.update_one(doc! { "_id": issuer.to_string() }, url).await.unwrap();
    assert_eq!(done.matched_count, 1);
}

pub(crate) async fn claim_looks(world: &World) -> Vec<Claim> {
    let token = ClaimId::generate(world.clock.as_ref(), world.entropy.as_ref());
    let (held, now) = (BTreeMap::new(), world.clock.now());
    let search = Search::anything(Room { all: 50, side: 0 }, &[ARI_PARTITION], &held, now);
    world.store.claim_jobs("one", token, LEASE, &search).await.unwrap().claims
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_is_asked_by_one_job_at_a_time_and_none_of_an_earlier_leader() {
    let world = World::new().await;
    let one = issued(&world, "one.example.test", DAY, 90 * DAY).await;
    let two = issued(&world, "two.example.test", DAY, 90 * DAY).await;
    let found = world.store.issuers_to_ask(world.clock.now(), None, 10).await.unwrap().0;
    let mut issuers = [one.issuer, two.issuer];
    issuers.sort_unstable();
    assert_eq!(found.iter().map(|found| found.issuer).collect::<Vec<_>>(), issuers);
    assert!(found.iter().all(|found| found.project == world.project));
    let behind =
        world.store.issuers_to_ask(world.clock.now(), Some(&issuers[0].to_string()), 10).await.unwrap().0;
    assert_eq!(behind.iter().map(|found| found.issuer).collect::<Vec<_>>(), issuers[1..]);
    // One whose first certificate cannot be read keeps none from being asked.
    let broken = doc! { "_id": "broken", "issuer": format!("iss_{:032x}", 0), "project": 7, "ari_at": DateTime::from_millis(1) };
    raw(&world).await.collection::<Document>("certificates").insert_one(broken).await.unwrap();
    let (found, last) = world.store.issuers_to_ask(world.clock.now(), None, 3).await.unwrap();
    assert_eq!(found.iter().map(|found| found.issuer).collect::<Vec<_>>(), issuers);
    assert_eq!(
        last,
        Some(issuers[1].to_string()),
        "there may be more behind three, one of which cannot be read"
    );
    let (found, last) = world.store.issuers_to_ask(world.clock.now(), None, 1).await.unwrap();
    assert_eq!(
        (found.len(), &last),
        (0, &Some(format!("iss_{:032x}", 0))),
        "a page of which nothing can be read"
    );
    let behind = world.store.issuers_to_ask(world.clock.now(), last.as_deref(), 10).await.unwrap();
    assert_eq!((behind.0.len(), behind.1), (2, None));
    let before = world.clock.now() - 2 * DAY;
    assert!(world.store.issuers_to_ask(before, None, 10).await.unwrap().0.is_empty());

    let plan = async |epoch| {
        let work = Work::RenewalLook { issuer: one.issuer };
        let (clock, entropy) = (world.clock.as_ref(), world.entropy.as_ref());
        let job = JobDraft::now(world.project, work, 0, clock, entropy);
        world.store.plan_renewal_look(&job, epoch).await.unwrap()
    };
    assert_eq!(plan(5).await, Planned::Unneeded, "its account is not registered");
    registered(&world, one.issuer).await;
    assert_eq!(plan(5).await, Planned::Queued);
    assert_eq!(plan(5).await, Planned::Unneeded, "it is queued already");
    assert!(world.claim("one", LEASE).await.is_empty(), "it stands where work for CAs does");
    let claim = claim_looks(&world).await.remove(0);
    assert_eq!((claim.work.kind(), claim.lane.is_side()), ("renewal-look", false));
    assert_eq!(plan(5).await, Planned::Unneeded, "it is being run");
    world.store.settle(&claim, &Settlement::Succeeded, world.clock.now()).await.unwrap();
    assert_eq!(plan(4).await, Planned::Unneeded, "a leader of an earlier epoch");
    assert_eq!(plan(5).await, Planned::Queued);
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_cannot_be_read_keep_no_look_of_their_issuer_waiting() {
    const PAGE: u32 = 5;
    let world = World::new().await;
    let certificate = issued(&world, "one.example.test", DAY, 90 * DAY).await;
    let certificates = raw(&world).await.collection::<Document>("certificates");
    let issuer = certificate.issuer.to_string();
    let broken =
        |n: i64| doc! { "_id": format!("broken-{n}"), "issuer": &issuer, "ari_at": DateTime::from_millis(n) };
    certificates.insert_many((1..=3 * i64::from(PAGE)).map(broken)).await.unwrap();
    let now = world.clock.now();
    let (due, is_full) = world.store.due_renewal_looks(certificate.issuer, now, PAGE).await.unwrap();
    assert_eq!(due.iter().map(|due| due.certificate).collect::<Vec<_>>(), [certificate.id]);
    assert!(!is_full, "its job would come back at once for nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_the_way_of_a_look_is_not_shown_as_the_issuers_fault() {
    use cap_core::job::Setbacks;
    use cap_core::problem::{Class, Problem};
    let world = World::new().await;
    let certificate = issued(&world, "one.example.test", DAY, 90 * DAY).await;
    let work = Work::RenewalLook { issuer: certificate.issuer };
    let job = JobDraft::now(world.project, work, 0, world.clock.as_ref(), world.entropy.as_ref());
    registered(&world, certificate.issuer).await;
    assert_eq!(world.store.plan_renewal_look(&job, 1).await.unwrap(), Planned::Queued);
    let issuer =
        async || world.store.issuer(world.project, &certificate.issuer.to_string()).await.unwrap().unwrap();
    let before = issuer().await;
    let problem = Problem::new(Class::Transient, "ca-unreachable", "connection refused");
    let setbacks = Some(Setbacks { count: 9, ..Setbacks::none(world.clock.now()) });
    let again = Settlement::Again { after: Duration::ZERO, problem: Some(problem.clone()), setbacks };
    let claim = claim_looks(&world).await.remove(0);
    world.store.settle(&claim, &again, world.clock.now()).await.unwrap();
    let claim = claim_looks(&world).await.remove(0);
    world.store.settle(&claim, &Settlement::Dead(problem), world.clock.now()).await.unwrap();
    assert_eq!(issuer().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_looks_ahead_cost_the_leader_one_step_an_issuer_and_a_worker_one_page() {
    const EACH: usize = 1_000;
    let world = World::new().await;
    let database = raw(&world).await;
    let certificate = issued(&world, "a.example.test", DAY, 90 * DAY).await;
    let certificates = database.collection::<Document>("certificates");
    let own = doc! { "_id": certificate.id.to_string() };
    let whole = certificates.find_one(own).await.unwrap().unwrap();
    let now_ms = world.clock.now().as_millisecond();
    // Of one issuer all are due, of another none is, and a third offers no renewal information.
    let issuers = [(1, Some(-1)), (2, Some(3_600_000)), (3, None)];
    for (issuer, due_in_ms) in issuers {
        let many = (0..EACH).map(|n| {
            let mut one = whole.clone();
            one.insert("_id", format!("crt_{issuer:016x}{n:016x}"));
            one.insert("issuer", format!("iss_{issuer:032x}"));
            one.remove("ari_at");
            if let Some(due_in_ms) = due_in_ms {
                one.insert("ari_at", DateTime::from_millis(now_ms + due_in_ms));
            }
            one
        });
        certificates.insert_many(many).await.unwrap();
    }
    let many: IssuerId = format!("iss_{:032x}", 1).parse().unwrap();
    let mut found = (Vec::new(), Vec::new());
    let commands = asked_of(&database, "certificates", async {
        found.0 = world.store.issuers_to_ask(world.clock.now(), None, 10).await.unwrap().0;
        found.1 = world.store.due_renewal_looks(many, world.clock.now(), 50).await.unwrap().0;
        assert_eq!(world.store.end_far_looks(world.clock.now(), 10, 1).await.unwrap(), 0);
    })
    .await;
    let found_issuers: Vec<_> = found.0.iter().map(|found| found.issuer).collect();
    assert_eq!(found_issuers, [many, certificate.issuer]);
    assert_eq!(found.1.len(), 50);
    let [steps, page, far_scans, far_looks] = commands.as_slice() else { panic!("{commands:#?}") };
    for steps in [steps, far_looks] {
        let plan = explain(&database, steps).await;
        assert!(plan.stages.iter().any(|stage| stage == "DISTINCT_SCAN"), "{plan:?}");
        assert!(
            !plan.stages.iter().any(|stage| ["COLLSCAN", "SORT", "$sort"].contains(&&**stage)),
            "{plan:?}"
        );
        assert!(plan.keys <= 8 && plan.documents <= 3, "{plan:?}");
    }
    let plan = explain(&database, far_scans).await;
    plan.goes_by_an_index(far_scans);
    assert_eq!((plan.keys, plan.documents), (0, 0));
    let plan = explain(&database, page).await;
    plan.goes_by_an_index(page);
    assert!(plan.keys <= 51 && plan.documents <= 51, "{plan:?}");

    // What is written finds each by its id.
    let looked: Vec<_> =
        found.1.into_iter().map(|due| (due, judged(&world, suggested(&world), true))).collect();
    world.store.record_renewal_looks(&looked).await.unwrap();
    let left = certificates.count_documents(doc! { "issuer": many.to_string(), "ari": { "$exists": true } });
    assert_eq!(left.await.unwrap(), 50);
    let one = &looked[0].0;
    let by = doc! { "_id": one.certificate.to_string(), "version.id": one.version.to_string(), "ari_at": DateTime::from_millis(now_ms) };
    let command = doc! { "find": "certificates", "filter": by };
    let plan = explain(&database, &command).await;
    plan.goes_by_an_index(&command);
    assert!(plan.keys <= 1 && plan.documents <= 1, "{plan:?}");
}
