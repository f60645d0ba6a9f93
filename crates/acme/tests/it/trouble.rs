// SPDX-License-Identifier: Apache-2.0
//! What does not work, and how it is said.

use std::net::TcpListener;

use cap_core::certificate::Profile;
use cap_core::order::{Authorization, CaError, CertificateAuthority, Seen};
use cap_core::problem::{Class, Problem};
use cap_testkit::ca::Pebble;

use crate::bench::{Bench, acme, request, until_not};

/// Why the account cannot be registered, where that is a passing fault.
async fn passing(directory: &str, roots: Option<&str>) -> Problem {
    let (acme, _) = acme();
    match acme.register(&request(directory, roots)).await {
        Err(CaError::Transient(problem)) => problem,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_ca_that_is_not_there_is_named() {
    // Nobody listens at the port of TCPMUX any more.
    let directory = "https://127.0.0.1:1/dir";
    let problem = passing(directory, None).await;
    let expected = format!(
        "cannot reach {directory}: connection refused; check the directory URL, the network, and trust_roots_pem"
    );
    assert_eq!((problem.class, problem.detail), (Class::Transient, expected));
}

#[tokio::test]
async fn a_ca_without_an_address_is_named() {
    let problem = passing("https://ca.does-not-exist.invalid/dir", None).await;
    assert!(problem.detail.contains("its name cannot be resolved"), "{problem}");
}

#[tokio::test]
async fn a_ca_that_says_nothing_is_not_waited_for() {
    let (registry, clock) = (prometheus::Registry::new(), crate::bench::clock());
    let acme = cap_acme::Acme::new(clock, std::time::Duration::from_millis(300), &registry).unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let directory = format!("https://{}/dir", silent.local_addr().unwrap());
    let error = acme.register(&request(&directory, None)).await.unwrap_err();
    assert!(error.to_string().contains("no answer within 0.3 s"), "{error}");
}

#[tokio::test]
async fn a_request_has_one_deadline_for_its_nonce_and_all() {
    let ca = Pebble::start().await.unwrap();
    let roots = std::fs::read_to_string(ca.ca_file()).unwrap();
    let (registry, clock) = (prometheus::Registry::new(), crate::bench::clock());
    let acme = cap_acme::Acme::new(clock, std::time::Duration::from_secs(2), &registry).unwrap();
    // Directory, nonce and account: each is answered in time, all three are not.
    ca.set_delay(std::time::Duration::from_millis(1_100)).await.unwrap();
    let error = acme.register(&request(ca.directory_url(), Some(&roots))).await.unwrap_err();
    assert!(matches!(&error, CaError::Transient(problem) if problem.kind == "ca-timeout"), "{error}");
}

#[tokio::test]
async fn a_ca_with_a_private_root_is_not_trusted_without_it() {
    let ca = Pebble::shared().await.unwrap();
    let problem = passing(ca.directory_url(), None).await;
    assert!(
        problem.detail.ends_with("its certificate is not trusted; set trust_roots_pem to the CA's root"),
        "{problem}"
    );
    assert_eq!(problem.class, Class::Configuration);
}

#[tokio::test]
async fn a_directory_that_is_none_is_refused() {
    let ca = Pebble::shared().await.unwrap();
    let (acme, _) = acme();
    let roots = std::fs::read_to_string(ca.ca_file()).unwrap();
    let wrong = ca.directory_url().replace("/dir", "/nothing");
    let error = acme.register(&request(&wrong, Some(&roots))).await.unwrap_err();
    assert!(matches!(&error, CaError::Refused(problem) if problem.class == Class::Configuration), "{error}");
}

#[tokio::test]
async fn an_order_that_the_ca_does_not_know_is_refused() {
    let ca = Pebble::shared().await.unwrap();
    let bench = Bench::of(&ca).await;
    let (placed, _, _) = bench.place(&ca, "unknown.acme.test").await;
    let Err(error) = bench.account.resume(&format!("{}x", placed.url)).await else {
        panic!("found an order that never was");
    };
    assert!(matches!(error, CaError::Refused(_)), "{error}");
}

#[tokio::test]
async fn an_account_that_the_ca_does_not_know_is_a_matter_of_configuration() {
    let ca = Pebble::shared().await.unwrap();
    let bench = Bench::of(&ca).await;
    let url = format!("{}0", bench.account_url);
    let account = bench.acme.account(&bench.request, &url).await.unwrap();
    let Err(error) = account.place(&["x.acme.test".parse().unwrap()], None, None).await else {
        panic!("placed an order without an account");
    };
    assert!(matches!(&error, CaError::Account(problem) if problem.class == Class::Configuration), "{error}");
}

#[tokio::test]
async fn a_failed_challenge_says_which_name_and_why() {
    let ca = Pebble::shared().await.unwrap();
    let bench = Bench::of(&ca).await;
    let (_, _, mut order) = bench.place(&ca, "unanswered.acme.test").await;
    assert!(matches!(order.authorizations().await.unwrap().said[..], [Authorization::Pending { .. }]));
    order.submit().await.unwrap();
    let Seen::Invalid(problem) = until_not(&mut order, &[Seen::Pending]).await else {
        panic!("validated without an answer");
    };
    assert_eq!(problem.class, Class::Validation);
    assert_eq!(problem.kind, "urn:ietf:params:acme:error:unauthorized");
    assert!(problem.detail.starts_with("unanswered.acme.test: "), "{problem}");
    let authorizations = order.authorizations().await.unwrap().said;
    assert!(matches!(&authorizations[..], [Authorization::Unusable(again)] if *again == problem));
}

#[tokio::test]
async fn a_wildcard_cannot_be_validated_by_http_01() {
    let ca = Pebble::shared().await.unwrap();
    let bench = Bench::of(&ca).await;
    let (_, _, mut order) = bench.place(&ca, "*.wild.acme.test").await;
    let authorizations = order.authorizations().await.unwrap().said;
    let [Authorization::Unusable(problem)] = &authorizations[..] else {
        panic!("{authorizations:?}");
    };
    assert!(problem.detail.starts_with("*.wild.acme.test: the CA offers no http-01 challenge"), "{problem}");
}

#[tokio::test]
async fn a_profile_that_is_not_offered_is_not_asked_for() {
    let ca = Pebble::shared().await.unwrap();
    let bench = Bench::of(&ca).await;
    let profile = Profile::try_from("nonesuch".to_owned()).unwrap();
    let placed = bench.account.place(&["p.acme.test".parse().unwrap()], Some(&profile), None).await;
    let Err(CaError::Refused(problem)) = placed else {
        panic!("an unknown profile was not refused");
    };
    assert_eq!(problem.class, Class::Configuration);
    assert_eq!(bench.counted("certautopilot_acme_requests_total", &[("action", "new_order")]), 0.0);
}
