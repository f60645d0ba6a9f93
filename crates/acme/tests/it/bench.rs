// SPDX-License-Identifier: Apache-2.0
//! What every test here starts with: a CA, a clock, an issuer, an HTTP-01 responder.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use cap_acme::Acme;
use cap_core::certificate::account_key;
use cap_core::clock::Clock;
use cap_core::id::IssuerId;
use cap_core::issuer::IssuerSpec;
use cap_core::limits;
use cap_core::name::Identifier;
use cap_core::order::{
    Authorization, CaAccount, CaError, CaRequest, CertificateAuthority, Found, Placed, RemoteOrder, Seen,
};
use cap_core::renewal_info::AriId;
use cap_testkit::ca::{Http01Responder, Pebble, loopback_address};
use jiff::Timestamp;
use prometheus::Registry;

/// How long a CA on this host may take to come to a verdict.
const VERDICT: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Civil time stands still, the boot clock runs.
#[derive(Debug)]
struct TestClock(Instant);

#[async_trait]
impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        "2026-10-21T07:28:00Z".parse().unwrap()
    }

    fn boottime(&self) -> Duration {
        self.0.elapsed()
    }

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

/// A process of ours, as far as CAs can tell.
pub(crate) struct Bench {
    pub(crate) acme: Acme,
    pub(crate) registry: Registry,
    pub(crate) request: CaRequest,
    pub(crate) account_url: String,
    pub(crate) account: Arc<dyn CaAccount>,
    responder: Http01Responder,
    address: Ipv4Addr,
}

/// A client with metrics of its own.
pub(crate) fn acme() -> (Acme, Registry) {
    let registry = Registry::new();
    (Acme::new(clock(), limits::CA_REQUEST, &registry).unwrap(), registry)
}

pub(crate) fn clock() -> Arc<dyn Clock> {
    Arc::new(TestClock(Instant::now()))
}

/// A request to the CA at `directory`, with a key of its own.
pub(crate) fn request(directory: &str, trust_roots: Option<&str>) -> CaRequest {
    let issuer: IssuerId = format!("{}_0192f0c1a3d27b4e8f6a5c4d3e2f1a0b", IssuerId::PREFIX).parse().unwrap();
    let contacts = vec!["mailto:ops@example.com".parse().unwrap()];
    let roots = trust_roots.map(|pem| pem.parse().unwrap());
    CaRequest {
        issuer,
        spec: IssuerSpec::new(directory.parse().unwrap(), roots, contacts).unwrap(),
        account_key: Arc::new(account_key().unwrap()),
        external: None,
    }
}

impl Bench {
    pub(crate) async fn of(ca: &Pebble) -> Self {
        let (acme, registry) = acme();
        let roots = fs::read_to_string(ca.ca_file()).unwrap();
        let request = request(ca.directory_url(), Some(&roots));
        let account_url = patiently(async || acme.register(&request).await).await;
        let account = patiently(async || acme.account(&request, &account_url).await).await;
        let address = loopback_address().unwrap();
        let responder = Http01Responder::start(address, ca.http_port()).await.unwrap();
        Self { acme, registry, request, account_url, account, responder, address }
    }

    /// Places an order for a name that leads here.
    pub(crate) async fn place(&self, ca: &Pebble, name: &str) -> (Placed, Seen, Box<dyn RemoteOrder>) {
        ca.set_a(name, &[IpAddr::V4(self.address)]).await.unwrap();
        let names = [name.parse::<Identifier>().unwrap()];
        heard(patiently(async || self.account.place(&names, None, None).await).await)
    }

    /// Places an order that replaces another certificate, for a name that leads here.
    pub(crate) async fn replace(
        &self,
        ca: &Pebble,
        name: &str,
        replaces: Option<&AriId>,
    ) -> Result<(Placed, Seen, Box<dyn RemoteOrder>), CaError> {
        ca.set_a(name, &[IpAddr::V4(self.address)]).await.unwrap();
        self.account.place(&[name.parse::<Identifier>().unwrap()], None, replaces).await.map(heard)
    }

    /// Answers every challenge of the order that is open; says how many.
    pub(crate) async fn answer(&self, order: &mut Box<dyn RemoteOrder>) -> usize {
        let mut answered = 0;
        while let Err(error) = order.authorizations().await {
            assert!(matches!(error, CaError::Transient(_)), "{error}");
        }
        for authorization in order.authorizations().await.unwrap().said {
            match authorization {
                Authorization::Valid => {}
                Authorization::Pending { token, key_authorization, .. } => {
                    self.responder.put(&token.to_string(), &key_authorization);
                    answered += 1;
                }
                Authorization::Unusable(problem) => panic!("{problem}"),
            }
        }
        answered
    }

    /// The value of a counter, summed over the labels that are not given.
    pub(crate) fn counted(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name);
        let metrics = family.map(|family| family.get_metric().iter()).into_iter().flatten();
        let fits = metrics.filter(|metric| {
            let has = |(key, value): &(&str, &str)| {
                metric.get_label().iter().any(|pair| pair.name() == *key && pair.value() == *value)
            };
            labels.iter().all(has)
        });
        fits.map(|metric| metric.get_counter().get_value()).sum()
    }
}

/// An order that was placed, and what was said of it: this CA answers newOrder with all that there is.
pub(crate) fn heard((placed, found): (Placed, Option<Found>)) -> (Placed, Seen, Box<dyn RemoteOrder>) {
    let (reply, order) = found.unwrap();
    (placed, reply.said, order)
}

/// Looks until the order is in none of these states; passing faults are passed over.
pub(crate) async fn until_not(order: &mut Box<dyn RemoteOrder>, busy: &[Seen]) -> Seen {
    let began = Instant::now();
    loop {
        match order.look().await {
            Ok(reply) if !busy.contains(&reply.said) => return reply.said,
            Ok(_) | Err(CaError::Transient(_)) => {}
            Err(error) => panic!("{error}"),
        }
        assert!(began.elapsed() < VERDICT, "the CA does not come to a verdict");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Repeats what failed in passing.
pub(crate) async fn patiently<T>(act: impl AsyncFn() -> Result<T, CaError>) -> T {
    let began = Instant::now();
    loop {
        match act().await {
            Ok(value) => return value,
            Err(CaError::Transient(problem)) => assert!(began.elapsed() < VERDICT, "{problem}"),
            Err(error) => panic!("{error}"),
        }
    }
}

/// A signing request for one name.
pub(crate) fn csr(name: &str) -> Vec<u8> {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.serialize_request(&key).unwrap().der().to_vec()
}
