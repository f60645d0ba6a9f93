// SPDX-License-Identifier: Apache-2.0
//! A repeated request does nothing twice.

use std::collections::BTreeSet;

use cap_testkit::mongo::driver::bson::{Document, doc};
use serde_json::{Value, json};

use crate::http::{Answer, Http};
use crate::jobs::raw;
use crate::world::{Quiet, quiet};

/// Requests at once with one key.
const AT_ONCE: usize = 20;

async fn post(http: &Http, path: &str, (token, key): (&str, &str), body: &Value) -> Answer {
    http.call("POST", path).token(token).header("idempotency-key", key).json(body).send().await
}

fn certificate(name: &str) -> Value {
    json!({ "names": [name], "issuer": "ca" })
}

/// How many certificates of the project have this name.
async fn count(quiet: &Quiet, name: &str) -> usize {
    let found = quiet.http().get(&quiet.path("/certificates?limit=500"), quiet.owner()).await.json();
    assert!(found["next_cursor"].is_null(), "more certificates than one page");
    found["items"].as_array().unwrap().iter().filter(|item| item["names"][0] == name).count()
}

#[tokio::test]
async fn the_same_key_and_body_get_the_same_resource_and_another_body_is_refused() {
    let quiet = quiet().await;
    let _writing = quiet.writing.read().await;
    let (http, by) = (quiet.http(), (quiet.owner(), "repeat"));
    let issuer = |name: &str| json!({ "name": name, "directory_url": "https://ca.example.test/dir" });
    for (path, body, other) in [
        (quiet.path("/certificates"), certificate("repeat.example.test"), certificate("other.example.test")),
        (quiet.path("/issuers"), issuer("repeat"), issuer("other")),
        ("/api/v1/projects".to_owned(), json!({ "name": "repeat" }), json!({ "name": "other" })),
    ] {
        let first = post(&http, &path, by, &body).await;
        assert_eq!(first.status, 201, "{first:?}");
        let again = post(&http, &path, by, &body).await;
        assert_eq!((again.status, again.id()), (201, first.id()), "{path}");
        assert_eq!(again.header("location"), first.header("location"));
        let refused = post(&http, &path, by, &other).await;
        assert!(refused.problem(422, "idempotency-mismatch").contains("new key"), "{path}");
    }
    assert_eq!(count(quiet, "repeat.example.test").await, 1);
    assert_eq!(count(quiet, "other.example.test").await, 0);
}

/// A change that is repeated late must not undo what somebody else has changed since.
#[tokio::test]
async fn a_change_that_is_repeated_is_made_once_whoever_changed_it_since() {
    let quiet = quiet().await;
    let _writing = quiet.writing.read().await;
    let (http, owner) = (quiet.http(), quiet.owner());
    let made = |path: &str, body: Value| {
        let path = path.to_owned();
        async move { post(&quiet.http(), &path, (quiet.owner(), "to-change"), &body).await.id() }
    };
    let certificate = made(&quiet.path("/certificates"), certificate("changed-twice.example.test")).await;
    let issuer = json!({ "name": "changed-twice", "directory_url": "https://ca.example.test/dir" });
    let issuer = made(&quiet.path("/issuers"), issuer).await;
    let project = made("/api/v1/projects", json!({ "name": "changed-twice" })).await;
    let contact = |name: &str| json!({ "contact": [format!("mailto:{name}@example.com")] });
    for (path, one, other, field) in [
        (
            quiet.path(&format!("/certificates/{certificate}")),
            json!({ "auto_renew": false }),
            json!({ "auto_renew": true }),
            "/auto_renew",
        ),
        (quiet.path(&format!("/issuers/{issuer}")), contact("one"), contact("other"), "/contact/0"),
        (
            format!("/api/v1/projects/{project}"),
            json!({ "drift": { "port": 8443 } }),
            json!({ "drift": { "port": 9443 } }),
            "/drift/port",
        ),
    ] {
        let patch = async |key: &str, body: &Value| {
            http.call("PATCH", &path).token(owner).header("idempotency-key", key).json(body).send().await
        };
        let shown = |answer: &Answer| answer.json().pointer(field).unwrap().clone();
        let first = patch("one", &one).await;
        assert_eq!(first.status, 200, "{first:?}");
        let changed = patch("other", &other).await;
        assert_ne!(shown(&changed), shown(&first), "{path}");
        let repeated = patch("one", &one).await;
        assert_eq!((repeated.status, shown(&repeated)), (200, shown(&changed)), "{path}");
        patch("one", &other).await.problem(422, "idempotency-mismatch");
    }
}

#[tokio::test]
async fn what_was_made_and_is_deleted_is_not_made_again_and_whoever_repeats_it_is_told_so() {
    let quiet = quiet().await;
    let _writing = quiet.writing.read().await;
    let (http, by) = (quiet.http(), (quiet.owner(), "deleted"));
    let issuer = json!({ "name": "deleted", "directory_url": "https://ca.example.test/dir" });
    for (path, body) in
        [(quiet.path("/certificates"), certificate("deleted.example.test")), (quiet.path("/issuers"), issuer)]
    {
        let first = post(&http, &path, by, &body).await;
        let gone = http.call("DELETE", first.header("location")).token(quiet.owner()).send().await;
        assert_eq!(gone.status, 204, "{gone:?}");
        let told = post(&http, &path, by, &body).await.problem(409, "already-answered");
        assert!(told.contains(&first.id()) && told.contains("deleted since"), "{told}");
        assert_eq!(post(&http, &path, (quiet.owner(), "deleted-2"), &body).await.status, 201);
    }
}

