// SPDX-License-Identifier: Apache-2.0
//! Each fault that the CA proxy injects, as a client that is not ours meets it. Rules are told apart by names, so that
//! the tests share one CA.

use std::time::{Duration, Instant};

use cap_testkit::ca::{Asked, Fault, FaultRule, NameSetCounts, Pebble, Wrong};
use instant_acme::{Error, Order, OrderStatus};
use tokio::sync::OnceCell;

use crate::bare::Client;

/// The CA of these tests. It is started on a runtime of its own, which outlives that of each test.
async fn ca() -> &'static Pebble {
    static CA: OnceCell<Pebble> = OnceCell::const_new();
    let start = || async {
        let start = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(Pebble::start()).unwrap()
        };
        tokio::task::spawn_blocking(start).await.unwrap()
    };
    CA.get_or_init(start).await
}

/// Injects a fault for the names that begin so, and answers a client and the name that it is to ask for.
async fn met(beginning: &str, rule: FaultRule) -> (&'static Pebble, Client, String) {
    let ca = ca().await;
    let client = Client::of(ca).await;
    ca.inject(&rule.names(beginning)).await.unwrap();
    (ca, client, format!("{beginning}.example.test"))
}

async fn counted(ca: &Pebble, name: &str) -> NameSetCounts {
    ca.counts().await.unwrap().of(&[name])
}

fn kind(error: Error) -> String {
    match error {
        Error::Api(problem) => problem.r#type.unwrap_or_default(),
        other => format!("{other:?}"),
    }
}

/// A CSR for one name; the engine's like.
fn csr(name: &str) -> (rcgen::KeyPair, Vec<u8>) {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    let csr = params.serialize_request(&key).unwrap().der().to_vec();
    (key, csr)
}

/// The key and the names that a chain certifies.
fn certified(chain: &str) -> (Vec<u8>, Vec<String>) {
    let (_, pem) = x509_parser::pem::parse_x509_pem(chain.as_bytes()).unwrap();
    let leaf = pem.parse_x509().unwrap();
    let names = leaf.subject_alternative_name().unwrap().unwrap().value.general_names.iter();
    let names =
        names.map(|name| name.to_string().trim_start_matches("DNSName(").trim_end_matches(')').to_owned());
    (leaf.public_key().raw.to_vec(), names.collect())
}

#[tokio::test]
async fn an_answer_is_lost_although_the_ca_acted() {
    let rule = FaultRule::always(Fault::LostResponse).at(&[Asked::NewOrder]).times(1);
    let (ca, client, name) = met("lost-response", rule).await;
    let error = client.try_order(ca, &name).await.err().unwrap();
    assert!(!matches!(error, Error::Api(_)), "{error:?}");
    assert!(!format!("{error:?}").contains("ConnectionReset"), "{error:?}");
    assert_eq!(counted(ca, &name).await.orders, 1);
    client.issue(ca, &name).await;
}

#[tokio::test]
async fn a_connection_is_reset_although_the_ca_acted() {
    let rule = FaultRule::always(Fault::Reset).at(&[Asked::Finalize]).times(1);
    let (ca, client, name) = met("reset", rule).await;
    let mut order = client.order(ca, &name).await;
    client.validate(&mut order).await;
    let error = order.finalize_csr(&csr(&name).1).await.unwrap_err();
    assert!(format!("{error:?}").contains("ConnectionReset"), "{error:?}");
    assert_eq!(counted(ca, &name).await.finalized, 1);
    client.poll(&mut order, OrderStatus::Valid).await;
}

#[tokio::test]
async fn a_good_nonce_is_refused_and_another_comes_with_the_refusal() {
    let rule = FaultRule::always(Fault::BadNonce).at(&[Asked::Finalize]).times(2);
    let (ca, client, name) = met("bad-nonce", rule).await;
    client.issue(ca, &name).await;
    assert_eq!(ca.counts().await.unwrap().faults["bad-nonce"], 2);
    assert_eq!(counted(ca, &name).await.finalized, 1);
}

#[tokio::test]
async fn a_rate_limit_says_when_to_come_again_in_seconds_or_as_a_date() {
    for (beginning, as_date) in [("limited-by-seconds", false), ("limited-by-date", true)] {
        let limit = Fault::RateLimited { retry_after_s: 60, as_date };
        let rule = FaultRule::always(limit).at(&[Asked::NewOrder]).times(1);
        let (ca, client, name) = met(beginning, rule).await;
        let early = ca.counts().await.unwrap().too_early;
        let refused = client.try_order(ca, &name).await.err().unwrap();
        assert_eq!(kind(refused), "urn:ietf:params:acme:error:rateLimited");
        let last = client.last();
        assert_eq!((last.status, last.nonce.is_some()), (429, true));
        let said = last.retry_after.unwrap();
        assert!(if as_date { said.ends_with(" GMT") } else { said == "60" }, "{said}");
        assert_eq!(counted(ca, &name).await.orders, 0, "the CA was not asked");
        assert_eq!(ca.counts().await.unwrap().too_early, early);
        client.order(ca, &name).await;
        assert!(ca.counts().await.unwrap().too_early > early, "that was no minute");
    }
}

#[tokio::test]
async fn a_server_error_says_nothing_of_whether_the_ca_acted() {
    for (status, acts) in [(500, false), (502, true), (503, false)] {
        let rule = FaultRule::always(Fault::ServerError { status, acts }).at(&[Asked::NewOrder]).times(1);
        let (ca, client, name) = met(&format!("error-{status}"), rule).await;
        let error = client.try_order(ca, &name).await.err().unwrap();
        let is_said_by_the_ca = kind(error) == "urn:ietf:params:acme:error:serverInternal";
        assert_eq!(is_said_by_the_ca, status == 500);
        assert_eq!(client.last().status, status);
        assert!(client.last().nonce.is_some(), "a signed request used one up");
        assert_eq!(counted(ca, &name).await.orders, u64::from(acts));
        client.issue(ca, &name).await;
    }
}

