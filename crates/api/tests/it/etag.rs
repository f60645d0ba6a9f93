// SPDX-License-Identifier: Apache-2.0
//! Nobody overwrites a state of a certificate that they have not seen.

use serde_json::json;

use crate::world::quiet;

#[tokio::test]
async fn a_change_of_a_state_that_is_gone_is_refused_and_one_of_the_present_state_is_not() {
    let quiet = quiet().await;
    let _writing = quiet.writing.read().await;
    let (http, owner) = (quiet.http(), quiet.owner());
    let body = json!({ "names": ["etag.example.test"], "issuer": "ca" });
    let made = http.post(&quiet.path("/certificates"), owner, &body).await;
    let place = made.header("location").to_owned();
    let first = made.header("etag").to_owned();
    assert_eq!(http.get(&place, owner).await.header("etag"), first, "a read changes nothing");

    let change = |tag: &str, auto_renew: bool| {
        let body = json!({ "auto_renew": auto_renew });
        http.call("PATCH", &place).token(owner).header("if-match", tag).json(&body).send()
    };
    let changed = change(&first, false).await;
    assert_eq!((changed.status, &changed.json()["auto_renew"]), (200, &json!(false)));
    let second = changed.header("etag").to_owned();
    assert!(second.len() > 2 && second != first);

    for stale in [&first, "\"\"", "W/\"x\"", "x", &format!("W/{second}")] {
        let refused = change(stale, true).await;
        assert!(refused.problem(412, "precondition-failed").contains(&second), "{stale}");
    }
    let kept = http.get(&place, owner).await;
    assert_eq!((kept.header("etag"), &kept.json()["auto_renew"]), (second.as_str(), &json!(false)));
    assert_eq!(change(&format!("{first}, {second}"), false).await.status, 200, "one of several");
    assert_eq!(change("*", false).await.status, 200, "whatever it is");
    let without = http.call("PATCH", &place).token(owner).json(&json!({ "auto_renew": true })).send().await;
    assert_eq!((without.status, &without.json()["auto_renew"]), (200, &json!(true)));

    for verb in ["renew", "revoke"] {
        let ask = http.call("POST", &format!("{place}/{verb}")).token(owner).header("if-match", &second);
        let ask = if verb == "revoke" { ask.json(&json!({ "reason": "superseded" })) } else { ask };
        ask.send().await.problem(412, "precondition-failed");
    }
    let issuer = json!({ "name": "tagged", "directory_url": "https://ca.example.test/dir" });
    let issuer = http.post(&quiet.path("/issuers"), owner, &issuer).await;
    let gone = |tag: String| {
        http.call("DELETE", issuer.header("location")).token(owner).header("if-match", &tag).send()
    };
    gone("\"stale\"".into()).await.problem(412, "precondition-failed");
    assert_eq!(gone(issuer.header("etag").to_owned()).await.status, 204);

    let remove = |tag: String| http.call("DELETE", &place).token(owner).header("if-match", &tag).send();
    remove(second).await.problem(412, "precondition-failed");
    assert_eq!(remove(without.header("etag").to_owned()).await.status, 204);
    http.get(&place, owner).await.problem(404, "not-found");
}
