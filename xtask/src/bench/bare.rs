// SPDX-License-Identifier: Apache-2.0
//! The baseline: an instant-acme loop that stores nothing, forgets everything, and has nobody to share with.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use cap_testkit::ca::{Http01Responder, Pebble};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, Identifier, NewAccount, NewOrder, Order, OrderStatus,
};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::task::JoinSet;

/// Where its responder answers, beside the api's addresses.
const RESPONDER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 200);
/// The first wait between two looks at an order, and the longest: the same as the engine's first steps.
const LOOK: Duration = Duration::from_millis(10);
const LOOK_MAX: Duration = Duration::from_millis(640);
/// How often an order is begun that the CA says it failed itself.
const TRIES: u32 = 5;
/// Looks at one order before the CA is taken for stuck.
const LOOKS: u32 = 60;

/// A bare client of one CA.
pub(crate) struct Bare {
    account: Account,
    responder: Arc<Http01Responder>,
}

impl Bare {
    pub(crate) async fn new(ca: &Pebble) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(ca.ca_file())?)?;
        let tls = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        // Without it each POST waits for a delayed acknowledgement, and the baseline would be a straw man.
        tcp.set_nodelay(true);
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http1().wrap_connector(tcp);
        let http = Client::builder(TokioExecutor::new()).build(connector);
        let registration =
            NewAccount { contact: &[], terms_of_service_agreed: true, only_return_existing: false };
        let (account, _) = Account::builder_with_http(Box::new(http))
            .create(&registration, ca.directory_url().to_owned(), None)
            .await
            .context("registering the baseline's account")?;
        let responder = Arc::new(Http01Responder::start(RESPONDER, ca.http_port()).await?);
        Ok(Self { account, responder })
    }

    /// Points `names` at the responder: not part of what is timed.
    pub(crate) async fn prepare(&self, ca: &Pebble, names: &[String]) -> anyhow::Result<()> {
        let dns = ca.dns()?;
        for name in names {
            dns.set_a(name, &[IpAddr::V4(RESPONDER)]).await?;
        }
        Ok(())
    }

    /// Buys a certificate for each name, `in_flight` at a time; the time that it took.
    pub(crate) async fn issue(&self, names: &[String], in_flight: usize) -> anyhow::Result<Duration> {
        let started = Instant::now();
        let mut running = JoinSet::new();
        for name in names {
            if running.len() == in_flight {
                running.join_next().await.context("a running order")???;
            }
            running.spawn(again_and_again(self.account.clone(), self.responder.clone(), name.clone()));
        }
        while let Some(done) = running.join_next().await {
            done??;
        }
        Ok(started.elapsed())
    }
}

/// step-ca answers 500 now and then: whoever remembers nothing begins again.
async fn again_and_again(
    account: Account,
    responder: Arc<Http01Responder>,
    name: String,
) -> anyhow::Result<()> {
    for _ in 1..TRIES {
        let done = one(account.clone(), responder.clone(), name.clone()).await;
        if done.as_ref().err().is_none_or(|error| !is_the_cas_own(error)) {
            return done;
        }
    }
    one(account, responder, name).await
}

fn is_the_cas_own(error: &anyhow::Error) -> bool {
    let problem = error.chain().find_map(|cause| match cause.downcast_ref() {
        Some(instant_acme::Error::Api(problem)) => problem.r#type.as_deref(),
        _ => None,
    });
    problem.is_some_and(|kind| kind.ends_with(":serverInternal"))
}

async fn one(account: Account, responder: Arc<Http01Responder>, name: String) -> anyhow::Result<()> {
    let identifiers = [Identifier::Dns(name.clone())];
    let mut order = account.new_order(&NewOrder::new(&identifiers)).await.context("newOrder")?;
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.context("reading an authorization")?;
        if authorization.status == AuthorizationStatus::Valid {
            continue;
        }
        let mut challenge = authorization.challenge(ChallengeType::Http01).context("no HTTP-01 challenge")?;
        let token = challenge.token.clone();
        responder.put(&token, challenge.key_authorization().as_str());
        challenge.set_ready().await.context("submitting a challenge")?;
    }
    settle(&mut order, &name, OrderStatus::Ready).await?;
    let key = rcgen::KeyPair::generate()?;
    let mut params = rcgen::CertificateParams::new(vec![name.clone()])?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    order.finalize_csr(params.serialize_request(&key)?.der()).await.context("finalize")?;
    settle(&mut order, &name, OrderStatus::Valid).await?;
    let chain = order.certificate().await.context("fetching the certificate")?;
    ensure!(chain.is_some_and(|chain| chain.contains("BEGIN CERTIFICATE")), "{name}: no certificate");
    Ok(())
}

/// Looks at the order until it is as wanted, as the engine does.
async fn settle(order: &mut Order, name: &str, wanted: OrderStatus) -> anyhow::Result<()> {
    let mut wait = LOOK;
    for _ in 0..LOOKS {
        let status = order.refresh().await.context("looking at an order")?.status;
        if status == wanted {
            return Ok(());
        }
        ensure!(status != OrderStatus::Invalid, "{name}: the CA refused: {:?}", order.state().error);
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LOOK_MAX);
    }
    bail!("{name}: the CA is stuck")
}
