// SPDX-License-Identifier: Apache-2.0
//! How the client takes what a healthy API never does: refusing for a while, breaking off, answering nonsense.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod fake;

use std::time::Instant;

use cap_client::wire::CreateProject;
use cap_client::{BODY_OCTETS, ClientError, PageQuery};

use fake::{FakeApi, header, json};

const PROJECT: &str = r#"{"id":"prj_00000000000000000000000000000001","name":"demo","weight":1,"drift":{"enabled":false,"port":443,"interval":"6h"},"created_at":"2026-01-01T00:00:00Z"}"#;
const PROBLEM: &str = r#"{"type":"about:blank","title":"Not found","status":404,"detail":"no such project","request_id":"req_00000000000000000000000000000002"}"#;

fn busy() -> Vec<u8> {
    json("503 Service Unavailable", "retry-after: 1\r\n", "")
}

#[tokio::test]
async fn a_refused_read_is_repeated_after_the_wait_that_was_asked_for() {
    let api = FakeApi::playing(vec![busy(), json("200 OK", "", PROJECT)]).await;
    let start = Instant::now();
    let project = api.client.project("demo").await.unwrap();
    assert_eq!(project.name, "demo");
    assert!(start.elapsed().as_millis() >= 1000, "the wait was cut short");
    assert_eq!(api.seen().len(), 2);
}

