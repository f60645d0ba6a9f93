// SPDX-License-Identifier: Apache-2.0
//! What a CA says beside the order: its URL when nothing else can be used, and when it wants to be asked again.

use cap_core::clock::later;
use cap_core::issuer::ExternalAccount;
use cap_core::name::Identifier;
use cap_core::order::{CaError, CaRequest, CertificateAuthority, Seen};
use cap_core::renewal_info::AriId;
use cap_core::secret::SecretSlice;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::bench::{clock, csr};
use crate::stub::{LATE_PROFILE, Said, Stub};

fn names() -> [Identifier; 1] {
    ["a.example.test".parse().unwrap()]
}

fn order(base: &str, status: &str) -> String {
    format!(
        r#"{{"status":"{status}","expires":"2026-10-22T07:28:00Z","identifiers":[{{"type":"dns","value":"a.example.test"}}],
            "authorizations":["{base}/authorization/1"],"finalize":"{base}/finalize/1"}}"#
    )
}

fn placed(base: &str, body: String) -> Said {
    (201, vec![("location", format!("{base}/order/1"))], body)
}

#[tokio::test]
async fn the_url_of_an_order_is_kept_whatever_else_the_answer_says() {
    let replaces = AriId::new(&[1], &[2]).unwrap();
    let silent = Stub::start(|base, _| placed(base, order(base, "pending"))).await;
    let (order_without, found) = silent.account.place(&names(), None, Some(&replaces)).await.unwrap();
    assert_eq!(order_without.url, format!("{}/order/1", silent.base));
    assert!(order_without.expires.is_some() && found.is_none(), "it does not say what it replaces");
    assert_eq!(silent.posted(), ["/new-order"], "the URL is told before anything else is asked");

    let unreadable = Stub::start(|base, _| placed(base, "<html>created</html>".into())).await;
    let (order, found) = unreadable.account.place(&names(), None, None).await.unwrap();
    assert_eq!(
        (order.url, order.expires, found.is_none()),
        (format!("{}/order/1", unreadable.base), None, true)
    );
    assert_eq!(unreadable.posted(), ["/new-order"]);

    let readable = Stub::start(|base, _| placed(base, self::order(base, "ready"))).await;
    let (_, found) = readable.account.place(&names(), None, None).await.unwrap();
    assert_eq!(found.unwrap().0.said, Seen::Ready);
}

#[tokio::test]
async fn why_an_order_is_invalid_from_the_beginning_is_not_asked_before_its_url_is_told() {
    let invalid = Stub::start(|base, _| placed(base, order(base, "invalid"))).await;
    let (_, found) = invalid.account.place(&names(), None, None).await.unwrap();
    assert!(found.is_none());
    assert_eq!(invalid.posted(), ["/new-order"]);
}

/// The first try to validate failed and the second did not; then the signing request was refused.
fn validated_at_the_second_try(base: &str, path: &str) -> Said {
    let error =
        |kind: &str| format!(r#""error":{{"type":"urn:ietf:params:acme:error:{kind}","detail":"no"}}"#);
    match path {
        "/new-order" => placed(base, order(base, "ready")),
        "/authorization/1" => {
            let body = format!(
                r#"{{"status":"valid","identifier":{{"type":"dns","value":"a.example.test"}},"challenges":[
                    {{"type":"http-01","url":"{base}/challenge/1","token":"dG9rZW4","status":"valid",{}}}]}}"#,
                error("connection")
            );
            (200, vec![], body)
        }
        _ => (200, vec![], order(base, "invalid").replacen('{', &format!("{{{},", error("badCSR")), 1)),
    }
}

#[tokio::test]
async fn what_failed_before_a_name_was_valid_is_not_why_its_order_is_not() {
    let stub = Stub::start(validated_at_the_second_try).await;
    let (_, found) = stub.account.place(&names(), None, None).await.unwrap();
    let Seen::Invalid(problem) = found.unwrap().1.look().await.unwrap().said else { panic!("not invalid") };
    assert_eq!(problem.kind, "urn:ietf:params:acme:error:badCSR", "{problem:?}");
}

#[tokio::test]
async fn an_order_without_a_url_is_none() {
    let nowhere = Stub::start(|base, _| (201, vec![], order(base, "pending"))).await;
    let placed = nowhere.account.place(&names(), None, None).await;
    assert!(matches!(placed, Err(CaError::Transient(_))));
}

/// In seconds of the order, as a date of what belongs to it.
fn dated(base: &str, path: &str) -> Said {
    let seconds = |after: u32| ("retry-after", after.to_string());
    match path {
        "/new-order" => {
            let (status, mut headers, body) = placed(base, order(base, "pending"));
            headers.push(seconds(5));
            (status, headers, body)
        }
        "/order/1" => (200, vec![seconds(7)], order(base, "ready")),
        "/finalize/1" => {
            (200, vec![("retry-after", "Wed, 21 Oct 2026 07:29:00 GMT".into())], order(base, "processing"))
        }
        "/authorization/1" => {
            let body = format!(
                r#"{{"status":"pending","identifier":{{"type":"dns","value":"a.example.test"}},
                    "challenges":[{{"type":"http-01","url":"{base}/challenge/1","token":"dG9rZW4","status":"pending"}}]}}"#
            );
            (200, vec![("retry-after", "Wed, 21 Oct 2026 07:28:30 GMT".into())], body)
        }
        _ => {
            let body = format!(
                r#"{{"type":"http-01","url":"{base}/challenge/1","token":"dG9rZW4","status":"processing"}}"#
            );
            (200, vec![seconds(11)], body)
        }
    }
}

