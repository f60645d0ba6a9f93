// SPDX-License-Identifier: Apache-2.0
//! Drift by REST: off until an admin turns it on, asked for once however often it is asked for, and audited.

use cap_testkit::mongo::driver::Client;
use cap_testkit::mongo::driver::bson::{DateTime, Document, doc};
use cap_testkit::wait::{self, Pending};
use serde_json::{Value, json};
use std::time::Duration;

use crate::http::Http;
use crate::jobs::raw;
use crate::world::{quiet, whole};

const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test]
async fn a_project_is_off_until_it_is_changed_and_what_is_absent_stays() {
    let quiet = quiet().await;
    let _writing = quiet.writing.read().await;
    let (http, owner) = (quiet.http(), quiet.owner());
    let made = http.post("/api/v1/projects", owner, &json!({ "name": "drift-settings" })).await;
    let path = format!("/api/v1/projects/{}", made.id());
    let off = json!({ "enabled": false, "port": 443, "interval": "6h" });
    assert_eq!(made.json()["drift"], off);
    let patch = async |body: Value| http.call("PATCH", &path).token(owner).json(&body).send().await;
    for empty in [json!({}), json!({ "drift": {} }), json!({ "drift": null })] {
        assert_eq!(patch(empty).await.json()["drift"], off);
    }
    let on = json!({ "enabled": true, "port": 443, "interval": "6h" });
    assert_eq!(patch(json!({ "drift": { "enabled": true } })).await.json()["drift"], on);
    let slower = json!({ "enabled": true, "port": 8443, "interval": "30d" });
    let answer = patch(json!({ "drift": { "port": 8443, "interval": "720h" } })).await;
    assert_eq!(answer.json()["drift"], slower);
    assert_eq!(http.get(&path, owner).await.json()["drift"], slower);
    patch(json!({ "drift": { "enabled": false } })).await;
    assert_eq!(http.get(&path, owner).await.json()["drift"]["port"], 8443);
}

#[tokio::test]
async fn where_a_certificate_is_served_is_set_changed_and_cleared_under_its_etag() {
    let quiet = quiet().await;
    let _writing = quiet.writing.read().await;
    let (http, owner) = (quiet.http(), quiet.owner());
    let target = json!({ "host": "B\u{fc}cher.example.test", "port": 8443 });
    let body = json!({ "names": ["target.example.test"], "issuer": "ca", "drift": target });
    let made = http.post(&quiet.path("/certificates"), owner, &body).await;
    assert_eq!(made.status, 201, "{made:?}");
    let shown = |answer: &Value| (answer["drift"]["host"].clone(), answer["drift"]["port"].clone());
    assert_eq!(shown(&made.json()), (json!("xn--bcher-kva.example.test"), json!(8443)));
    let place = made.header("location").to_owned();
    let change = async |tag: &str, drift: Value| {
        let body = json!({ "drift": drift });
        http.call("PATCH", &place).token(owner).header("if-match", tag).json(&body).send().await
    };
    let moved = change(made.header("etag"), json!({ "host": "192.0.2.7" })).await;
    assert_eq!(shown(&moved.json()), (json!("192.0.2.7"), Value::Null));
    change(made.header("etag"), Value::Null).await.problem(412, "precondition-failed");
    let cleared = change(moved.header("etag"), Value::Null).await;
    assert_eq!((cleared.status, &cleared.json()["drift"]), (200, &Value::Null));

    let refused = http.call("POST", &format!("{place}/drift-scan")).token(owner).send().await;
    assert!(refused.problem(409, "conflict").contains("project update own --drift on"));
}

