// SPDX-License-Identifier: Apache-2.0
//! A project cannot make the queue grow without end.

use std::time::Duration;

use cap_testkit::wait::{Pending, until};
use serde_json::json;

use super::{api, retry_after, shed};
use crate::world::quiet;

#[tokio::test]
async fn a_project_with_enough_that_waits_gets_no_more_until_some_is_gone_and_another_project_does() {
    let quiet = quiet().await;
    let _writing = quiet.writing.read().await;
    let (service, http) = api(quiet, "api-waiting", &[("CAP_API_WAITING_PER_PROJECT", "3")]).await;
    let (owner, ca) = (quiet.owner(), quiet.stack.ca().directory_url().to_owned());
    let mut paths = Vec::new();
    for name in ["patient", "other"] {
        let project = http.post("/api/v1/projects", owner, &json!({ "name": name })).await.id();
        let issuer = json!({ "name": "ca", "directory_url": ca });
        http.post(&format!("/api/v1/projects/{project}/issuers"), owner, &issuer).await;
        paths.push(format!("/api/v1/projects/{project}/certificates"));
    }
    let ask = async |path: &str, name: &str| -> crate::http::Answer {
        let body = json!({ "names": [format!("{name}.example.test")], "issuer": "ca" });
        http.call("POST", path).token(owner).header("idempotency-key", name).json(&body).send().await
    };
    let mut made = Vec::new();
    for name in ["w1", "w2", "w3"] {
        made.push(ask(&paths[0], name).await.id());
    }
    let refused = ask(&paths[0], "w4").await;
    assert!(refused.problem(429, "too-much-waiting").contains("3 certificates"), "{refused:?}");
    retry_after(&refused);
    assert_eq!(ask(&paths[0], "w3").await.id(), made[2], "what was done is answered again");
    assert_eq!(ask(&paths[1], "w4").await.status, 201);
    assert!(shed(&service, "waiting").await >= 1.0);
    let gone = http.call("DELETE", &format!("{}/{}", paths[0], made[0])).token(owner).send().await;
    assert_eq!(gone.status, 204, "{gone:?}");
    let taken = async |name: &str| {
        until("one more to be taken", Duration::from_secs(20), || async {
            let answer = ask(&paths[0], name).await;
            if answer.status == 201 { Ok(answer.id()) } else { Err(Pending::not_yet(answer.status)) }
        })
        .await
        .unwrap()
    };
    made[0] = taken("w4").await;

    // What was cancelled stays, and waits for nothing.
    ask(&paths[0], "w5").await.problem(429, "too-much-waiting");
    let jobs = paths[0].replace("/certificates", "/jobs");
    for certificate in &made {
        let listed = http.get(&format!("{jobs}?subject={certificate}"), owner).await.json();
        let job = listed["items"][0]["id"].as_str().unwrap();
        let cancelled = http.call("POST", &format!("{jobs}/{job}/cancel")).token(owner).send().await;
        assert_eq!(cancelled.json()["state"], "cancelled", "{cancelled:?}");
    }
    taken("w5").await;
    let listed = http.get(&format!("{}?status=requested", paths[0]), owner).await.json();
    assert_eq!(listed["items"].as_array().unwrap().len(), 4, "{listed}");
}
