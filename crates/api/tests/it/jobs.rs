// SPDX-License-Identifier: Apache-2.0
//! Jobs that people retry and cancel, and the queue as a whole.

use cap_core::clock::Clock;
use cap_core::job::Work;
use cap_runtime::clock::SystemClock;
use cap_testkit::mongo::driver::bson::{DateTime, Document, doc};
use cap_testkit::mongo::driver::{Client, Database};
use serde_json::{Value, json};

use crate::http::{Answer, Http};
use crate::world::{Quiet, quiet};

/// The database itself, past every interface of ours.
pub(crate) async fn raw(quiet: &Quiet) -> Database {
    Client::with_uri_str(quiet.stack.mongo_uri()).await.unwrap().default_database().unwrap()
}

/// Changes the one document of a collection that has this id.
pub(crate) async fn set(quiet: &Quiet, collection: &str, id: &str, change: Document) {
    let collection = raw(quiet).await.collection::<Document>(collection);
    let done = collection.update_one(doc! { "_id": id }, change).await.unwrap();
    assert_eq!(done.matched_count, 1, "{id}");
}

/// A job that waits for an hour, and its certificate.
async fn waiting(quiet: &Quiet, name: &str) -> (String, String) {
    let certificate = quiet.certificate(name).await["id"].as_str().unwrap().to_owned();
    let jobs = quiet.path(&format!("/jobs?subject={certificate}"));
    let jobs = quiet.http().get(&jobs, quiet.owner()).await.json();
    let job = jobs["items"][0]["id"].as_str().unwrap().to_owned();
    set(quiet, "jobs", &job, doc! { "$set": { "claim_at": in_an_hour() } }).await;
    (job, certificate)
}

/// So many milliseconds from now.
pub(crate) fn from_now(ms: i64) -> DateTime {
    DateTime::from_millis(SystemClock.now().as_millisecond() + ms)
}

fn in_an_hour() -> DateTime {
    from_now(3_600_000)
}

async fn ask(quiet: &Quiet, job: &str, verb: &str, key: &str) -> Answer {
    let path = quiet.path(&format!("/jobs/{job}/{verb}"));
    quiet.http().call("POST", &path).token(quiet.owner()).header("idempotency-key", key).send().await
}

/// The audit leaves about a job, or whatever else has this id.
pub(crate) async fn audited(quiet: &Quiet, target: &str) -> Vec<Value> {
    let mut rows = raw(quiet).await.collection::<Document>("audit_outbox").find(doc! {}).await.unwrap();
    let mut leaves = Vec::new();
    while rows.advance().await.unwrap() {
        let row = rows.deserialize_current().unwrap();
        leaves.push(serde_json::from_slice::<Value>(row.get_binary_generic("leaf").unwrap()).unwrap());
    }
    leaves.retain(|leaf| leaf["target"] == target);
    leaves
}

async fn count(quiet: &Quiet, certificate: &str) -> usize {
    let path = quiet.path(&format!("/jobs?subject={certificate}"));
    quiet.http().get(&path, quiet.owner()).await.json()["items"].as_array().unwrap().len()
}

#[tokio::test]
async fn nonsense_in_a_query_is_refused_with_what_to_write_and_no_word_reaches_another_list() {
    let quiet = quiet().await;
    let project = quiet.path("").replace("/api/v1/projects/", "");
    let cases = [
        (format!("/jobs?subject={project}"), "id of a certificate or of an issuer"),
        (format!("/jobs?subject={project}/succeeded"), "id of a certificate or of an issuer"),
        ("/jobs?kind=odd".to_owned(), "drift-scan"),
        ("/jobs?limit=-1".to_owned(), "whole number"),
        ("/jobs/totals?since=yesterday".to_owned(), "RFC 3339"),
    ];
    for (path, told) in cases {
        let answer = quiet.http().get(&quiet.path(&path), quiet.owner()).await;
        let detail = answer.problem(400, "malformed-request");
        assert!(detail.contains(told), "{path}: {detail}");
    }
}