#[tokio::test]
async fn a_scan_is_asked_for_once_and_only_of_what_was_issued() {
    let world = whole().await;
    let http = Http::new(world.stack.api_url(0).unwrap());
    let (token, project) = (world.stack.token(), format!("/api/v1/projects/{}", world.demo.project));
    let api = world.stack.client(0).unwrap();
    let issued = world.demo.request(&api, &["scanned.example.test"]).await.unwrap();
    world.demo.wait_valid(&api, &issued).await.unwrap();
    api.patch(&project, &json!({ "drift": { "enabled": true } })).await.unwrap();

    // Nobody issues from here: its certificate has no version for as long as this test lasts.
    let nowhere = json!({ "name": "nowhere", "directory_url": "https://127.0.0.1:1/dir" });
    api.post(&format!("{project}/issuers"), &nowhere).await.unwrap();
    let body = json!({ "names": ["bare.example.test"], "issuer": "nowhere" });
    let bare = api.post(&format!("{project}/certificates"), &body).await.unwrap();
    let scan = |certificate: &str| format!("{project}/certificates/{certificate}/drift-scan");
    let refused = http.call("POST", &scan(bare["id"].as_str().unwrap())).token(token).send().await;
    assert!(refused.problem(409, "conflict").contains("no version yet"));

    let ask = async || {
        let call = http.call("POST", &scan(&issued)).token(token).header("idempotency-key", "scan");
        call.send().await
    };
    let first = ask().await;
    assert_eq!((first.status, &first.json()["kind"]), (202, &json!("drift-scan")), "{first:?}");
    assert_eq!(ask().await.id(), first.id());
    let place = first.header("location").to_owned();
    wait::until("the scan", PATIENCE, || async {
        let job = http.get(&place, token).await.json();
        if job["state"] == "succeeded" { Ok(()) } else { Err(Pending::not_yet(job)) }
    })
    .await
    .unwrap();
    assert_eq!(ask().await.id(), first.id(), "the same request, after its job is over");
    let certificate = api.get(&format!("{project}/certificates/{issued}")).await.unwrap();
    assert_eq!(certificate["drift"]["state"], "unreachable", "its name leads nowhere: {certificate}");
    assert!(certificate["drift"]["names"][0]["detail"].is_string(), "{certificate}");
    assert_eq!(certificate["status"], "valid");

    // Jobs may be kept for less long than requests are remembered.
    let database = Client::with_uri_str(world.stack.mongo_uri()).await.unwrap().default_database().unwrap();
    database.collection::<Document>("jobs").delete_one(doc! { "_id": first.id() }).await.unwrap();
    assert!(ask().await.problem(409, "already-answered").contains("another Idempotency-Key"));
    api.patch(&project, &json!({ "drift": { "enabled": false } })).await.unwrap();
}

/// What servers present is in their hands: what was seen at the names of a page of certificates may be many times what one caller
/// may have of answers.
#[tokio::test]
async fn a_page_of_what_was_scanned_is_answered_however_much_was_seen() {
    const CERTIFICATES: usize = 500;
    const NAMES: usize = 100;
    /// Octets of answers that one caller may have at once.
    const SHARE: usize = 16 * 1024 * 1024;
    let quiet = quiet().await;
    let _writing = quiet.writing.read().await;
    let (http, owner) = (quiet.http(), quiet.owner());
    let project = http.post("/api/v1/projects", owner, &json!({ "name": "much-seen" })).await.id();
    let base = format!("/api/v1/projects/{project}");
    let like = quiet.certificate("seen.example.test").await;
    let certificates = raw(quiet).await.collection::<Document>("certificates");
    let own = doc! { "_id": like["id"].as_str().unwrap() };
    let mut record = certificates.find_one(own).await.unwrap().unwrap();
    let names: Vec<Document> = (0..NAMES).map(drifted).collect();
    let seen = doc! { "version": format!("ver_{}", "0".repeat(32)), "scanned_at": DateTime::from_millis(1), "names": names };
    record
        .extend(doc! { "project": &project, "drift_on": true, "drift_state": "drifted", "drift_seen": seen });
    for some in (0..CERTIFICATES).collect::<Vec<_>>().chunks(100) {
        let some = some.iter().map(|n| {
            let mut record = record.clone();
            record.insert("_id", format!("crt_{n:032x}"));
            record
        });
        certificates.insert_many(some).await.unwrap();
    }
    let page = http.get(&format!("{base}/drift?limit={CERTIFICATES}"), owner).await;
    assert_eq!(page.status, 200, "{}", &page.text[..page.text.len().min(500)]);
    assert!(page.text.len() < SHARE, "{} octets", page.text.len());
    let items = page.json()["items"].as_array().unwrap().clone();
    assert_eq!(items.len(), CERTIFICATES);
    for item in &items {
        let [wrong] = item["drift"]["names"].as_array().unwrap().as_slice() else { panic!("{item}") };
        assert_eq!(wrong["name"], "n0.example.test");
    }
    let whole = http.get(&format!("{base}/certificates/crt_{:032x}", 0), owner).await.json();
    assert_eq!(whole["drift"]["names"].as_array().unwrap().len(), NAMES);
}

/// What a scan found at a name, as long as it may be.
fn drifted(n: usize) -> Document {
    doc! {
        "name": format!("n{n}.example.test"), "state": "drifted", "address": "192.0.2.7:443", "serial": "0a".repeat(150),
        "fingerprint_sha256": "f".repeat(64), "not_after": null, "issuer": "CN".repeat(150), "detail": null,
    }
}
