// SPDX-License-Identifier: Apache-2.0
//! An issuer's settings can be mended, and what was waiting for it goes on.

use std::time::Duration;

use cap_testkit::mongo::driver::bson::doc;
use cap_testkit::wait::{self, Pending};
use serde_json::{Value, json};

use crate::http::Http;
use crate::jobs::set;
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

    // Whether the CA can be reached by other roots is found out at once: these are wrong ones.
    let changed = patch(&path, &json!({ "trust_roots_pem": stranger() })).await.json();
    assert_eq!((&changed["status"], &changed["account_url"]), (&json!("registering"), &ready["account_url"]));
    let failing = settled(&http, owner, &path, "failing").await;
    assert!(failing["problem"]["detail"].as_str().unwrap().contains("set trust_roots_pem"), "{failing}");
    let body = json!({ "names": ["mended.example.test"], "issuer": "mended" });
    let certificate = http.post(&format!("{base}/certificates"), owner, &body).await.id();
    let place = format!("{base}/certificates/{certificate}");
    let failing = settled(&http, owner, &place, "failing").await;
    assert!(failing["problem"]["detail"].as_str().unwrap().contains("set trust_roots_pem"), "{failing}");
    patch(&path, &json!({ "trust_roots_pem": right })).await;
    assert_eq!(settled(&http, owner, &path, "ready").await["account_url"], ready["account_url"]);
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

/// 33 octets, as a CA hands them out.
const HMAC_KEY: &str = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG4";

#[tokio::test]
async fn an_external_account_is_taken_whole_or_not_at_all_and_its_key_is_never_answered() {
    let quiet = quiet().await;
    let _writing = quiet.writing.read().await;
    let (http, owner) = (quiet.http(), quiet.owner());
    let issuer = |name: &str, eab: Value| {
        let mut body = json!({ "name": name, "directory_url": "https://ca.example.test/dir" });
        body.as_object_mut().unwrap().extend(eab.as_object().unwrap().clone());
        body
    };
    for (wrong, says) in [
        (json!({ "eab_kid": "kid-1" }), "belong together"),
        (json!({ "eab_hmac_key": HMAC_KEY }), "belong together"),
        (json!({ "eab_kid": "two words", "eab_hmac_key": HMAC_KEY }), "one word"),
        (json!({ "eab_kid": "kid-1", "eab_hmac_key": "c2hvcnQ" }), "5 octets"),
        (json!({ "eab_kid": "kid-1", "eab_hmac_key": format!("{HMAC_KEY}+/") }), "base64url"),
    ] {
        let refused = http.post(&quiet.path("/issuers"), owner, &issuer("unbound", wrong)).await;
        let refused = refused.problem(422, "invalid");
        assert!(refused.contains(says) && !refused.contains(HMAC_KEY), "{refused}");
    }
    let padded = format!("{HMAC_KEY}=");
    let body = issuer("bound", json!({ "eab_kid": "kid-1", "eab_hmac_key": padded }));
    let made = http.post(&quiet.path("/issuers"), owner, &body).await;
    assert_eq!((made.status, &made.json()["eab_kid"]), (201, &json!("kid-1")));
    let path = made.header("location").to_owned();
    let patch = |body: Value| {
        let (http, path) = (&http, &path);
        async move { http.call("PATCH", path).token(owner).json(&body).send().await }
    };
    // It is not registered yet, so the binding may still be mended.
    for (change, kid) in [
        (json!({ "eab_kid": "kid-2", "eab_hmac_key": HMAC_KEY }), json!("kid-2")),
        (json!({ "eab_kid": null }), json!(null)),
        (json!({ "eab_kid": "kid-3", "eab_hmac_key": HMAC_KEY }), json!("kid-3")),
        (json!({ "eab_kid": null, "eab_hmac_key": null }), json!(null)),
    ] {
        let changed = patch(change.clone()).await;
        assert_eq!((changed.status, &changed.json()["eab_kid"]), (200, &kid), "{change}");
        assert!(!changed.text.contains(HMAC_KEY), "{change}");
    }
    patch(json!({ "eab_kid": "kid-4" })).await.problem(422, "invalid");
    patch(json!({ "eab_kid": "kid-4", "eab_hmac_key": null })).await.problem(422, "invalid");
    // An account that the CA forgot is registered anew, and bound anew; one that it knows is bound already.
    let url = "https://ca.example.test/account/1";
    let lost = doc! { "account_url": null, "hold": { "why": "refused", "account_url": url } };
    let kept = doc! { "account_url": url, "hold": null };
    for (account, status) in [(lost, 200), (kept, 409)] {
        set(quiet, "issuers", &made.id(), doc! { "$set": account }).await;
        let changed = patch(json!({ "eab_kid": "kid-5", "eab_hmac_key": HMAC_KEY })).await;
        assert_eq!(changed.status, status, "{}", changed.text);
    }
    for path in [path.clone(), quiet.path("/issuers")] {
        let shown = http.get(&path, owner).await;
        assert!(!shown.text.contains(HMAC_KEY) && !shown.text.contains("hmac"), "{path}");
    }
}