#[tokio::test]
async fn a_registration_is_not_cancelled_but_mended_with_its_issuer() {
    let quiet = quiet().await;
    let _writing = quiet.writing.read().await;
    let issuer = quiet.http().get(&quiet.path("/issuers/ca"), quiet.owner()).await.json();
    let path = quiet.path(&format!("/jobs?subject={}", issuer["id"].as_str().unwrap()));
    let jobs = quiet.http().get(&path, quiet.owner()).await.json();
    let job = jobs["items"][0]["id"].as_str().unwrap();
    let refused = ask(quiet, job, "cancel", "registration").await;
    assert!(refused.text.contains("change what it lacks"), "{}", refused.text);
    refused.problem(409, "conflict");
}

#[tokio::test]
async fn a_job_that_waits_comes_forward_once_however_often_the_request_is_sent() {
    let quiet = quiet().await;
    let _writing = quiet.writing.read().await;
    let (job, certificate) = waiting(quiet, "retried.example.test").await;
    let first = ask(quiet, &job, "retry", "retry").await;
    assert_eq!((first.status, first.id()), (202, job.clone()), "{first:?}");
    let due: jiff::Timestamp = first.json()["due_at"].as_str().unwrap().parse().unwrap();
    assert!(due <= SystemClock.now(), "{first:?}");
    assert_eq!(first.header("location"), quiet.path(&format!("/jobs/{job}")));

    set(quiet, "jobs", &job, doc! { "$set": { "claim_at": in_an_hour() } }).await;
    let again = ask(quiet, &job, "retry", "retry").await;
    assert_eq!((again.status, again.id()), (202, job.clone()));
    let due: jiff::Timestamp = again.json()["due_at"].as_str().unwrap().parse().unwrap();
    assert!(due > SystemClock.now(), "the repeated request did it again");
    let leaves = audited(quiet, &job).await;
    assert_eq!(leaves.len(), 1, "{leaves:?}");
    assert_eq!((&leaves[0]["action"], &leaves[0]["outcome"]), (&"job.retried".into(), &"success".into()));
    assert_eq!(leaves[0]["details"], json!({ "kind": "issue", "certificate": certificate }));
}

#[tokio::test]
async fn a_dead_job_is_revived_and_what_runs_or_is_over_is_refused_with_what_to_do() {
    let quiet = quiet().await;
    let _writing = quiet.writing.read().await;
    let (job, _) = waiting(quiet, "states.example.test").await;
    let dead = doc! { "$set": { "state": "dead", "alive": false }, "$unset": { "claim_at": 1 } };
    set(quiet, "jobs", &job, dead).await;
    assert!(ask(quiet, &job, "cancel", "dead").await.problem(409, "conflict").contains("retry it"));
    let revived = ask(quiet, &job, "retry", "dead").await;
    assert_eq!((revived.status, revived.json()["state"].as_str()), (202, Some("queued")), "{revived:?}");

    let running = doc! { "$set": { "state": "running", "claim_at": in_an_hour() } };
    set(quiet, "jobs", &job, running).await;
    for (verb, told) in [("retry", "has ended"), ("cancel", "cancel it when it waits again")] {
        let detail = ask(quiet, &job, verb, "running").await.problem(409, "conflict");
        assert!(detail.contains("a worker runs it") && detail.contains(told), "{detail}");
    }
    set(quiet, "jobs", &job, doc! { "$set": { "state": "succeeded" } }).await;
    for (verb, told) in [("retry", "renew the certificate"), ("cancel", "nothing left to cancel")] {
        let detail = ask(quiet, &job, verb, "over").await.problem(409, "conflict");
        assert!(detail.contains("it has succeeded") && detail.contains(told), "{detail}");
    }
    assert_eq!(audited(quiet, &job).await.len(), 1, "a refusal is no change");
}

