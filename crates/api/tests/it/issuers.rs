// SPDX-License-Identifier: Apache-2.0
//! An issuer's settings can be mended, and what was waiting for it goes on.

use std::time::Duration;

use cap_testkit::wait::{self, Pending};
use serde_json::{Value, json};

use crate::http::Http;
use crate::world::{quiet, whole};

/// Registering takes a moment; on a busy machine a longer one.
const SETTLED: Duration = Duration::from_secs(60);

/// A root that signed nothing of the CA's.
fn stranger() -> String {
    rcgen::generate_simple_self_signed(["stranger.example.test".to_owned()]).unwrap().cert.pem()
}

async fn settled(http: &Http, token: &str, path: &str, status: &str) -> Value {
    let what = format!("{path} to be {status}");
    let looked = wait::until(&what, SETTLED, || async {
        let found = http.get(path, token).await.json();
        if found["status"] == status { Ok(found) } else { Err(Pending::not_yet(found)) }
    });
    looked.await.unwrap()
}

#[tokio::test]
async fn an_issuer_with_wrong_roots_is_mended_and_a_ready_one_keeps_its_account() {
    let whole = whole().await;
    let (http, owner) = (Http::new(whole.stack.api_url(0).unwrap()), whole.stack.token());
    let base = format!("/api/v1/projects/{}", whole.demo.project);
    let patch = |path: &str, body: &Value| http.call("PATCH", path).token(owner).json(body).send();
    let right = std::fs::read_to_string(whole.stack.ca().ca_file()).unwrap();
    let body = json!({
        "name": "mended", "directory_url": whole.stack.ca().directory_url(), "trust_roots_pem": stranger(),
    });
    let made = http.post(&format!("{base}/issuers"), owner, &body).await;
    let path = format!("{base}/issuers/{}", made.id());
    let failing = settled(&http, owner, &path, "failing").await;
    assert!(failing["problem"]["detail"].as_str().unwrap().contains("set trust_roots_pem"), "{failing}");

    let mended = patch(&path, &json!({ "trust_roots_pem": right })).await;
    let shown = mended.json();
    assert_eq!(
        (mended.status, &shown["status"], &shown["problem"]),
        (200, &json!("registering"), &json!(null))
    );
    let ready = settled(&http, owner, &path, "ready").await;
    let jobs = http.get(&format!("{base}/jobs?subject={}", made.id()), owner).await.json();
    let states = jobs["items"].as_array().unwrap().iter().map(|job| job["state"].clone());
    assert_eq!(states.collect::<Vec<_>>(), ["cancelled", "succeeded"], "{jobs}");

    // The CA has to know a contact; the account stays the same one.
    for contact in [json!(["mailto:new@example.test"]), json!(null)] {
        let changed = patch(&path, &json!({ "contact": contact })).await.json();
        let wanted = if contact.is_null() { json!([]) } else { contact };
        assert_eq!((&changed["contact"], &changed["status"]), (&wanted, &json!("registering")));
        let again = settled(&http, owner, &path, "ready").await;
        assert_eq!(again["account_url"], ready["account_url"]);
    }

    // Roots are only ours to know. The next job uses them: these are wrong ones.
    let changed = patch(&path, &json!({ "trust_roots_pem": stranger() })).await.json();
    assert_eq!((&changed["status"], &changed["account_url"]), (&json!("ready"), &ready["account_url"]));
    let body = json!({ "names": ["mended.example.test"], "issuer": "mended" });
    let certificate = http.post(&format!("{base}/certificates"), owner, &body).await.id();
    let place = format!("{base}/certificates/{certificate}");
    let failing = settled(&http, owner, &place, "failing").await;
    assert!(failing["problem"]["detail"].as_str().unwrap().contains("set trust_roots_pem"), "{failing}");
    assert_eq!(patch(&path, &json!({ "trust_roots_pem": right })).await.json()["status"], "ready");
    assert_eq!(http.call("DELETE", &place).token(owner).send().await.status, 204);
}

#[tokio::test]
async fn what_is_absent_stays_null_clears_and_nobody_overwrites_what_they_have_not_seen() {
    let quiet = quiet().await;
    let _writing = quiet.writing.read().await;
    let (http, owner) = (quiet.http(), quiet.owner());
    let body = json!({
        "name": "changing", "directory_url": "https://ca.example.test/dir", "trust_roots_pem": stranger(),
        "contact": ["mailto:old@example.test"],
    });
    let made = http.post(&quiet.path("/issuers"), owner, &body).await;
    let (path, first) = (made.header("location").to_owned(), made.header("etag").to_owned());
    assert_eq!(http.get(&path, owner).await.header("etag"), first, "a read changes nothing");
    let patch = |tag: &str, body: Value| {
        http.call("PATCH", &path).token(owner).header("if-match", tag).json(&body).send()
    };
    let cleared = patch(&first, json!({ "trust_roots_pem": null })).await;
    assert_eq!(cleared.status, 200, "{cleared:?}");
    let (second, shown) = (cleared.header("etag").to_owned(), cleared.json());
    assert_eq!((&shown["trust_roots_pem"], &shown["contact"]), (&json!(null), &body["contact"]));
    patch(&first, json!({ "contact": null })).await.problem(412, "precondition-failed");
    for (wrong, says) in [
        (json!({ "trust_roots_pem": "-----BEGIN PRIVATE KEY-----\n" }), "private key"),
        (json!({ "contact": ["tel:+1"] }), "contact"),
        (json!({ "contact": vec!["mailto:a@example.test"; 100] }), "contacts"),
    ] {
        let refused = patch("*", wrong).await.problem(422, "invalid");
        assert!(refused.contains(says), "{refused}");
    }
    patch("*", json!({ "name": "other" })).await.problem(400, "malformed-request");
    assert_eq!(patch(&second, json!({ "contact": null })).await.json()["contact"], json!([]));
    let jobs = http.get(&quiet.path(&format!("/jobs?subject={}", made.id())), owner).await.json();
    let states = jobs["items"].as_array().unwrap().iter().map(|job| job["state"].clone());
    assert_eq!(states.collect::<Vec<_>>(), ["cancelled", "cancelled", "queued"], "{jobs}");
}