#[tokio::test]
async fn when_to_ask_again_is_read_from_every_good_answer() {
    let stub = Stub::start(dated).await;
    let after = |seconds| Some(later(clock().now(), Duration::from_secs(seconds)));
    let (placed, found) = stub.account.place(&names(), None, None).await.unwrap();
    let (reply, mut order) = found.unwrap();
    assert_eq!(reply.retry_at, after(5));
    assert_eq!(order.look().await.unwrap().retry_at, after(7));
    assert_eq!(order.authorizations().await.unwrap().retry_at, after(30), "as a date");
    // What was read of the authorization is not read again: the challenge's own answer is all that there is.
    assert_eq!(order.submit().await.unwrap().retry_at, after(11));
    assert_eq!(order.finalize(&csr("a.example.test")).await.unwrap().retry_at, after(60));
    let (reply, mut order) = stub.account.resume(&placed.url).await.unwrap();
    assert_eq!(reply.retry_at, after(7));
    assert_eq!(order.submit().await.unwrap().retry_at, after(30), "the latest of both");
}

#[tokio::test]
async fn who_does_not_say_when_is_asked_when_we_like() {
    let stub = Stub::start(|base, path| {
        let (status, headers, body) = dated(base, path);
        (status, headers.into_iter().filter(|(name, _)| *name != "retry-after").collect(), body)
    })
    .await;
    let (_, found) = stub.account.place(&names(), None, None).await.unwrap();
    let (reply, mut order) = found.unwrap();
    assert_eq!(reply.retry_at, None);
    assert_eq!(order.look().await.unwrap().retry_at, None);
    assert_eq!(order.authorizations().await.unwrap().retry_at, None);
}

#[tokio::test]
async fn a_profile_that_the_ca_offers_by_now_is_ordered() {
    let stub = Stub::start(|base, _| placed(base, order(base, "pending"))).await;
    let late = LATE_PROFILE.to_owned().try_into().unwrap();
    stub.account.place(&names(), Some(&late), None).await.unwrap();
    assert_eq!(stub.payloads()[0].1["profile"], LATE_PROFILE);
    let never = "never".to_owned().try_into().unwrap();
    let Err(CaError::Refused(refused)) = stub.account.place(&names(), Some(&never), None).await.map(drop)
    else {
        panic!("it was ordered");
    };
    assert!(refused.kind == "profile-not-offered" && refused.detail.contains(LATE_PROFILE), "{refused}");
    assert!(stub.posted().is_empty());
}

fn bound(stub: &Stub) -> CaRequest {
    let external = ExternalAccount {
        kid: "kid-1".parse().unwrap(),
        hmac_key: std::sync::Arc::new(SecretSlice::from(vec![7_u8; 32])),
    };
    CaRequest { external: Some(external), ..stub.request.clone() }
}

/// It would refuse a binding of an account that has one.
#[tokio::test]
async fn an_account_that_is_bound_is_looked_for_and_not_bound_again() {
    let account = |base: &str, _: &str| -> Said {
        (200, vec![("location", format!("{base}/account/1"))], r#"{"status":"valid"}"#.to_owned())
    };
    let stub = Stub::start(account).await;
    let url = stub.acme.register(&bound(&stub)).await.unwrap();
    assert_eq!(url, format!("{}/account/1", stub.base));
    let payloads = stub.payloads();
    let paths: Vec<&str> = payloads.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths, ["/new-account", "/account/1"], "and is told its contacts");
    assert_eq!(payloads[0].1["onlyReturnExisting"], true);
    assert!(payloads.iter().all(|(_, payload)| payload["externalAccountBinding"].is_null()), "{payloads:?}");
}

#[tokio::test]
async fn a_ca_that_would_have_an_account_bound_knows_none_and_gets_it_bound() {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let stub = Stub::start(|base, _| match ASKED.fetch_add(1, Ordering::Relaxed) {
        0 | 1 => {
            let kind = "urn:ietf:params:acme:error:externalAccountRequired";
            (400, vec![], format!(r#"{{"type":"{kind}","detail":"no binding"}}"#))
        }
        _ => (201, vec![("location", format!("{base}/account/1"))], r#"{"status":"valid"}"#.to_owned()),
    })
    .await;
    assert_eq!(stub.acme.find(&stub.request).await.unwrap(), None);
    stub.acme.register(&bound(&stub)).await.unwrap();
    let payloads = stub.payloads();
    assert_eq!(payloads.len(), 3, "{payloads:?}");
    assert!(payloads[2].1["externalAccountBinding"].is_object(), "{payloads:?}");
}
