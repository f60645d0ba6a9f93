// SPDX-License-Identifier: Apache-2.0
//! A certificate that is paused is not renewed by itself, what is under way goes on, and resuming it has it planned again.

use std::time::Duration;

use cap_testkit::mongo::driver::Client;
use cap_testkit::mongo::driver::bson::{DateTime, Document, doc};
use cap_testkit::wait::{self, Pending};
use serde_json::{Value, json};

use crate::http::Answer;
use crate::jobs::audited;
use crate::world::{Quiet, quiet, whole};

/// Requests at once with one key.
const AT_ONCE: usize = 10;
/// A look of the leader and an issuance, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

async fn ask(quiet: &Quiet, certificate: &str, verb: &str, header: (&str, &str)) -> Answer {
    let path = quiet.path(&format!("/certificates/{certificate}/{verb}"));
    quiet.http().call("POST", &path).token(quiet.owner()).header(header.0, header.1).send().await
}

#[tokio::test]
async fn a_certificate_is_paused_and_resumed_as_a_change_of_it_has_it_and_its_job_lives_on() {
    let quiet = quiet().await;
    let _writing = quiet.writing.read().await;
    let (http, owner) = (quiet.http(), quiet.owner());
    let body = json!({ "names": ["paused.example.test"], "issuer": "ca" });
    let made = http.post(&quiet.path("/certificates"), owner, &body).await;
    let (id, place) = (made.id(), made.header("location").to_owned());
    let is_on = |answer: &Answer| answer.json()["auto_renew"].as_bool().unwrap();

    let paused = ask(quiet, &id, "pause", ("if-match", made.header("etag"))).await;
    assert_eq!((paused.status, paused.id(), is_on(&paused)), (200, id.clone(), false), "{paused:?}");
    assert_ne!(paused.header("etag"), made.header("etag"));
    assert_eq!(http.get(&place, owner).await.header("etag"), paused.header("etag"));
    ask(quiet, &id, "resume", ("if-match", made.header("etag"))).await.problem(412, "precondition-failed");
    let jobs = http.get(&quiet.path(&format!("/jobs?subject={id}")), owner).await.json();
    assert_eq!(jobs["items"].as_array().unwrap().len(), 1, "{jobs}");
    assert_eq!(jobs["items"][0]["state"], "queued", "pausing ended the job: {jobs}");

    let again = ask(quiet, &id, "pause", ("idempotency-key", "pause")).await;
    assert_eq!((again.status, is_on(&again)), (200, false), "paused already: {again:?}");
    let resumed = ask(quiet, &id, "resume", ("idempotency-key", "pause")).await;
    assert_eq!((resumed.status, is_on(&resumed)), (200, true), "{resumed:?}");
    let repeated = ask(quiet, &id, "pause", ("idempotency-key", "pause")).await;
    assert_eq!((repeated.status, is_on(&repeated)), (200, true), "a repeated request does nothing twice");
    let leaves = audited(quiet, &id).await;
    let changes: Vec<&Value> = leaves.iter().filter(|leaf| leaf["action"] == "certificate.updated").collect();
    let switched: Vec<&Value> = changes.iter().map(|leaf| &leaf["details"]["auto_renew"]).collect();
    assert_eq!(switched, [&json!(false), &json!(false), &json!(true)], "{leaves:?}");

    let told = http.post(&format!("{place}/pause"), owner, &json!({ "until": "tomorrow" })).await;
    told.problem(400, "malformed-request");
    ask(quiet, &format!("crt_{}", "0".repeat(32)), "resume", ("accept", "*/*"))
        .await
        .problem(404, "not-found");
}

#[tokio::test]
async fn a_pause_that_is_sent_several_times_at_once_with_one_key_is_one_change() {
    let quiet = quiet().await;
    let _writing = quiet.writing.read().await;
    let id = quiet.certificate("paused-at-once.example.test").await["id"].as_str().unwrap().to_owned();
    let asked = |id: String| async move {
        // Who meets the others too often is told to send it again, with the same key.
        wait::until("an answer", PATIENCE, || async {
            match ask(quiet, &id, "pause", ("idempotency-key", "at-once")).await {
                busy if busy.status == 503 => Err(Pending::not_yet(busy.text)),
                answer => Ok(answer),
            }
        })
        .await
        .unwrap()
    };
    let calls: Vec<_> = (0..AT_ONCE).map(|_| tokio::spawn(asked(id.clone()))).collect();
    for call in calls {
        let answer = call.await.unwrap();
        assert_eq!((answer.status, &answer.json()["auto_renew"]), (200, &json!(false)), "{answer:?}");
    }
    let leaves = audited(quiet, &id).await;
    assert_eq!(leaves.iter().filter(|leaf| leaf["action"] == "certificate.updated").count(), 1, "{leaves:?}");
}

#[tokio::test]
async fn what_is_paused_is_issued_to_the_end_and_renewed_when_due_only_once_it_is_resumed() {
    let world = whole().await;
    let (api, demo) = (world.stack.client(0).unwrap(), &world.demo);
    let path = |id: &str, verb: &str| format!("{}/{id}{verb}", demo.certificates());
    let paused = demo.request(&api, &["paused.example.test"]).await.unwrap();
    let other = demo.request(&api, &["renewed.example.test"]).await.unwrap();
    api.post(&path(&paused, "/pause"), &json!({})).await.unwrap();
    for id in [&paused, &other] {
        demo.wait_valid(&api, id).await.unwrap();
    }
    // Both in the leader's plan, the paused one before the other: what has the other renewed has seen it.
    let database = Client::with_uri_str(world.stack.mongo_uri()).await.unwrap().default_database().unwrap();
    for (id, at) in [(&paused, 1), (&other, 2)] {
        let at = DateTime::from_millis(at);
        let due = doc! { "$set": { "renew_at": at, "plan_at": at } };
        let certificates = database.collection::<Document>("certificates");
        assert_eq!(certificates.update_one(doc! { "_id": id }, due).await.unwrap().matched_count, 1);
    }
    let renewed = async |id: &str| {
        wait::until(&format!("version 2 of {id}"), PATIENCE, || async {
            let record = api.get(&path(id, "")).await.map_err(Pending::not_yet)?;
            let is_there = record["version"]["number"] == 2 && record["status"] == "valid";
            if is_there { Ok(()) } else { Err(Pending::not_yet(record)) }
        })
        .await
        .unwrap();
    };
    let jobs = async |id: &str| {
        let jobs = format!("/api/v1/projects/{}/jobs?kind=issue&subject={id}", demo.project);
        api.get(&jobs).await.unwrap()["items"].as_array().unwrap().len()
    };
    renewed(&other).await;
    assert_eq!(jobs(&paused).await, 1, "it was renewed while it was paused");
    assert_eq!(api.get(&path(&paused, "")).await.unwrap()["version"]["number"], 1);

    let resumed = api.post(&path(&paused, "/resume"), &json!({})).await.unwrap();
    assert_eq!(resumed["auto_renew"], true);
    renewed(&paused).await;
    assert_eq!(jobs(&paused).await, 2);
}