#[tokio::test]
async fn a_repeated_post_carries_the_same_idempotency_key_and_body() {
    let hung_up = Vec::new();
    let api =
        FakeApi::playing(vec![hung_up, json("201 Created", "", PROJECT), json("201 Created", "", PROJECT)])
            .await;
    let body = CreateProject { name: "demo".into() };
    api.client.create_project(&body).await.unwrap();
    api.client.create_project(&body).await.unwrap();
    let seen = api.seen();
    let keys: Vec<_> = seen.iter().map(|request| header(request, "idempotency-key").unwrap()).collect();
    assert_eq!(keys[0], keys[1]);
    assert_ne!(keys[1], keys[2], "two calls shared a key");
    assert!(seen.iter().all(|request| request.ends_with(r#"{"name":"demo"}"#)));
}

#[tokio::test]
async fn a_deletion_is_sent_once() {
    let api = FakeApi::playing(vec![busy()]).await;
    let error = api.client.delete_issuer("demo", "ca").await.unwrap_err();
    assert_eq!(error.status().map(|status| status.as_u16()), Some(503));
    assert_eq!(api.seen().len(), 1);
}

#[tokio::test]
async fn an_api_that_stays_busy_is_given_up_after_four_tries() {
    let api =
        FakeApi::playing((0..9).map(|_| json("429 Too Many Requests", "retry-after: 0\r\n", "")).collect())
            .await;
    let error = api.client.projects(&PageQuery::default()).await.unwrap_err();
    assert!(error.is_passing());
    assert_eq!(api.seen().len(), 4);
}

#[tokio::test]
async fn a_refusal_is_told_in_the_words_of_the_api() {
    let api = FakeApi::playing(vec![json("404 Not Found", "", PROBLEM)]).await;
    let error = api.client.project("demo").await.unwrap_err();
    assert_eq!((error.what().as_str(), error.why()), ("Not found", "no such project"));
    assert_eq!(error.request_id().unwrap().to_string(), "req_00000000000000000000000000000002");
}

#[tokio::test]
async fn an_answer_of_something_else_is_told_apart_from_a_refusal() {
    for answer in [
        json("502 Bad Gateway", "", "<html>gateway</html>"),
        json("200 OK", "", "<html>welcome</html>"),
        json("200 OK", "", r#"{"items": 7}"#),
        json("301 Moved Permanently", "location: http://elsewhere.test/\r\n", ""),
    ] {
        let api = FakeApi::playing(vec![answer]).await;
        let error = api.client.projects(&PageQuery::default()).await.unwrap_err();
        assert!(matches!(error, ClientError::Protocol { .. }), "{error:?}");
        assert_eq!(api.seen().len(), 1);
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_no_answer() {
    let mut cut = json("200 OK", "", PROJECT);
    cut.truncate(cut.len() - 5);
    let api = FakeApi::playing(vec![cut.clone(), json("200 OK", "", PROJECT)]).await;
    assert_eq!(api.client.project("demo").await.unwrap().name, "demo");
    let api = FakeApi::playing(vec![cut; 9]).await;
    let error = api.client.project("demo").await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error:?}");
    assert_eq!(api.seen().len(), 4);
}

#[tokio::test]
async fn an_answer_beyond_the_bound_is_not_taken_in() {
    let api = FakeApi::playing(vec![json("200 OK", "", &" ".repeat(BODY_OCTETS + 1))]).await;
    let error = api.client.project("demo").await.unwrap_err();
    assert!(error.to_string().contains("longer than"), "{error}");
}

#[tokio::test]
async fn readiness_is_a_verdict_and_not_an_error() {
    let report = "[+]mongo ok\n[-]kek failed";
    let api = FakeApi::playing(vec![json("503 Service Unavailable", "", report)]).await;
    let readiness = api.client.readiness().await.unwrap();
    assert!(!readiness.ready);
    assert_eq!(readiness.report, report);
    assert_eq!(api.seen().len(), 1, "a verdict is not asked for twice");
}

const REFUSED: &str = "content-type: application/problem+json\r\nretry-after: 1\r\n";

fn refused(status: &str, kind: &str) -> Vec<u8> {
    let code = &status[..3];
    let problem = format!(
        r#"{{"type":"urn:certautopilot:problem:{kind}","title":"No","status":{code},"detail":"because"}}"#
    );
    json(status, REFUSED, &problem)
}

#[tokio::test]
async fn who_is_refused_for_a_limit_asks_for_readiness_once_more_without_the_token() {
    let report = "[+]mongo ok";
    let [busy, full] = [("429 Too Many Requests", "rate-limited"), ("503 Service Unavailable", "overloaded")];
    for (status, kind) in [busy, full] {
        let answers = vec![refused(status, kind), json("200 OK", "", report)];
        let api = FakeApi::playing_to(Some("cap_api_1"), answers).await;
        let readiness = api.client.readiness().await.unwrap();
        assert!(readiness.ready && readiness.report == report, "{readiness:?}");
        let tokens: Vec<_> = api.seen().iter().map(|seen| header(seen, "authorization").is_some()).collect();
        assert_eq!(tokens, [true, false], "{kind}");

        let api = FakeApi::playing_to(Some("cap_api_1"), vec![refused(status, kind); 9]).await;
        let error = api.client.readiness().await.unwrap_err();
        assert!(matches!(error, ClientError::Api(_)), "{error:?}");
        assert_eq!(api.seen().len(), 2, "{kind}");

        let api = FakeApi::playing(vec![refused(status, kind); 9]).await;
        api.client.readiness().await.unwrap_err();
        assert_eq!(api.seen().len(), 1, "without a token there is none to leave out");
    }
}

#[tokio::test]
async fn a_refusal_is_no_list_of_checks() {
    let answers = vec![refused("503 Service Unavailable", "unavailable"); 9];
    let api = FakeApi::playing_to(Some("cap_api_1"), answers).await;
    let error = api.client.readiness().await.unwrap_err();
    assert_eq!((error.what().as_str(), error.why()), ("No", "because"));
    assert_eq!(api.seen().len(), 1);
    assert!(matches!(api.client.health().await, Err(ClientError::Api(_))));
}

#[tokio::test]
async fn what_is_no_name_is_not_sent() {
    let api = FakeApi::playing(Vec::new()).await;
    for text in ["", ".", ".."] {
        let error = api.client.issuer("demo", text).await.unwrap_err();
        assert!(matches!(error, ClientError::NoName { .. }) && !error.is_passing(), "{error:?}");
    }
    assert!(api.seen().is_empty());
}
