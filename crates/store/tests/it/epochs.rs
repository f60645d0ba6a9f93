// SPDX-License-Identifier: Apache-2.0
//! What a leader of an earlier epoch does late: nothing, whichever duty it is of.

use std::time::Duration;

use cap_store::{Enrolment, StoreError};
use cap_testkit::mongo::driver::bson::{Bson, Document, doc};
use cap_testkit::mongo::driver::{Collection, Database};

use crate::notices::issued;
use crate::queue::raw;
use crate::world::{LEASE, World};

const HOUR: Duration = Duration::from_secs(3_600);
const PAGE: u32 = 10;
const LATER: i64 = 7;
const EARLIER: i64 = 6;

/// Has a later leader do its duty, then makes it due again, and has an earlier one do it: whatever that changes is a fault.
async fn overtaken(
    duty: &'static str,
    faults: &mut Vec<String>,
    make_due: impl AsyncFn(),
    act: impl AsyncFn(i64) -> Result<u64, StoreError>,
) {
    make_due().await;
    let done = act(LATER).await.unwrap();
    assert!(done > 0, "{duty}: nothing was due");
    make_due().await;
    match act(EARLIER).await {
        Ok(0) | Err(StoreError::Fenced) => {}
        changed => faults.push(format!("{duty}: {changed:?}")),
    }
    // It was there to be done.
    make_due().await;
    assert!(act(LATER).await.unwrap() > 0, "{duty}: the later leader is kept out");
}

/// The time `amount` days from now by the database's clock.
fn days(amount: i32) -> Bson {
    doc! { "$dateAdd": { "startDate": "$$NOW", "unit": "day", "amount": amount } }.into()
}

/// Sets fields of the one record of `which`, whatever was there.
async fn set(records: &Collection<Document>, which: Document, fields: Document) {
    let set = records.update_one(which, vec![doc! { "$set": fields }]).await.unwrap();
    assert_eq!(set.matched_count, 1);
}

async fn jobs_duties(world: &World, database: &Database, faults: &mut Vec<String>) {
    let (store, now) = (&world.store, world.clock.now());
    let jobs = database.collection::<Document>("jobs");
    world.certificate("waits.example.test").await;
    let waits = doc! { "work.kind": "issue", "state": "queued" };
    let passed = async || set(&jobs, waits.clone(), doc! { "rank_at": days(-1) }).await;
    overtaken("ranks", faults, passed, async |epoch| store.age_ranks(now, PAGE, epoch).await.map(Into::into))
        .await;
    let far = doc! { "claim_at": days(30), "wait_ms": 0_i64 };
    let put_off = async || set(&jobs, waits.clone(), far.clone()).await;
    overtaken("wrong waits", faults, put_off, async |epoch| {
        store.end_wrong_waits(now, PAGE, epoch).await.map(Into::into)
    })
    .await;
    let without = async || {
        let unset = jobs.update_one(waits.clone(), doc! { "$unset": { "lists": "" } });
        assert_eq!(unset.await.unwrap().matched_count, 1);
    };
    overtaken("lists", faults, without, async |epoch| store.mend_lists(PAGE, epoch).await.map(Into::into))
        .await;
    let claimed = world.claim("one", LEASE).await.remove(0);
    let runs = doc! { "_id": claimed.job.to_string() };
    let stamped = async || set(&jobs, runs.clone(), doc! { "claim_at": days(30) }).await;
    overtaken("wrong leases", faults, stamped, async |epoch| store.shorten_wrong_leases(epoch).await).await;
    let removed = async || {
        jobs.delete_one(doc! { "_id": "bound/3/queued/end" }).await.unwrap();
    };
    overtaken("bounds", faults, removed, async |epoch| {
        store.restore_bounds(epoch).await.map(|bounds| u64::try_from(bounds).unwrap())
    })
    .await;
}

async fn certificates_duties(world: &World, database: &Database, faults: &mut Vec<String>) {
    let (store, now) = (&world.store, world.clock.now());
    let certificates = database.collection::<Document>("certificates");
    let certificate = issued(world, "issued.example.test", HOUR * 7, HOUR * 8).await;
    let it = doc! { "_id": certificate.id.to_string() };
    let off = doc! { "auto_renew": false, "plan_at": days(-1) };
    let misplaced = async || set(&certificates, it.clone(), off.clone()).await;
    overtaken("plans", faults, misplaced, async |epoch| {
        store.mend_plans(None, PAGE, epoch).await.map(|(_, mended)| mended)
    })
    .await;
    let in_plan = async || {
        let listed = doc! { "_id": certificate.id.to_string(), "plan_at": { "$exists": true } };
        certificates.count_documents(listed).await.unwrap()
    };
    let planned = doc! { "auto_renew": true, "planned_for": "$version.id", "plan_at": days(-1) };
    let left_behind = async || set(&certificates, it.clone(), planned.clone()).await;
    overtaken("what is planned", faults, left_behind, async |epoch| {
        let before = in_plan().await;
        store.due_certificates(now, PAGE, epoch).await?;
        Ok(before - in_plan().await)
    })
    .await;
    for (duty, field) in [("far scans", "drift_at"), ("far looks at renewal information", "ari_at")] {
        let put_off = async || set(&certificates, it.clone(), doc! { field: days(4_000) }).await;
        overtaken(duty, faults, put_off, async |epoch| {
            store.end_far_looks(now, PAGE, epoch).await.map(Into::into)
        })
        .await;
    }
    let projects = database.collection::<Document>("projects");
    let project = doc! { "_id": world.project.to_string() };
    let drift = doc! {
        "enabled": true, "port": 443, "interval_ms": 3_600_000_i64, "gen": 1_i64, "pending": true, "changed_at": days(-1),
    };
    let make = vec![doc! { "$set": { "name": "followed", "drift": drift } }];
    projects.update_one(project.clone(), make).upsert(true).await.unwrap();
    let behind = async || {
        certificates.update_many(doc! {}, doc! { "$unset": { "drift_gen": "" } }).await.unwrap();
    };
    overtaken("followers", faults, behind, async |epoch| {
        store.enrol_drift(&mut Enrolment::default(), epoch).await?;
        Ok(certificates.count_documents(doc! { "drift_gen": 1_i64 }).await.unwrap())
    })
    .await;
    let pending = async || {
        projects.count_documents(doc! { "_id": world.project.to_string(), "drift.pending": true }).await
    };
    let again = async || set(&projects, project.clone(), doc! { "drift.pending": true }).await;
    overtaken("a project that is followed", faults, again, async |epoch| {
        store.enrol_drift(&mut Enrolment::default(), epoch).await?;
        Ok(1 - pending().await.unwrap())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_duty_changes_what_a_later_leader_has_changed() {
    let mut world = World::new().await;
    world.may_scan();
    let database = raw(&world).await;
    let mut faults = Vec::new();
    jobs_duties(&world, &database, &mut faults).await;
    certificates_duties(&world, &database, &mut faults).await;
    let instances = database.collection::<Document>("instances");
    let ahead = async || {
        let seen = vec![doc! { "$set": { "seen_at": days(2) } }];
        instances.update_one(doc! { "_id": "ins_ahead" }, seen).upsert(true).await.unwrap();
    };
    overtaken("instances ahead", &mut faults, ahead, async |epoch| {
        world.store.forget_ahead(world.clock.now(), PAGE, epoch).await
    })
    .await;
    assert!(faults.is_empty(), "{faults:#?}");
}
