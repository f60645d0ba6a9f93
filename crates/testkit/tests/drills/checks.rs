// SPDX-License-Identifier: Apache-2.0
//! What is checked after every drill can fail: each harm is done once by hand, and its figure falls short.

use std::time::Duration;

use cap_testkit::ca::CaKind;
use cap_testkit::drill::{self, Figures, Form, Report, Run, World};
use cap_testkit::mongo::driver::bson::{DateTime, Document, doc};
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(120);
/// Nothing is under way here: what is unfinished stays so.
const UNFINISHED_MAX: Duration = Duration::from_secs(5);
const CHECKS: [&str; 8] = [
    "unfinished jobs",
    "certificates at the CA, off those stored",
    "jobs that succeeded, off certificates stored",
    "certificates bought twice",
    "certificates with a missing or doubled version",
    "certificates with another's key",
    "acknowledged writes lost",
    "private keys in files and logs",
];

#[tokio::test(flavor = "multi_thread")]
async fn each_harm_is_noticed_by_its_check() {
    let _room = crate::ROOM.acquire().await.unwrap();
    let run = Run { form: Form::Short, count: 1, ca: CaKind::default() };
    let mut options = run.form.options();
    options.workers = 1;
    let world = World::start(run, options).await.unwrap();
    let names: Vec<String> = (0..3).map(|n| format!("harm-{n}.example.test")).collect();
    let certificates = world.issued(&names).await.unwrap();
    let api = world.api().unwrap();
    api.post(&world.path(&format!("certificates/{}/renew", certificates[2])), &json!({})).await.unwrap();
    world.wait_version(&certificates[2..], 2, PATIENCE).await.unwrap();
    let project = api.post("/api/v1/projects", &json!({ "name": "lost" })).await.unwrap();
    let project = project["id"].as_str().unwrap();
    let mut load = Report { acknowledged: vec![format!("/api/v1/projects/{project}")], missing: vec![] };
    load.acknowledged.extend(certificates.iter().map(|id| world.path(&format!("certificates/{id}"))));

    let figures = look(&world, &load).await;
    assert!(figures.are_met(), "{figures}");
    harm(&world, &certificates, project).await;
    let figures = look(&world, &load).await;
    for check in CHECKS {
        assert!(!figures.get(check).unwrap().is_met(), "{check}: {figures}");
    }
}

async fn look(world: &World, load: &Report) -> Figures {
    let mut figures = Figures::default();
    drill::aftermath_within(UNFINISHED_MAX, world, load, &mut figures).await.unwrap();
    figures
}

/// Past every interface of ours: another's certificate, a renewal whose first version is gone, a write that is gone, a job
/// that is neither done nor over, and a key in clear.
async fn harm(world: &World, certificates: &[String], project: &str) {
    let versions = world.collection("certificate_versions");
    let of = |certificate: &str| doc! { "certificate": certificate, "number": 1_i64 };
    let other: Document = versions.find_one(of(&certificates[1])).await.unwrap().unwrap();
    let chain = doc! { "$set": { "chain_pem": other.get_str("chain_pem").unwrap() } };
    assert_eq!(versions.update_one(of(&certificates[0]), chain).await.unwrap().modified_count, 1);
    assert_eq!(versions.delete_one(of(&certificates[2])).await.unwrap().deleted_count, 1);
    let key = world.path(&format!("certificates/{}/download?format=key", certificates[1]));
    let key = world.api().unwrap().call("GET", &key, None, None).await.unwrap().text;
    world.collection("notes").insert_one(doc! { "key": key }).await.unwrap();
    let gone = world.collection("projects").delete_one(doc! { "_id": project }).await.unwrap();
    assert_eq!(gone.deleted_count, 1);
    // Due in the year 2100: no worker takes it.
    let later = doc! { "$set": { "state": "queued", "claim_at": DateTime::from_millis(4_102_444_800_000) } };
    let job = doc! { "lists": &certificates[1], "state": "succeeded" };
    assert_eq!(world.collection("jobs").update_one(job.clone(), later).await.unwrap().modified_count, 1);
    let dead = doc! { "$set": { "state": "dead" } };
    let job = doc! { "lists": &certificates[2], "state": "succeeded" };
    assert_eq!(world.collection("jobs").update_one(job, dead).await.unwrap().modified_count, 1);
}
