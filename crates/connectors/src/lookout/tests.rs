// SPDX-License-Identifier: Apache-2.0
//! What is seen of real servers: their certificate whatever it is, or why there is none.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig, version};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::outbound::tests::Told;

/// A bound for what shall never answer: short, so that the test is.
const SHORT: Duration = Duration::from_millis(500);

/// A certificate that no client would trust: self-signed, over before it began to be of use.
fn leaf(name: &str) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2000, 1, 1);
    params.not_after = rcgen::date_time_ymd(2000, 2, 1);
    let certificate = params.self_signed(&key).unwrap();
    (certificate.der().clone(), PrivatePkcs8KeyDer::from(key.serialize_der()).into())
}

/// Accepts by TLS, and answers how many octets came after the handshake, once somebody has come and gone.
async fn serve(config: ServerConfig) -> (SocketAddr, tokio::task::JoinHandle<usize>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let served = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let Ok(mut stream) = TlsAcceptor::from(Arc::new(config)).accept(stream).await else { return 0 };
        let mut octets = Vec::new();
        let _ = stream.read_to_end(&mut octets).await;
        octets.len()
    });
    (address, served)
}

fn server() -> rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier> {
    ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
}

fn lookout(listed: &str, bound: Duration) -> TlsLookout {
    let rule = Outbound::allowing(vec![listed.parse().unwrap()]);
    TlsLookout { bound, ..TlsLookout::new(rule) }
}

fn look(address: SocketAddr) -> Look {
    Look {
        name: "a.example.test".parse().unwrap(),
        host: address.ip().to_string(),
        port: address.port(),
        server_name: "a.example.test".into(),
    }
}

async fn seen(address: SocketAddr) -> Result<Vec<u8>, String> {
    let mut seen = lookout("127.0.0.0/8", DRIFT_LOOK).look(&look(address)).await;
    assert_eq!(seen.len(), 1);
    seen.remove(0).leaf
}

#[tokio::test]
async fn an_expired_certificate_of_nobodys_is_seen_and_nothing_is_said() {
    for versions in [&[&version::TLS13], &[&version::TLS12]] {
        let (certificate, key) = leaf("other.example.test");
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        let (address, served) = serve(config).await;
        assert_eq!(seen(address).await.as_deref(), Ok(certificate.as_ref()));
        assert_eq!(served.await.unwrap(), 0, "octets of an application were sent");
    }
}

#[tokio::test]
async fn a_server_that_wants_a_certificate_of_ours_has_shown_its_own() {
    let (certificate, key) = leaf("a.example.test");
    let mut roots = RootCertStore::empty();
    roots.add(leaf("ca.example.test").0).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    for version in [&version::TLS13, &version::TLS12] {
        let config = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_client_cert_verifier(clients.clone().build().unwrap())
            .with_single_cert(vec![certificate.clone()], key.clone_key())
            .unwrap();
        let (address, _served) = serve(config).await;
        assert_eq!(seen(address).await.as_deref(), Ok(certificate.as_ref()));
    }
}

/// Presents a certificate to whoever asks for one name, and none to others.
#[derive(Debug)]
struct Named(Arc<CertifiedKey>);

impl ResolvesServerCert for Named {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        (hello.server_name() == Some("a.example.test")).then(|| self.0.clone())
    }
}

#[tokio::test]
async fn the_server_is_asked_for_the_name() {
    let (certificate, key) = leaf("a.example.test");
    let key = aws_lc_rs::sign::any_supported_type(&key).unwrap();
    let named = Arc::new(Named(Arc::new(CertifiedKey::new(vec![certificate.clone()], key))));
    let config = || server().with_no_client_auth().with_cert_resolver(named.clone());
    let (address, _served) = serve(config()).await;
    assert_eq!(seen(address).await.as_deref(), Ok(certificate.as_ref()));
    let (address, _served) = serve(config()).await;
    let other = Look { server_name: "b.example.test".into(), ..look(address) };
    let refused = lookout("127.0.0.0/8", DRIFT_LOOK).look(&other).await.remove(0).leaf;
    assert!(refused.unwrap_err().contains("handshake failed"));
}

#[tokio::test]
async fn nothing_there_something_silent_and_something_else_are_told_apart() {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let gone = free.local_addr().unwrap();
    drop(free);
    let refused = seen(gone).await.unwrap_err();
    assert!(refused.contains("no connection") && refused.contains("refused"), "{refused}");

    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let began = Instant::now();
    let seen_there = lookout("127.0.0.0/8", SHORT).look(&look(silent.local_addr().unwrap())).await;
    let why = seen_there[0].leaf.clone().unwrap_err();
    assert!(why.contains("did not shake hands by TLS within 0.5 s"), "{why}");
    assert!(began.elapsed() >= SHORT && began.elapsed() < DRIFT_LOOK, "{:?}", began.elapsed());
    assert_eq!(seen_there[0].address, silent.local_addr().ok());

    let plain = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = plain.local_addr().unwrap();
    tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        let (mut stream, _) = plain.accept().await.unwrap();
        stream.write_all(b"220 mail.example.test ESMTP\r\n").await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    assert!(seen(address).await.unwrap_err().contains("the TLS handshake failed"));
}

#[tokio::test]
async fn what_the_filter_refuses_is_never_connected_to() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let came = Arc::new(AtomicUsize::new(0));
    let counted = came.clone();
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    for host in ["127.0.0.1", "::ffff:127.0.0.1", "localhost"] {
        let look = Look { host: host.into(), ..look(address) };
        let seen = lookout("10.0.0.0/8", DRIFT_LOOK).look(&look).await;
        assert!(seen.iter().all(|seen| seen.address.is_none()), "{seen:?}");
        assert!(seen[0].leaf.clone().unwrap_err().contains("CAP_OUTBOUND_PRIVATE"), "{seen:?}");
    }
    assert_eq!(came.load(Ordering::SeqCst), 0);
    // The listener does count: the same look, allowed.
    lookout("127.0.0.0/8", SHORT).look(&look(address)).await;
    assert_eq!(came.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn no_more_than_a_few_of_many_addresses_are_looked_at() {
    let many: Vec<IpAddr> = (1..=20).map(|n| IpAddr::from([127, 0, 0, n])).collect();
    let rule = Outbound::allowing(vec!["127.0.0.0/8".parse().unwrap()]);
    let filter = Filter::new(rule.clone(), Box::new(Told(many)));
    let lookout = TlsLookout { filter, bound: SHORT, ..TlsLookout::new(rule) };
    let look = Look { host: "many.example.test".into(), ..look("127.0.0.1:1".parse().unwrap()) };
    assert_eq!(lookout.look(&look).await.len(), DRIFT_ADDRESSES);
}
