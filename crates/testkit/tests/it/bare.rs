// SPDX-License-Identifier: Apache-2.0
//! A client that is not ours, and stores nothing.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use cap_testkit::ca::{Http01Responder, Pebble, loopback_address};
use http::header::RETRY_AFTER;
use http::{HeaderMap, Request};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as LegacyClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use instant_acme::{
    Account, AuthorizationStatus, BodyWrapper, BytesResponse, ChallengeType, Error, HttpClient, Identifier,
    NewAccount, NewOrder, Order, OrderStatus,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

/// One order; a call that the CA never answers ends after 30 s at the proxy.
const POLL_LIMIT_SECONDS: u64 = 60;

/// A client of one CA.
pub(crate) struct Client {
    account: Account,
    responder: Http01Responder,
    address: Ipv4Addr,
    last: Arc<Mutex<Last>>,
}

/// What the last answer said beside its body.
#[derive(Clone, Debug, Default)]
pub(crate) struct Last {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<String>,
    pub(crate) nonce: Option<String>,
}

impl Client {
    pub(crate) async fn of(ca: &Pebble) -> Self {
        cap_testkit::tls::install();
        let address = loopback_address().unwrap();
        let responder = Http01Responder::start(address, ca.http_port()).await.unwrap();
        let new = NewAccount { contact: &[], terms_of_service_agreed: true, only_return_existing: false };
        let last = Arc::new(Mutex::default());
        let noting = Noting { client: http_client(ca), last: last.clone() };
        let builder = Account::builder_with_http(Box::new(noting));
        let (account, _) = builder.create(&new, ca.directory_url().to_owned(), None).await.unwrap();
        Self { account, responder, address, last }
    }

    /// What the last answer said beside its body.
    pub(crate) fn last(&self) -> Last {
        self.last.lock().unwrap().clone()
    }

    pub(crate) async fn order(&self, ca: &Pebble, name: &str) -> Order {
        self.try_order(ca, name).await.unwrap()
    }

    pub(crate) async fn try_order(&self, ca: &Pebble, name: &str) -> Result<Order, Error> {
        ca.set_a(name, &[IpAddr::V4(self.address)]).await.unwrap();
        self.account.new_order(&NewOrder::new(&[Identifier::Dns(name.to_owned())])).await
    }

    pub(crate) async fn validate(&self, order: &mut Order) {
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization.unwrap();
            if authorization.status == AuthorizationStatus::Valid {
                continue;
            }
            let mut challenge = authorization.challenge(ChallengeType::Http01).unwrap();
            let key_authorization = challenge.key_authorization();
            self.responder.put(&challenge.token, key_authorization.as_str());
            challenge.set_ready().await.unwrap();
        }
        self.poll(order, OrderStatus::Ready).await;
    }

    pub(crate) async fn issue(&self, ca: &Pebble, name: &str) -> String {
        let mut order = self.order(ca, name).await;
        self.validate(&mut order).await;
        order.finalize().await.unwrap();
        self.poll(&mut order, OrderStatus::Valid).await;
        order.certificate().await.unwrap().unwrap()
    }

    /// As fast as the CA answers: that is what it must bear.
    pub(crate) async fn poll(&self, order: &mut Order, wanted: OrderStatus) {
        let polled = async {
            while order.refresh().await.unwrap().status != wanted {
                assert_ne!(order.state().status, OrderStatus::Invalid);
            }
        };
        tokio::time::timeout(Duration::from_secs(POLL_LIMIT_SECONDS), polled).await.unwrap();
    }
}

/// Without TCP_NODELAY each request takes 40 ms, and the CA is never really busy.
fn http_client(ca: &Pebble) -> LegacyClient<HttpsConnector<HttpConnector>, BodyWrapper<Bytes>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca.ca_file()).unwrap()).unwrap();
    let tls = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let mut tcp = HttpConnector::new();
    tcp.set_nodelay(true);
    tcp.enforce_http(false);
    let tls =
        HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http1().wrap_connector(tcp);
    LegacyClient::builder(TokioExecutor::new()).build(tls)
}

/// Notes what each answer says.
struct Noting {
    client: LegacyClient<HttpsConnector<HttpConnector>, BodyWrapper<Bytes>>,
    last: Arc<Mutex<Last>>,
}

impl HttpClient for Noting {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let (answer, last) = (HttpClient::request(&self.client, request), self.last.clone());
        Box::pin(async move {
            let answer = answer.await?;
            let text = |headers: &HeaderMap, name: &str| {
                headers.get(name).map(|value| value.to_str().unwrap().to_owned())
            };
            let headers = &answer.parts.headers;
            *last.lock().unwrap() = Last {
                status: answer.parts.status.as_u16(),
                retry_after: text(headers, RETRY_AFTER.as_str()),
                nonce: text(headers, "replay-nonce"),
            };
            Ok(answer)
        })
    }
}