#[tokio::test]
async fn a_cancelled_job_gives_its_key_free_and_says_what_becomes_of_the_work() {
    let quiet = quiet().await;
    let _writing = quiet.writing.read().await;
    let (job, certificate) = waiting(quiet, "cancelled.example.test").await;
    let first = ask(quiet, &job, "cancel", "cancel").await;
    let told = first.json();
    assert_eq!((first.status, &told["state"], &told["due_at"]), (200, &"cancelled".into(), &Value::Null));
    assert!(told["next"].as_str().unwrap().contains("renew it to queue another job"), "{told}");
    let again = ask(quiet, &job, "cancel", "cancel").await;
    assert_eq!((again.status, again.json()), (200, told));
    assert!(ask(quiet, &job, "cancel", "other").await.problem(409, "conflict").contains("before"));
    assert!(
        ask(quiet, &job, "retry", "other").await.problem(409, "conflict").contains("renew the certificate")
    );
    let leaves = audited(quiet, &job).await;
    assert_eq!((leaves.len(), &leaves[0]["action"]), (1, &"job.cancelled".into()), "{leaves:?}");

    let renew = quiet.path(&format!("/certificates/{certificate}/renew"));
    let next = quiet.http().post(&renew, quiet.owner(), &json!({})).await;
    assert_eq!(next.status, 202, "{next:?}");
    assert_ne!(next.id(), job);
    assert_eq!(count(quiet, &certificate).await, 2);
}

#[tokio::test]
async fn ten_requests_at_once_with_one_key_cancel_once_and_get_one_answer() {
    let quiet = quiet().await;
    let _writing = quiet.writing.read().await;
    let (job, _) = waiting(quiet, "atonce.cancelled.example.test").await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let job = job.clone();
        calls.spawn(async move { ask(quiet, &job, "cancel", "atonce").await });
    }
    while let Some(answer) = calls.join_next().await {
        let answer = answer.unwrap();
        assert_eq!((answer.status, answer.id()), (200, job.clone()), "{answer:?}");
    }
    assert_eq!(audited(quiet, &job).await.len(), 1);
}

#[tokio::test]
async fn cancelling_a_renewal_says_that_it_is_planned_again() {
    let quiet = quiet().await;
    let _writing = quiet.writing.read().await;
    let (job, certificate) = waiting(quiet, "planned.example.test").await;
    let now = from_now(0);
    let version = doc! {
        "id": "ver_0192f0c1a3d27b4e8f6a5c4d3e2f1a0b", "number": 1_i64, "serial": "01", "fingerprint_sha256": "ff",
        "not_before": now, "not_after": in_an_hour(), "issued_at": now,
    };
    let issued = doc! { "$set": { "version": version, "renew_at": in_an_hour(), "versions": 1_i64 } };
    set(quiet, "certificates", &certificate, issued).await;
    let told = ask(quiet, &job, "cancel", "cancel").await.json();
    assert!(told["next"].as_str().unwrap().contains("the scheduler plans this renewal again"), "{told}");
}

#[tokio::test]
async fn a_job_of_another_project_is_not_there_and_a_viewer_changes_nothing() {
    let quiet = quiet().await;
    let _writing = quiet.writing.read().await;
    let (job, certificate) = waiting(quiet, "guarded.example.test").await;
    let http: Http = quiet.http();
    let viewer = quiet.token("viewer", Some(&quiet.project)).await;
    let foreign = quiet.token("admin", Some(&quiet.foreign)).await;
    let (viewer, foreign) = (viewer["token"].as_str().unwrap(), foreign["token"].as_str().unwrap());
    for verb in ["retry", "cancel"] {
        let path = quiet.path(&format!("/jobs/{job}/{verb}"));
        http.post(&path, viewer, &json!({})).await.problem(403, "forbidden");
        http.post(&path, foreign, &json!({})).await.problem(404, "not-found");
        http.post(&path, quiet.owner(), &json!({ "now": true })).await.problem(400, "malformed-request");
        let across = format!("/api/v1/projects/{}/jobs/{job}/{verb}", quiet.foreign);
        for token in [quiet.owner(), foreign] {
            let detail = http.post(&across, token, &json!({})).await.problem(404, "not-found");
            assert!(detail.contains(&job), "{detail}");
        }
    }
    let seen = http.get(&quiet.path(&format!("/jobs/{job}")), quiet.owner()).await.json();
    assert_eq!(seen["state"], "queued");
    assert_eq!((audited(quiet, &job).await.len(), count(quiet, &certificate).await), (0, 1));
}

