// SPDX-License-Identifier: Apache-2.0
//! A CA is asked for renewal information at once where it offers any, and a refusal says why it is not.

use cap_testkit::mongo::driver::bson::{DateTime, doc};

use serde_json::json;

use crate::http::Answer;
use crate::jobs::{audited, set};
use crate::world::{Quiet, quiet};

async fn ask(quiet: &Quiet, certificate: &str, key: &str) -> Answer {
    let path = quiet.path(&format!("/certificates/{certificate}/renewal-info"));
    quiet.http().call("POST", &path).token(quiet.owner()).header("idempotency-key", key).send().await
}

#[tokio::test]
async fn a_look_is_due_at_once_where_there_is_something_to_ask_and_refused_with_the_reason_elsewhere() {
    let quiet = quiet().await;
    let _writing = quiet.writing.read().await;
    let (http, owner) = (quiet.http(), quiet.owner());
    let issuer = json!({ "name": "look-ca", "directory_url": "https://ca.example.test/dir" });
    let issuer = http.post(&quiet.path("/issuers"), owner, &issuer).await.id();
    let body = json!({ "names": ["look.example.test"], "issuer": "look-ca" });
    let id = http.post(&quiet.path("/certificates"), owner, &body).await.id();
    let without = ask(quiet, &id, "without").await;
    assert!(without.problem(409, "conflict").contains("no version yet"), "{without:?}");

    let far = DateTime::from_millis(4_000_000_000_000);
    let version = doc! {
        "id": "ver_0192f0c1a3d27b4e8f6a5c4d3e2f1a0b", "number": 1_i64, "serial": "01", "fingerprint_sha256": "ab",
        "not_before": DateTime::from_millis(1_790_000_000_000), "not_after": far, "issued_at": DateTime::from_millis(1_790_000_000_000),
    };
    set(quiet, "certificates", &id, doc! { "$set": { "version": version, "status": "valid" } }).await;
    let without = ask(quiet, &id, "without-account").await;
    assert!(without.problem(409, "conflict").contains("issuer look-ca cannot be used now"), "{without:?}");

    let account = doc! { "$set": { "account_url": "https://ca.example.test/account/1" } };
    set(quiet, "issuers", &issuer, account).await;
    let by_life = ask(quiet, &id, "by-life").await;
    assert!(by_life.problem(409, "conflict").contains("offers no renewal information"), "{by_life:?}");

    set(quiet, "certificates", &id, doc! { "$set": { "ari_at": far } }).await;
    let asked = ask(quiet, &id, "now").await;
    let next = asked.json()["renewal_info"]["next_look_at"].as_str().unwrap().to_owned();
    assert!(asked.status == 200 && next.as_str() < "2090", "{asked:?}");
    set(quiet, "certificates", &id, doc! { "$set": { "ari_at": far } }).await;
    let again = ask(quiet, &id, "now").await;
    assert!(
        again.json()["renewal_info"]["next_look_at"].as_str().unwrap() > "2090",
        "a repeated request: {again:?}"
    );
    let leaves = audited(quiet, &id).await;
    let asked = leaves.iter().filter(|leaf| leaf["action"] == "certificate.renewal_info_requested");
    assert_eq!(asked.count(), 1, "{leaves:?}");
}