#[tokio::test]
async fn the_key_of_another_caller_and_no_key_at_all_are_independent() {
    let quiet = quiet().await;
    let _writing = quiet.writing.read().await;
    let (http, path, body) = (quiet.http(), quiet.path("/certificates"), certificate("callers.example.test"));
    let other = quiet.token("operator", Some(&quiet.project)).await;
    let mut ids = BTreeSet::new();
    for by in [(quiet.owner(), "one"), (quiet.owner(), "two"), (other["token"].as_str().unwrap(), "one")] {
        ids.insert(post(&http, &path, by, &body).await.id());
    }
    for _ in 0..2 {
        ids.insert(http.post(&path, quiet.owner(), &body).await.id());
    }
    assert_eq!(ids.len(), 5, "{ids:?}");
    assert_eq!(count(quiet, "callers.example.test").await, 5);
}

/// Requests may be remembered for longer than the jobs are kept that they were about.
#[tokio::test]
async fn a_retry_that_was_carried_out_is_not_told_that_there_is_no_such_job() {
    let quiet = quiet().await;
    let _writing = quiet.writing.read().await;
    let http = quiet.http();
    let made =
        http.post(&quiet.path("/certificates"), quiet.owner(), &certificate("kept.example.test")).await;
    let jobs = http.get(&quiet.path(&format!("/jobs?subject={}", made.id())), quiet.owner()).await.json();
    let job = jobs["items"][0]["id"].as_str().unwrap().to_owned();
    for verb in ["retry", "cancel"] {
        let path = quiet.path(&format!("/jobs/{job}/{verb}"));
        let ask = || http.call("POST", &path).token(quiet.owner()).header("idempotency-key", verb).send();
        assert!(ask().await.status < 300, "{verb}");
    }
    raw(quiet).await.collection::<Document>("jobs").delete_one(doc! { "_id": &job }).await.unwrap();
    for verb in ["retry", "cancel"] {
        let path = quiet.path(&format!("/jobs/{job}/{verb}"));
        let again = http.call("POST", &path).token(quiet.owner()).header("idempotency-key", verb).send();
        assert!(again.await.problem(409, "already-answered").contains(&job), "{verb}");
    }
    http.post(&quiet.path(&format!("/jobs/{job}/retry")), quiet.owner(), &json!({}))
        .await
        .problem(404, "not-found");
}

#[tokio::test]
async fn a_token_is_shown_once_and_its_request_repeated_is_a_conflict() {
    let quiet = quiet().await;
    let _writing = quiet.writing.read().await;
    let (http, by) = (quiet.http(), (quiet.owner(), "token"));
    let body = json!({ "name": "once", "role": "viewer", "expires_in": "1h" });
    let made = post(&http, "/api/v1/tokens", by, &body).await;
    let again = post(&http, "/api/v1/tokens", by, &body).await;
    assert!(again.problem(409, "already-answered").contains(&made.id()));
    assert!(!again.text.contains(made.json()["token"].as_str().unwrap()));
    let other = json!({ "name": "other", "role": "viewer", "expires_in": "1h" });
    post(&http, "/api/v1/tokens", by, &other).await.problem(422, "idempotency-mismatch");
}

#[tokio::test]
async fn a_repeated_renewal_answers_the_job_of_the_first() {
    let quiet = quiet().await;
    let _writing = quiet.writing.read().await;
    let made = quiet.certificate("renewal.example.test").await;
    let path = quiet.path(&format!("/certificates/{}/renew", made["id"].as_str().unwrap()));
    let (http, by) = (quiet.http(), (quiet.owner(), "renewal"));
    // The first issuance is still queued: a renewal brings it forward and queues nothing else.
    let first = post(&http, &path, by, &json!({})).await;
    let again = post(&http, &path, by, &json!({})).await;
    assert_eq!((first.status, again.status), (202, 202), "{again:?}");
    assert_eq!(first.id(), again.id());
    let jobs = quiet.path(&format!("/jobs?subject={}", made["id"].as_str().unwrap()));
    let jobs = http.get(&jobs, quiet.owner()).await.json();
    assert_eq!(jobs["items"].as_array().unwrap().len(), 1, "{jobs}");
    assert_eq!(http.get(first.header("location"), quiet.owner()).await.id(), first.id());
}

#[tokio::test]
async fn twenty_requests_at_once_with_one_key_make_one_certificate() {
    let quiet = quiet().await;
    let _writing = quiet.writing.read().await;
    let (path, body) = (quiet.path("/certificates"), certificate("atonce.example.test"));
    let calls = (0..AT_ONCE).map(|_| {
        let (http, path, body, owner) = (quiet.http(), path.clone(), body.clone(), quiet.owner());
        tokio::spawn(async move { post(&http, &path, (owner, "atonce"), &body).await })
    });
    let calls: Vec<_> = calls.collect();
    let mut ids = BTreeSet::new();
    for call in calls {
        let answer = call.await.unwrap();
        assert_eq!(answer.status, 201, "{answer:?}");
        ids.insert(answer.id());
    }
    assert_eq!(ids.len(), 1, "{ids:?}");
    assert_eq!(count(quiet, "atonce.example.test").await, 1);
}
