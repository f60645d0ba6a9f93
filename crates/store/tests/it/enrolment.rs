// SPDX-License-Identifier: Apache-2.0
//! How changed settings reach many projects: each has its turn in every round, whatever stands before it.

use cap_core::id::{CertificateId, ProjectId};
use cap_store::Enrolment;
use cap_testkit::mongo::driver::bson::{Document, doc};

use crate::queue::raw;
use crate::world::World;

/// Projects with a certificate each that is to follow, and projects that cannot be read.
const PROJECTS: i32 = 45;
const UNREADABLE: i32 = 25;

#[tokio::test(flavor = "multi_thread")]
async fn every_project_has_its_turn_in_one_round_beside_those_that_cannot_be_read() {
    let world = World::new().await;
    let database = raw(&world).await;
    let (projects, certificates) =
        (database.collection::<Document>("projects"), database.collection::<Document>("certificates"));
    let settings =
        doc! { "enabled": true, "port": 443, "interval_ms": 3_600_000_i64, "gen": 1_i64, "pending": true };
    for n in 0..PROJECTS + UNREADABLE {
        let (clock, entropy) = (world.clock.as_ref(), world.entropy.as_ref());
        let (project, certificate) =
            (ProjectId::generate(clock, entropy), CertificateId::generate(clock, entropy));
        let mut drift = settings.clone();
        if n < UNREADABLE {
            drift.insert("gen", "one");
        }
        let name = format!("project-{n}");
        projects.insert_one(doc! { "_id": project.to_string(), "name": name, "drift": drift }).await.unwrap();
        let certificate = doc! { "_id": certificate.to_string(), "project": project.to_string() };
        certificates.insert_one(certificate).await.unwrap();
    }
    let stamped = vec![doc! { "$set": { "drift.changed_at": "$$NOW" } }];
    projects.update_many(doc! {}, stamped).await.unwrap();

    let (mut round, mut looks) = (Enrolment::default(), 1);
    while world.store.enrol_drift(&mut round, 1).await.unwrap() {
        looks += 1;
    }
    let followed = certificates.count_documents(doc! { "drift_gen": 1_i64, "drift_on": true }).await.unwrap();
    assert_eq!(followed, u64::try_from(PROJECTS).unwrap());
    assert!(looks <= 3, "{looks} looks");

    // None of them is settled yet, so the next round has them all again, and nothing to do at once.
    let late = certificates.update_one(doc! { "drift_gen": 1_i64 }, doc! { "$unset": { "drift_gen": 1 } });
    assert_eq!(late.await.unwrap().modified_count, 1);
    while world.store.enrol_drift(&mut round, 1).await.unwrap() {}
    assert_eq!(certificates.count_documents(doc! { "drift_gen": 1_i64 }).await.unwrap(), followed);
}