#[tokio::test]
async fn jobs_are_listed_newest_first_and_one_of_an_unknown_kind_is_shown_and_left_alone() {
    let quiet = quiet().await;
    let _writing = quiet.writing.read().await;
    let (job, certificate) = waiting(quiet, "listed.example.test").await;
    let http: Http = quiet.http();
    let get = async |query: String| http.get(&quiet.path(&format!("/jobs?{query}")), quiet.owner()).await;
    let newest = get("order=desc&limit=1".to_owned()).await.json();
    let cursor = newest["next_cursor"].as_str().unwrap().to_owned();
    let next = get(format!("order=desc&limit=1&cursor={cursor}")).await.json();
    assert!(newest["items"][0]["id"].as_str() > next["items"][0]["id"].as_str(), "{newest}, {next}");
    get(format!("limit=1&cursor={cursor}")).await.problem(400, "malformed-request");
    get("kind=mend-the-sky".to_owned()).await.problem(400, "malformed-request");
    get("order=random".to_owned()).await.problem(400, "malformed-request");
    let own = get(format!("kind=issue&subject={certificate}")).await.json();
    assert_eq!(own["items"].as_array().unwrap().len(), 1, "{own}");

    let other = doc! { "$set": { "work": { "kind": "mend-the-sky", "sky": 7 } } };
    set(quiet, "jobs", &job, other).await;
    let own = get(format!("subject={certificate}")).await.json();
    assert_eq!(own["items"][0]["kind"], "mend-the-sky", "{own}");
    for verb in ["retry", "cancel"] {
        let path = quiet.path(&format!("/jobs/{job}/{verb}"));
        let detail = http.post(&path, quiet.owner(), &json!({})).await.problem(409, "conflict");
        assert!(detail.contains("does not know"), "{detail}");
    }
}

#[tokio::test]
async fn the_cluster_tells_the_queue_while_it_is_measured_and_otherwise_why_not() {
    let quiet = quiet().await;
    let _writing = quiet.writing.read().await;
    let gauges = raw(quiet).await.collection::<Document>("gauges");
    let cluster = async || quiet.http().get("/api/v1/cluster", quiet.owner()).await.json();
    let is_told_why = |told: &Value| {
        let why = told["queue_unavailable"].as_str().unwrap();
        told["queue"].is_null() && why.contains("no scheduler has measured the queue in the last 30 s")
    };
    let told = cluster().await;
    assert!(is_told_why(&told), "{told}");
    for (age_ms, is_current) in [(0, true), (31_000, false)] {
        let measured_at = from_now(-age_ms);
        let gauge = doc! { "$set": {
            "fence": 1_i64, "depth": 12_000_i64, "capped": true, "oldest_age_ms": 1_500_i64,
            "measured_at": measured_at, "kinds_at": measured_at, "kinds": { "drift-scan": {
                "due": 3_i64, "running": 1_i64, "capped": false, "oldest_age_ms": 2_500_i64,
            } },
        } };
        gauges.update_one(doc! { "_id": "queue" }, gauge).upsert(true).await.unwrap();
        let told = cluster().await;
        if is_current {
            let queue = &told["queue"];
            assert_eq!((&queue["depth"], &queue["capped"]), (&12_000.into(), &true.into()), "{told}");
            assert_eq!(queue["oldest_age_seconds"], 1.5, "{told}");
            let scans = json!({
                "kind": "drift-scan", "due": 3, "running": 1, "capped": false, "oldest_age_seconds": 2.5,
            });
            let by_kind = queue["by_kind"].as_array().unwrap();
            assert!(by_kind.len() == Work::KINDS.len() && by_kind.contains(&scans), "{told}");
            assert!(queue["measured_at"].is_string() && told["queue_unavailable"].is_null(), "{told}");
        } else {
            assert!(is_told_why(&told), "{told}");
        }
    }
}
