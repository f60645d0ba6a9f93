// SPDX-License-Identifier: Apache-2.0
//! A CA that issues only for accounts bound to one of its own (RFC 8555, 7.3.4).

use cap_testkit::stack::{ApiClient, Stack};
use cap_testkit::wait::{self, Pending};
use serde_json::{Value, json};

use crate::bench::{self, PATIENCE};

const KID: &str = "kid-1";
const KEY: &str = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG4";
const OTHER_KEY: &str = "aWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG4";

/// Waits until what is at `path` has this status, and nothing has still to happen to it.
async fn settled(api: &ApiClient, path: &str, status: &str) -> Value {
    wait::until(&format!("{path} to be {status}"), PATIENCE, || async {
        let seen = api.get(path).await.map_err(Pending::not_yet)?;
        if seen["status"] == status { Ok(seen) } else { Err(Pending::not_yet(seen)) }
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn an_issuer_is_bound_and_issues_and_one_without_or_with_a_wrong_key_says_what_to_set() {
    let _room = bench::room().await;
    let mut options = bench::workers(1);
    options.pebble.external_accounts = [(KID.to_owned(), KEY.to_owned())].into();
    let stack = Stack::start(options).await.unwrap();
    let api = stack.client(0).unwrap();
    let project = api.post("/api/v1/projects", &json!({ "name": "bound" })).await.unwrap();
    let base = format!("/api/v1/projects/{}", project["id"].as_str().unwrap());
    let roots = std::fs::read_to_string(stack.ca().ca_file()).unwrap();
    let make = async |name: &str, eab: Value| {
        let mut body =
            json!({ "name": name, "directory_url": stack.ca().directory_url(), "trust_roots_pem": roots });
        body.as_object_mut().unwrap().extend(eab.as_object().unwrap().clone());
        let made = api.post(&format!("{base}/issuers"), &body).await.unwrap();
        format!("{base}/issuers/{}", made["id"].as_str().unwrap())
    };
    let bound = make("bound", json!({ "eab_kid": KID, "eab_hmac_key": KEY })).await;
    assert_eq!(settled(&api, &bound, "ready").await["eab_kid"], KID);
    let set = json!({ "eab_kid": KID, "eab_hmac_key": OTHER_KEY });
    let late = api.call("PATCH", &bound, Some(&set), None).await.unwrap();
    assert_eq!(late.status, 409, "a binding is made when an account is registered: {}", late.text);

    let mut mended = Vec::new();
    for (name, eab, kind, says) in [
        (
            "without",
            json!({}),
            "externalAccountRequired",
            "set eab_kid and eab_hmac_key to what it handed out",
        ),
        (
            "wrong",
            json!({ "eab_kid": KID, "eab_hmac_key": OTHER_KEY }),
            "unauthorized",
            "set eab_kid and eab_hmac_key anew",
        ),
    ] {
        let path = make(name, eab).await;
        let failing = settled(&api, &path, "failing").await;
        let problem = &failing["problem"];
        assert_eq!(problem["class"], "configuration", "{problem}");
        assert!(problem["type"].as_str().unwrap().ends_with(kind), "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(says), "{problem}");
        assert!(failing["next_attempt_at"].is_string() && failing["account_url"].is_null(), "{failing}");
        mended.push((name, path));
    }
    for (name, path) in mended {
        api.patch(&path, &json!({ "eab_kid": KID, "eab_hmac_key": KEY })).await.unwrap();
        settled(&api, &path, "ready").await;
        let profile = stack.ca().flavor().profiles.first();
        let body = json!({ "names": [format!("{name}.example.test")], "issuer": name, "profile": profile });
        let made = api.post(&format!("{base}/certificates"), &body).await.unwrap();
        settled(&api, &format!("{base}/certificates/{}", made["id"].as_str().unwrap()), "valid").await;
    }
}