#[tokio::test]
async fn a_look_at_an_order_that_was_finalized_is_refused() {
    let (ca, client, name) = met("refused", FaultRule::always(Fault::Refused).times(1)).await;
    let mut order = client.order(ca, &name).await;
    client.validate(&mut order).await;
    order.finalize_csr(&csr(&name).1).await.unwrap();
    let refused = order.refresh().await.err().unwrap();
    assert_eq!(kind(refused), "urn:ietf:params:acme:error:unauthorized");
    client.poll(&mut order, OrderStatus::Valid).await;
}

#[tokio::test]
async fn an_answer_stands_still() {
    const STILL: Duration = Duration::from_millis(700);
    let stall = Fault::Stall { ms: u64::try_from(STILL.as_millis()).unwrap() };
    let (ca, client, name) = met("stall", FaultRule::always(stall).at(&[Asked::NewOrder]).times(1)).await;
    let began = Instant::now();
    client.order(ca, &name).await;
    assert!(began.elapsed() >= STILL, "{:?}", began.elapsed());
}

#[tokio::test]
async fn an_order_is_stuck_in_processing_for_so_many_looks() {
    const LOOKS: u32 = 3;
    let rule = FaultRule::always(Fault::Processing { looks: LOOKS }).times(1);
    let (ca, client, name) = met("processing", rule).await;
    let mut order = client.order(ca, &name).await;
    client.validate(&mut order).await;
    order.finalize_csr(&csr(&name).1).await.unwrap();
    assert_eq!(order.state().status, OrderStatus::Processing);
    for _ in 0..LOOKS {
        assert_eq!(order.refresh().await.unwrap().status, OrderStatus::Processing);
    }
    client.poll(&mut order, OrderStatus::Valid).await;
    assert!(order.certificate().await.unwrap().is_some());
    assert_eq!(counted(ca, &name).await, NameSetCounts { orders: 1, finalized: 1, certificates: 1 });
}

#[tokio::test]
async fn an_order_fails_after_it_was_finalized_and_nothing_is_issued() {
    let (ca, client, name) = met("late-failure", FaultRule::always(Fault::LateFailure).times(1)).await;
    let mut order = client.order(ca, &name).await;
    client.validate(&mut order).await;
    order.finalize_csr(&csr(&name).1).await.unwrap();
    assert_eq!(order.state().status, OrderStatus::Processing);
    for _ in 0..2 {
        let state = order.refresh().await.unwrap();
        assert_eq!(state.status, OrderStatus::Invalid);
        assert!(state.error.is_some(), "a client wants to know why");
    }
    let refused = order.finalize_csr(&csr(&name).1).await.unwrap_err();
    assert_eq!(kind(refused), "urn:ietf:params:acme:error:orderNotReady");
    assert_eq!(counted(ca, &name).await.finalized, 0);
    client.issue(ca, &name).await;
}

#[tokio::test]
async fn a_certificate_of_another_key_or_other_names_is_answered() {
    for (beginning, wrong) in [("wrong-key", Wrong::Key), ("wrong-names", Wrong::Names)] {
        let rule = FaultRule::always(Fault::WrongCertificate { wrong }).times(1);
        let (ca, client, name) = met(beginning, rule).await;
        let mut order = client.order(ca, &name).await;
        client.validate(&mut order).await;
        let (key, csr) = csr(&name);
        order.finalize_csr(&csr).await.unwrap();
        client.poll(&mut order, OrderStatus::Valid).await;
        let is_right = async |order: &mut Order| {
            let (spki, names) = certified(&order.certificate().await.unwrap().unwrap());
            (spki == rcgen::PublicKeyData::subject_public_key_info(&key), names == [name.as_str()])
        };
        let seen = is_right(&mut order).await;
        assert_eq!(seen, (wrong == Wrong::Names, wrong == Wrong::Key), "{beginning}");
        assert_eq!(is_right(&mut order).await, (true, true), "{beginning}: the next answer is the CA's own");
    }
}

#[tokio::test]
async fn two_requests_for_the_same_names_get_the_same_order() {
    let (ca, client, name) = met("shared", FaultRule::always(Fault::SharedOrder)).await;
    let first = client.order(ca, &name).await.url().to_owned();
    let mut second = client.order(ca, &name).await;
    assert_eq!(second.url(), first);
    let other = client.order(ca, "shared-other.example.test").await;
    assert_ne!(other.url(), first);
    client.validate(&mut second).await;
    second.finalize_csr(&csr(&name).1).await.unwrap();
    client.poll(&mut second, OrderStatus::Valid).await;
    assert_ne!(client.order(ca, &name).await.url(), first, "that one is not open any more");
    assert_eq!(counted(ca, &name).await.orders, 2);
}

#[tokio::test]
async fn faults_end_when_they_are_ended_and_a_rule_that_means_nothing_is_refused() {
    let ca = Pebble::start().await.unwrap();
    let client = Client::of(&ca).await;
    let broken = Fault::ServerError { status: 500, acts: false };
    ca.inject(&FaultRule::always(broken)).await.unwrap();
    assert!(client.try_order(&ca, "ended.example.test").await.is_err());
    ca.heal().await.unwrap();
    client.issue(&ca, "ended.example.test").await;
    let nonsense = FaultRule::always(Fault::LateFailure).at(&[Asked::Order]);
    let refused = ca.inject(&nonsense).await.unwrap_err().to_string();
    assert!(refused.contains("late-failure means nothing at Order"), "{refused}");
}
