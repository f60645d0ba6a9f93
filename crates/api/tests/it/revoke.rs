// SPDX-License-Identifier: Apache-2.0
//! What is said to who asks for a revocation that cannot be, and for keys and chains.

use serde_json::{Value, json};

use crate::world::quiet;

#[tokio::test]
async fn a_revocation_that_makes_no_sense_is_refused_with_what_to_do() {
    let quiet = quiet().await;
    let _writing = quiet.writing.read().await;
    let (http, owner) = (quiet.http(), quiet.owner());
    let made = quiet.certificate("revoke.example.test").await;
    let place = quiet.path(&format!("/certificates/{}/revoke", made["id"].as_str().unwrap()));
    let ask = async |body: &Value| http.post(&place, owner, body).await;
    for wrong in ["caCompromise", "certificateHold", "keycompromise", "", "1"] {
        let told = ask(&json!({ "reason": wrong })).await.problem(422, "invalid");
        assert!(told.contains("cessationOfOperation") && told.contains("RFC 5280"), "{told}");
    }
    ask(&json!({})).await.problem(400, "malformed-request");
    ask(&json!({ "reason": "superseded", "force": true })).await.problem(400, "malformed-request");
    let told = ask(&json!({ "reason": "superseded" })).await.problem(409, "conflict");
    assert!(told.contains("nothing was issued"), "{told}");
    ask(&json!({ "reason": "superseded", "version": "1" })).await.problem(422, "invalid");
    let missing = format!("ver_{}", "0".repeat(32));
    ask(&json!({ "reason": "superseded", "version": missing })).await.problem(404, "not-found");
}

#[tokio::test]
async fn key_profile_and_chain_are_asked_for_and_changed_and_nonsense_changes_nothing() {
    let quiet = quiet().await;
    let _writing = quiet.writing.read().await;
    let (http, owner) = (quiet.http(), quiet.owner());
    let body = json!({
        "names": ["settings.example.test"], "issuer": "ca", "key": { "type": "rsa-4096", "reuse": true },
        "profile": "shortlived", "preferred_chain": "Some Root X1",
    });
    let made = http.post(&quiet.path("/certificates"), owner, &body).await;
    let place = made.header("location").to_owned();
    let first = made.json();
    assert_eq!(first["key"], json!({ "type": "rsa-4096", "reuse": true }));
    assert_eq!(
        (&first["profile"], &first["preferred_chain"]),
        (&json!("shortlived"), &json!("Some Root X1"))
    );

    let change = async |body: Value| http.call("PATCH", &place).token(owner).json(&body).send().await;
    for wrong in [
        json!({ "preferred_chain": "" }),
        json!({ "preferred_chain": "a\nb" }),
        json!({ "profile": "a b" }),
        json!({ "profile": "a b", "key": { "reuse": false } }),
    ] {
        change(wrong).await.problem(422, "invalid");
    }
    for wrong in
        [json!({ "key": { "type": "rsa-1024" } }), json!({ "key": { "size": 1 } }), json!({ "key": "rsa" })]
    {
        change(wrong).await.problem(400, "malformed-request");
    }
    assert_eq!(http.get(&place, owner).await.json()["key"], first["key"], "nothing of a bad change is kept");

    let changed = change(json!({ "key": { "type": "ecdsa-p384" }, "profile": null })).await.json();
    assert_eq!(changed["key"], json!({ "type": "ecdsa-p384", "reuse": true }), "what is absent stays");
    assert_eq!((&changed["profile"], &changed["preferred_chain"]), (&Value::Null, &json!("Some Root X1")));
    let changed = change(json!({ "key": { "reuse": false }, "preferred_chain": null })).await.json();
    assert_eq!(changed["key"], json!({ "type": "ecdsa-p384", "reuse": false }));
    assert_eq!(changed["preferred_chain"], Value::Null);
}
