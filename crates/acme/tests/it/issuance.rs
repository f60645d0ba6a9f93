// SPDX-License-Identifier: Apache-2.0
//! What works.

use std::sync::Arc;

use cap_core::order::{CaError, CertificateAuthority, Seen};
use cap_testkit::ca::{Pebble, PebbleOptions};

use crate::bench::{Bench, acme, csr, patiently, until_not};

#[tokio::test]
async fn a_certificate_is_issued_step_by_step() {
    let ca = Pebble::shared().await.unwrap();
    let bench = Bench::of(&ca).await;
    let name = "steps.acme.test";
    let (placed, seen, mut order) = bench.place(&ca, name).await;
    assert_eq!(seen, Seen::Pending);
    assert!(placed.expires.is_some(), "the expiry was not read");
    assert_eq!(bench.answer(&mut order).await, 1);
    order.submit().await.unwrap();
    assert_eq!(until_not(&mut order, &[Seen::Pending]).await, Seen::Ready);
    let seen = order.finalize(&csr(name)).await.unwrap().said;
    assert!(matches!(seen, Seen::Processing | Seen::Valid), "{seen:?}");
    assert_eq!(until_not(&mut order, &[Seen::Processing]).await, Seen::Valid);
    let chain = order.certificate().await.unwrap().pem;
    assert!(chain.starts_with("-----BEGIN CERTIFICATE-----"));
    assert!(chain.matches("-----BEGIN CERTIFICATE-----").count() >= 2);
    // Each answer brings the next nonce: only the first request asked for one.
    let requests = "certautopilot_acme_requests_total";
    assert!(bench.counted(requests, &[("action", "nonce")]) <= 1.0);
    assert!(bench.counted(requests, &[("action", "new_order"), ("status", "2xx")]) >= 1.0);
    assert_eq!(bench.counted(requests, &[("status", "unreachable")]), 0.0);
}

#[tokio::test]
async fn another_process_resumes_an_order_by_its_url() {
    let ca = Pebble::shared().await.unwrap();
    let bench = Bench::of(&ca).await;
    let name = "resumed.acme.test";
    let (placed, _, mut order) = bench.place(&ca, name).await;
    bench.answer(&mut order).await;
    drop(order);

    let (other, _) = acme();
    let account = other.account(&bench.request, &bench.account_url).await.unwrap();
    let (reply, mut order) = account.resume(&placed.url).await.unwrap();
    assert_eq!(reply.said, Seen::Pending);
    order.submit().await.unwrap();
    assert_eq!(until_not(&mut order, &[Seen::Pending]).await, Seen::Ready);
    order.finalize(&csr(name)).await.unwrap();

    // A third one finds it issued, and submitting or finalizing again harms nothing.
    let (third, _) = acme();
    let account = third.account(&bench.request, &bench.account_url).await.unwrap();
    let (_, mut order) = account.resume(&placed.url).await.unwrap();
    assert_eq!(until_not(&mut order, &[Seen::Processing]).await, Seen::Valid);
    order.submit().await.unwrap();
    let again = order.finalize(&csr(name)).await.unwrap_err();
    assert!(matches!(again, CaError::OutOfStep(_)), "{again}");
    assert!(order.certificate().await.unwrap().pem.contains("BEGIN CERTIFICATE"));
}

#[tokio::test]
async fn a_second_runner_of_the_same_order_is_harmless() {
    let ca = Pebble::shared().await.unwrap();
    let bench = Bench::of(&ca).await;
    let name = "twins.acme.test";
    let (placed, _, mut one) = bench.place(&ca, name).await;
    let (_, mut two) = bench.account.resume(&placed.url).await.unwrap();
    bench.answer(&mut one).await;
    bench.answer(&mut two).await;
    one.submit().await.unwrap();
    assert_eq!(until_not(&mut one, &[Seen::Pending]).await, Seen::Ready);
    // What it has read is old by now.
    let late = two.submit().await;
    assert!(matches!(late, Ok(_) | Err(CaError::OutOfStep(_))), "{late:?}");
    let csr = csr(name);
    one.finalize(&csr).await.unwrap();
    let late = two.finalize(&csr).await;
    assert!(matches!(late, Ok(_) | Err(CaError::OutOfStep(_))), "{late:?}");
    assert_eq!(until_not(&mut one, &[Seen::Processing]).await, Seen::Valid);
    assert_eq!(until_not(&mut two, &[Seen::Processing]).await, Seen::Valid);
    assert_eq!(one.certificate().await.unwrap(), two.certificate().await.unwrap());
}

#[tokio::test]
async fn registering_twice_gives_the_same_account() {
    let ca = Pebble::shared().await.unwrap();
    let bench = Bench::of(&ca).await;
    let (other, _) = acme();
    assert_eq!(bench.acme.register(&bench.request).await.unwrap(), bench.account_url);
    assert_eq!(other.register(&bench.request).await.unwrap(), bench.account_url);
}

#[tokio::test]
async fn an_account_is_restored_once_until_its_issuer_changes() {
    let ca = Pebble::shared().await.unwrap();
    let bench = Bench::of(&ca).await;
    let account = async |request| bench.acme.account(request, &bench.account_url).await.unwrap();
    assert!(Arc::ptr_eq(&account(&bench.request).await, &bench.account));
    let mut changed = bench.request.clone();
    changed.spec.contacts.clear();
    assert!(!Arc::ptr_eq(&account(&changed).await, &bench.account));
}

#[tokio::test]
async fn refused_nonces_are_passing_faults() {
    let options = PebbleOptions { bad_nonce_percent: 20, ..PebbleOptions::default() };
    let ca = Pebble::start_with(options).await.unwrap();
    let bench = Bench::of(&ca).await;
    for round in 0..5 {
        let name = format!("nonces-{round}.acme.test");
        let (_, _, mut order) = bench.place(&ca, &name).await;
        bench.answer(&mut order).await;
        while let Err(error) = order.submit().await {
            assert!(matches!(error, CaError::Transient(_)), "{error}");
        }
        assert_eq!(until_not(&mut order, &[Seen::Pending]).await, Seen::Ready);
        while let Err(error) = order.finalize(&csr(&name)).await {
            assert!(matches!(error, CaError::Transient(_)), "{error}");
        }
        assert_eq!(until_not(&mut order, &[Seen::Processing]).await, Seen::Valid);
        let account = bench.account.clone();
        let url =
            patiently(async || account.place(&["again.acme.test".parse().unwrap()], None, None).await).await;
        assert!(!url.0.url.is_empty());
    }
    let refused = bench.counted("certautopilot_acme_requests_total", &[("status", "4xx")]);
    assert!(refused > 0.0, "no nonce was refused");
}
