// SPDX-License-Identifier: Apache-2.0
//! Real issuance through the CA proxy, by a client that is not ours.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cap_testkit::ca::{NameSetCounts, Pebble, PebbleOptions};
use cap_testkit::process::Signal;
use cap_testkit::wait::{self, Pending};
use futures_util::StreamExt as _;

use crate::bare::Client;

/// A hundred orders take some seconds; a deadlock takes for ever.
const BULK_LIMIT_SECONDS: u64 = 120;
const BULK_ORDERS: usize = 100;
const BULK_PARALLEL: usize = 16;

#[tokio::test]
async fn a_certificate_is_issued_through_the_proxy_and_counted() {
    let ca = Pebble::shared().await.unwrap();
    let client = Client::of(&ca).await;
    let chain = client.issue(&ca, "One.example.test").await;
    assert!(chain.matches("BEGIN CERTIFICATE").count() >= 2, "{chain}");
    // Whatever the version of Pebble: renewals are planned by it.
    let (_, leaf) = x509_parser::pem::parse_x509_pem(chain.as_bytes()).unwrap();
    let leaf = leaf.parse_x509().unwrap();
    let life = leaf.validity().not_after.timestamp() - leaf.validity().not_before.timestamp();
    assert!((90 * 86_400 - life).abs() <= 1, "it lives {life} s");
    let counted = ca.counts().await.unwrap().of(&["one.example.test"]);
    assert_eq!(counted, NameSetCounts { orders: 1, finalized: 1, certificates: 1 });
    assert!(ca.issuance_root_pem().await.unwrap().contains("BEGIN CERTIFICATE"));
}

#[tokio::test]
async fn a_certificate_that_nobody_fetched_is_counted() {
    let ca = Pebble::shared().await.unwrap();
    let client = Client::of(&ca).await;
    let mut order = client.order(&ca, "unfetched.example.test").await;
    client.validate(&mut order).await;
    order.finalize().await.unwrap();
    drop(order);
    assert_eq!(ca.counts().await.unwrap().of(&["unfetched.example.test"]).finalized, 1);
}

#[tokio::test]
async fn a_call_goes_on_at_the_ca_although_its_client_left() {
    let ca = Pebble::start().await.unwrap();
    let client = Client::of(&ca).await;
    let mut order = client.order(&ca, "left.example.test").await;
    client.validate(&mut order).await;

    let key = rcgen::KeyPair::generate().unwrap();
    let names = rcgen::CertificateParams::new(vec!["left.example.test".to_owned()]).unwrap();
    let csr = names.serialize_request(&key).unwrap();

    // Pebble reads the request only after the client has gone.
    let pebble = ca.process().unwrap();
    pebble.signal(Signal::STOP).unwrap();
    // Each of its threads stops in its own time.
    wait::until("Pebble to stand still", Duration::from_secs(10), || async {
        let running = |thread: &std::fs::DirEntry| {
            let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            !stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
        };
        let threads = std::fs::read_dir(format!("/proc/{}/task", pebble.pid())).map_err(Pending::not_yet)?;
        let left = threads.flatten().filter(running).count();
        if left == 0 { Ok(()) } else { Err(Pending::not_yet(left)) }
    })
    .await
    .unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(500), order.finalize_csr(csr.der())).await.is_err());
    drop((order, client));
    pebble.signal(Signal::CONT).unwrap();
    wait::until("the certificate to be counted", Duration::from_secs(10), || async {
        let counts = ca.counts().await.map_err(Pending::Never)?.of(&["left.example.test"]);
        if counts.finalized == 1 { Ok(()) } else { Err(Pending::not_yet("none")) }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn answers_come_as_late_as_asked() {
    let ca = Pebble::start().await.unwrap();
    ca.set_delay(Duration::from_millis(300)).await.unwrap();
    let started = Instant::now();
    let _client = Client::of(&ca).await;
    // Directory, nonce, account.
    assert!(started.elapsed() >= Duration::from_millis(900), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_orders_at_once_do_not_hang_the_ca() {
    let ca = Arc::new(
        Pebble::start_with(PebbleOptions { bad_nonce_percent: 1, ..Default::default() }).await.unwrap(),
    );
    let client = Arc::new(Client::of(&ca).await);
    let started = Instant::now();
    let work = futures_util::stream::iter(0..BULK_ORDERS)
        .map(|n| {
            let (ca, client) = (ca.clone(), client.clone());
            tokio::spawn(async move { client.issue(&ca, &format!("n{n}.bulk.example.test")).await })
        })
        .buffer_unordered(BULK_PARALLEL)
        .map(Result::unwrap)
        .collect::<Vec<_>>();
    let chains =
        tokio::time::timeout(Duration::from_secs(BULK_LIMIT_SECONDS), work).await.expect("the CA hangs");
    println!("{BULK_ORDERS} orders, {BULK_PARALLEL} at once: {:?}", started.elapsed());
    assert_eq!(chains.len(), BULK_ORDERS);
    let totals = ca.counts().await.unwrap().totals;
    assert_eq!(usize::try_from(totals.finalized).unwrap(), BULK_ORDERS);
    assert_eq!(totals.certificates, totals.finalized);
}
