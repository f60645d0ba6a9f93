// SPDX-License-Identifier: Apache-2.0
//! Drift by REST: off until an admin turns it on, asked for once however often it is asked for, and audited.

use cap_testkit::mongo::driver::Client;
use cap_testkit::mongo::driver::bson::{Document, doc};
use cap_testkit::wait::{self, Pending};
use serde_json::{Value, json};
use std::time::Duration;

use crate::http::Http;
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
