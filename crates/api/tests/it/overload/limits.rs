// SPDX-License-Identifier: Apache-2.0
//! How often who may ask: tokens, addresses, and those who guess.

use std::time::Duration;

use cap_core::secret::ExposeSecret;
use cap_core::token::Token;
use cap_runtime::entropy::OsEntropy;
use cap_testkit::wait::{Pending, until};

use super::{api, retry_after, shed, token, tokens, until_refused};
use crate::world::{Quiet, quiet};

const LIST: &str = "/api/v1/projects";
/// Requests that are surely more than a small limit lets through.
const MANY: usize = 200;

/// A guess at the secret of a token whose id is known.
fn guess(quiet: &Quiet) -> String {
    let id = Token::parse(quiet.owner()).unwrap().id();
    Token::generate(id, &OsEntropy).into_text().expose_secret().to_owned()
}

#[tokio::test]
async fn a_token_over_its_rate_is_refused_and_another_is_not() {
    let quiet = quiet().await;
    let (service, http) = api(quiet, "api-rated", &[("CAP_API_RATE_PER_TOKEN", "2")]).await;
    let callers = tokens(quiet, &http, 2).await;
    let refused = until_refused(async || http.get(LIST, &callers[0]).await, "rate-limited", MANY).await;
    assert!(refused.json()["detail"].as_str().unwrap().contains("this token"));
    let wait = Duration::from_secs(retry_after(&refused));
    assert!(wait <= Duration::from_secs(3), "{wait:?} for a rate of two a second");
    assert_eq!(http.get(LIST, &callers[1]).await.status, 200);
    // Who has a token's id and not its secret spends nothing of it.
    for _ in 0..10 {
        assert_eq!(http.get(LIST, &guess(quiet)).await.status, 401);
    }
    assert_eq!(http.get(LIST, &callers[1]).await.status, 200);
    assert!(shed(&service, "token_rate").await >= 1.0);
    until("the token to be let in again", wait + Duration::from_secs(10), || async {
        let answer = http.get(LIST, &callers[0]).await;
        if answer.status == 200 { Ok(()) } else { Err(Pending::not_yet(answer.status)) }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn strangers_share_the_rate_of_their_address_and_a_token_that_was_good_has_its_own() {
    let quiet = quiet().await;
    let (service, http) = api(quiet, "api-strangers", &[("CAP_API_RATE_PER_ADDRESS", "1")]).await;
    let elsewhere = http.from("127.0.0.2");
    let known = tokens(quiet, &elsewhere, 1).await.remove(0);
    let refused = until_refused(async || http.call("GET", LIST).send().await, "rate-limited", MANY).await;
    assert!(refused.json()["detail"].as_str().unwrap().contains("address"));
    retry_after(&refused);
    let mut refusals = 0;
    for _ in 0..30 {
        assert_eq!(http.get(LIST, &known).await.status, 200, "it counts as itself, wherever it comes from");
        assert_eq!(http.call("GET", "/healthz").send().await.status, 200);
        assert_eq!(http.call("GET", "/readyz").send().await.status, 200);
        refusals += usize::from(http.call("GET", LIST).send().await.status == 429);
    }
    assert!(refusals > 0, "strangers were let through all the while");
    assert_eq!(elsewhere.call("GET", LIST).send().await.status, 401, "another address has its own");
    assert!(shed(&service, "address_rate").await >= 1.0);
}

#[tokio::test]
async fn who_guesses_is_refused_and_shuts_out_neither_a_known_token_nor_another_address() {
    let quiet = quiet().await;
    let (service, http) = api(quiet, "api-guessed", &[("CAP_API_FAILURES_PER_ADDRESS", "2")]).await;
    let (known, fresh) = (tokens(quiet, &http, 1).await.remove(0), token(quiet).await);
    let refused =
        until_refused(async || http.get(LIST, &guess(quiet)).await, "too-many-failures", MANY).await;
    retry_after(&refused);
    assert_eq!(http.get(LIST, &known).await.status, 200, "it was good here lately");
    let elsewhere = http.from("127.0.0.2");
    assert_eq!(elsewhere.get(LIST, &fresh).await.status, 200);
    // A word about who it is from somebody who is not trusted changes nothing.
    let lie = async || {
        http.call("GET", LIST).token(&guess(quiet)).header("x-forwarded-for", "192.0.2.1").send().await
    };
    until_refused(lie, "too-many-failures", 3).await;
    // The way round through /readyz tells a guess nothing.
    let ready = http.call("GET", "/readyz?verbose").token(&guess(quiet)).send().await;
    assert_eq!(ready.status, 200);
    assert!(shed(&service, "failures").await >= 3.0);
    // What is no token costs no look-up and is no guess.
    let malformed = elsewhere.get(LIST, "cap_api_x").await;
    malformed.problem(401, "unauthenticated");
}

#[tokio::test]
async fn a_token_that_was_good_and_is_revoked_is_no_longer_known() {
    let quiet = quiet().await;
    let settings = [("CAP_API_FAILURES_PER_ADDRESS", "2"), ("CAP_API_RATE_PER_ADDRESS", "0")];
    let (_service, http) = api(quiet, "api-revoking", &settings).await;
    let _writing = quiet.writing.read().await;
    let made = quiet.token("viewer", None).await;
    let (id, text) = (made["id"].as_str().unwrap(), made["token"].as_str().unwrap());
    assert_eq!(http.get(LIST, text).await.status, 200);
    let revoke = http.call("DELETE", &format!("/api/v1/tokens/{id}")).token(quiet.owner());
    assert_eq!(revoke.send().await.status, 204);
    until_refused(async || http.get(LIST, text).await, "too-many-failures", MANY).await;
}

#[tokio::test]
async fn behind_a_trusted_proxy_each_client_counts_by_itself() {
    let quiet = quiet().await;
    let settings = [("CAP_API_FAILURES_PER_ADDRESS", "2"), ("CAP_API_TRUSTED_PROXIES", "127.0.0.0/8")];
    let (_service, http) = api(quiet, "api-proxied", &settings).await;
    let from = async |client: &str, token: &str| -> crate::http::Answer {
        http.call("GET", LIST).token(token).header("x-forwarded-for", client).send().await
    };
    let fresh = token(quiet).await;
    until_refused(async || from("192.0.2.1", &guess(quiet)).await, "too-many-failures", MANY).await;
    until_refused(async || from("198.51.100.1, 192.0.2.1", &guess(quiet)).await, "too-many-failures", 3)
        .await;
    from("192.0.2.1", &fresh).await.problem(429, "too-many-failures");
    assert_eq!(from("192.0.2.2", &fresh).await.status, 200);
}

#[tokio::test]
async fn nought_is_no_limit() {
    let quiet = quiet().await;
    let settings = ["TOKEN", "ADDRESS"].map(|who| (format!("CAP_API_RATE_PER_{who}"), "0".to_owned()));
    let mut settings: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (&**name, &**value)).collect();
    settings.push(("CAP_API_FAILURES_PER_ADDRESS", "0"));
    let (_service, http) = api(quiet, "api-unlimited", &settings).await;
    for _ in 0..MANY {
        let answer = http.get(LIST, &guess(quiet)).await;
        assert_eq!(answer.status, 401, "{answer:?}");
    }
}
