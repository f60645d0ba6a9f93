// SPDX-License-Identifier: Apache-2.0
//! Claims about TLS listeners; those about plain ones are the admin listener's.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use axum::routing::get;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::*;
use crate::harden;

const PATIENCE: Duration = Duration::from_secs(10);
const BOUNDS: Bounds = Bounds {
    connections: 8,
    head: Duration::from_millis(300),
    idle: IDLE,
    head_octets: 16 * 1024,
    each: 8,
    stall: STALL,
};

/// Files of a certificate for `localhost`, and a client that trusts it.
fn identity(dir: &TempDir, name: &str) -> (TlsFiles, TlsConnector) {
    harden::tls();
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let path = |end: &str| dir.path().join(format!("{name}.{end}"));
    let files = TlsFiles { certificate: path("crt"), key: path("key") };
    fs::write(&files.certificate, cert.pem()).unwrap();
    fs::write(&files.key, signing_key.serialize_pem()).unwrap();
    fs::set_permissions(&files.key, Permissions::from_mode(0o600)).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    (files, TlsConnector::from(Arc::new(client)))
}

async fn open(files: &TlsFiles) -> (SocketAddr, CancellationToken) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let tell_peer = |ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.ip().to_string() };
    let router = Router::new().route("/", get(tell_peer));
    let stop = CancellationToken::new();
    tokio::spawn(serve(listener, router, Some(tls(files).unwrap()), BOUNDS, stop.clone()));
    (at, stop)
}

#[tokio::test]
async fn a_tls_listener_answers_and_knows_its_peer() {
    let dir = tempfile::tempdir().unwrap();
    let (files, client) = identity(&dir, "a");
    let (at, _stop) = open(&files).await;
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TcpStream::connect(at).await.unwrap();
    let mut stream = client.connect(name, stream).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("an answer in time").unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("127.0.0.1"), "{answer}");
}

#[tokio::test]
async fn who_speaks_no_tls_or_dawdles_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let (files, _client) = identity(&dir, "a");
    let (at, _stop) = open(&files).await;
    for words in ["", "GET / HTTP/1.1\r\n\r\n"] {
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(words.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // A reset is an end, too.
        let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("an end in time");
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{words}");
    }
}

#[test]
fn files_that_are_missing_or_do_not_belong_together_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let ((one, _), (other, _)) = (identity(&dir, "a"), identity(&dir, "b"));
    assert!(tls(&one).is_ok());
    let missing = TlsFiles { key: dir.path().join("none"), ..one.clone() };
    let mixed = TlsFiles { key: other.key, ..one.clone() };
    let swapped = TlsFiles { certificate: one.key.clone(), key: one.key.clone() };
    let exposed = TlsFiles { key: dir.path().join("exposed"), ..one.clone() };
    fs::copy(&one.key, &exposed.key).unwrap();
    fs::set_permissions(&exposed.key, Permissions::from_mode(0o644)).unwrap();
    for (files, told) in [
        (exposed, "others may read or change"),
        (missing, "CAP_API_TLS_KEY_FILE"),
        (mixed, "do not belong together"),
        (swapped, "holds no certificate"),
    ] {
        let Err(error) = tls(&files) else { panic!("{told}: accepted") };
        assert!(format!("{error:#}").contains(told), "{error:#}");
    }
}
