// SPDX-License-Identifier: Apache-2.0
//! What is no token, or no longer one, opens nothing.

use std::time::{Duration, Instant};

use cap_core::secret::ExposeSecret;
use cap_core::token::Token;
use cap_runtime::entropy::OsEntropy;
use cap_testkit::wait::{Pending, until};
use serde_json::json;

use crate::world::quiet;

/// What security promises of a revocation.
const REVOKED_WITHIN: Duration = Duration::from_secs(5);

#[tokio::test]
async fn forged_and_malformed_tokens_are_refused_and_the_good_one_is_not() {
    let quiet = quiet().await;
    let (http, good) = (quiet.http(), quiet.owner());
    let id = Token::parse(good).unwrap().id();
    let forged = Token::generate(id, &OsEntropy).into_text();
    let other_checksum =
        format!("{}{}", &good[..good.len() - 1], if good.ends_with('0') { '1' } else { '0' });
    let unknown = good.replace(&id.to_string().replace("tok_", ""), "0192f0c1a3d27b4e8f6a5c4d3e2f1a0b");
    for (header, says) in [
        ("".to_owned(), "Bearer"),
        ("Bearer".to_owned(), "Bearer"),
        ("Bearer ".to_owned(), "Bearer"),
        (good.to_owned(), "Bearer"),
        (format!("Basic {good}"), "Bearer"),
        ("Bearer x".to_owned(), "malformed"),
        ("Bearer {\"$ne\":null}".to_owned(), "malformed"),
        (format!("Bearer {}", &good[..good.len() - 3]), "malformed"),
        (format!("Bearer {good}{good}"), "malformed"),
        (format!("Bearer {other_checksum}"), "malformed"),
        (format!("Bearer {unknown}"), "malformed"),
        (format!("Bearer {}", forged.expose_secret()), "not known here"),
    ] {
        let answer = http.call("GET", "/api/v1/projects").header("authorization", &header).send().await;
        let detail = answer.problem(401, "unauthenticated");
        assert!(detail.contains(says), "{header}: {detail}");
        assert_eq!(answer.header("www-authenticate"), "Bearer");
        assert!(!answer.text.contains(good));
    }
    let none = http.call("GET", "/api/v1/projects").send().await;
    assert!(none.problem(401, "unauthenticated").contains("no Authorization header"));
    for scheme in ["Bearer", "bearer", "BEARER"] {
        let call = http.call("GET", "/api/v1/projects").header("authorization", &format!("{scheme} {good}"));
        assert_eq!(call.send().await.status, 200);
    }
}

#[tokio::test]
async fn an_expired_token_is_refused_and_says_so() {
    let quiet = quiet().await;
    let _writing = quiet.writing.read().await;
    let body = json!({ "name": "brief", "role": "viewer", "expires_in": "1s" });
    let made = quiet.http().post("/api/v1/tokens", quiet.owner(), &body).await.json();
    let token = made["token"].as_str().unwrap();
    let refused = until("the token to expire", Duration::from_secs(10), || async {
        let answer = quiet.http().get("/api/v1/projects", token).await;
        if answer.status == 401 { Ok(answer) } else { Err(Pending::not_yet(answer.status)) }
    })
    .await
    .unwrap();
    let detail = refused.problem(401, "unauthenticated");
    assert!(
        detail.contains("expired at") && detail.contains(made["expires_at"].as_str().unwrap()),
        "{detail}"
    );
}

#[tokio::test]
async fn a_revoked_token_is_refused_within_five_seconds_and_its_record_stays() {
    let quiet = quiet().await;
    let _writing = quiet.writing.read().await;
    let made = quiet.token("viewer", None).await;
    let (id, token) = (made["id"].as_str().unwrap(), made["token"].as_str().unwrap());
    let http = quiet.http();
    assert_eq!(http.get("/api/v1/projects", token).await.status, 200);
    let place = format!("/api/v1/tokens/{id}");
    let began = Instant::now();
    for _ in 0..2 {
        assert_eq!(http.call("DELETE", &place).token(quiet.owner()).send().await.status, 204);
    }
    let refused = until("the revocation to count", REVOKED_WITHIN, || async {
        let answer = http.get("/api/v1/projects", token).await;
        if answer.status == 401 { Ok(answer) } else { Err(Pending::not_yet(answer.status)) }
    })
    .await
    .unwrap();
    assert!(began.elapsed() < REVOKED_WITHIN);
    assert!(refused.problem(401, "unauthenticated").contains("revoked at"));
    let record = http.get(&place, quiet.owner()).await.json();
    assert!(record["revoked_at"].is_string() && record.get("token").is_none(), "{record}");
}

#[tokio::test]
async fn what_was_made_is_where_the_answer_says_and_reads_back_the_same() {
    let quiet = quiet().await;
    let _writing = quiet.writing.read().await;
    let (http, owner) = (quiet.http(), quiet.owner());
    let issuer = json!({ "name": "located", "directory_url": quiet.stack.ca().directory_url() });
    for (path, body) in [
        ("/api/v1/projects".to_owned(), json!({ "name": "located" })),
        ("/api/v1/tokens".to_owned(), json!({ "name": "located", "role": "viewer", "expires_in": "1h" })),
        (quiet.path("/issuers"), issuer),
        (quiet.path("/certificates"), json!({ "names": ["located.example.test"], "issuer": "ca" })),
    ] {
        let made = http.post(&path, owner, &body).await;
        assert_eq!(made.status, 201, "{made:?}");
        let read = http.get(made.header("location"), owner).await;
        let mut shown = made.json();
        // A token is shown once; everything else is the same from the first answer on, times included.
        shown.as_object_mut().unwrap().remove("token");
        assert_eq!(read.json(), shown, "{path}");
    }
}