#[tokio::test]
async fn only_a_ready_account_takes_another_key_and_a_closed_one_takes_nothing() {
    let quiet = quiet().await;
    let _writing = quiet.writing.read().await;
    let (http, owner) = (quiet.http(), quiet.owner());
    let body = json!({ "name": "closing", "directory_url": "https://ca.example.test/dir" });
    let made = http.post(&quiet.path("/issuers"), owner, &body).await;
    let path = made.header("location").to_owned();
    let roll = format!("{path}/roll-key");
    let refused = http.post(&roll, owner, &json!({})).await.problem(409, "conflict");
    assert!(refused.contains("roll it when it is ready"), "{refused}");
    http.post(&roll, owner, &json!({ "key": "mine" })).await.problem(400, "malformed-request");

    let close = format!("{path}/deactivate");
    http.post(&close, owner, &json!({ "now": true })).await.problem(400, "malformed-request");
    let certificate = json!({ "names": ["closing.example.test"], "issuer": "closing" });
    let user = http.post(&quiet.path("/certificates"), owner, &certificate).await.id();
    let refused = http.post(&close, owner, &json!({})).await.problem(409, "conflict");
    assert!(refused.contains(&user) && refused.contains("even_if_used"), "{refused}");
    assert_eq!(http.get(&path, owner).await.json()["status"], "registering", "a refusal changes nothing");
    for _ in 0..2 {
        let closing = http.post(&close, owner, &json!({ "even_if_used": true })).await;
        assert_eq!((closing.status, &closing.json()["status"]), (202, &json!("deactivating")));
    }
    // One job at a time works on an account.
    let jobs = http.get(&quiet.path(&format!("/jobs?subject={}", made.id())), owner).await.json();
    let states = jobs["items"].as_array().unwrap().iter().map(|job| job["state"].clone());
    assert_eq!(states.collect::<Vec<_>>(), ["cancelled", "queued"], "{jobs}");
    let contact = json!({ "contact": ["mailto:late@example.test"] });
    let late = http.call("PATCH", &path).token(owner).json(&contact).send().await;
    assert!(late.problem(409, "conflict").contains("make another issuer"));
    http.post(&roll, owner, &json!({})).await.problem(409, "conflict");

    for why in ["deactivating", "deactivated"] {
        set(quiet, "issuers", &made.id(), doc! { "$set": { "hold.why": why } }).await;
        let refused = http.post(&quiet.path("/certificates"), owner, &certificate).await;
        let refused = refused.problem(409, "conflict");
        assert!(refused.contains("closing") && refused.contains("another issuer"), "{why}: {refused}");
    }
}

#[tokio::test]
async fn an_issuer_is_not_deleted_while_its_account_is_changed_unless_something_is_in_the_way() {
    let quiet = quiet().await;
    let _writing = quiet.writing.read().await;
    let (http, owner) = (quiet.http(), quiet.owner());
    for (name, verb, says) in
        [("rolled", "roll-key", "another key"), ("closed", "deactivate", "being deactivated")]
    {
        let body = json!({ "name": name, "directory_url": "https://ca.example.test/dir" });
        let made = http.post(&quiet.path("/issuers"), owner, &body).await;
        let path = made.header("location").to_owned();
        let ready = doc! { "$set": { "status": "ready", "account_url": "https://ca.example.test/acct/1" } };
        set(quiet, "issuers", &made.id(), ready).await;
        assert_eq!(http.post(&format!("{path}/{verb}"), owner, &json!({})).await.status, 202, "{verb}");
        let delete = async || http.call("DELETE", &path).token(owner).send().await;
        let refused = delete().await.problem(409, "conflict");
        assert!(refused.contains(says) && refused.contains("a problem"), "{verb}: {refused}");
        assert_eq!(http.get(&path, owner).await.status, 200, "{verb}: a refusal deletes nothing");
        set(quiet, "issuers", &made.id(), doc! { "$set": { "status": "failing" } }).await;
        assert_eq!(delete().await.status, 204, "{verb}");
    }
}

#[tokio::test]
async fn a_key_that_was_being_rolled_when_it_was_asked_for_is_not_rolled_again_when_that_is_repeated() {
    let quiet = quiet().await;
    let _writing = quiet.writing.read().await;
    let (http, owner) = (quiet.http(), quiet.owner());
    let body = json!({ "name": "joined", "directory_url": "https://ca.example.test/dir" });
    let made = http.post(&quiet.path("/issuers"), owner, &body).await;
    let (id, path) = (made.id(), made.header("location").to_owned());
    let ready = doc! { "$set": { "status": "ready", "account_url": "https://ca.example.test/acct/1" } };
    set(quiet, "issuers", &id, ready).await;
    let roll = async |key: &str| {
        let call = http.call("POST", &format!("{path}/roll-key")).token(owner);
        let answer = call.header("idempotency-key", key).send().await;
        assert_eq!(answer.status, 202, "{key}: {answer:?}");
        answer.json()["key_rollover"]["requested_at"].clone()
    };
    let first = roll("first").await;
    assert!(first.is_string());
    assert_eq!(roll("second").await, first, "the one that goes on");
    set(quiet, "issuers", &id, doc! { "$set": { "rollover": null } }).await;
    for key in ["first", "second"] {
        assert_eq!(roll(key).await, Value::Null, "{key}: the key was rolled a second time");
    }
    assert!(roll("third").await.is_string());
}
