// SPDX-License-Identifier: Apache-2.0
//! Calls to Pebble: TLS, kept-alive connections, bounded in time and size.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

/// Pebble answers within milliseconds; one that takes this long hangs, and says so by a 504.
const CALL_LIMIT_SECONDS: u64 = 30;
/// A chain of a few certificates, a list of orders.
const MAX_ANSWER_BYTES: usize = 4 * 1024 * 1024;
/// More than any number of requests at once in a test.
const MAX_IDLE_CONNECTIONS: usize = 512;

/// A client of Pebble's.
#[derive(Debug)]
pub(super) struct Upstream {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    address: SocketAddr,
}

impl Upstream {
    pub(super) fn new(address: SocketAddr, root_file: &Path) -> anyhow::Result<Self> {
        let root = CertificateDer::from_pem_file(root_file);
        let root = root.map_err(|error| anyhow!("reading {}: {error}", root_file.display()))?;
        let mut roots = rustls::RootCertStore::empty();
        roots.add(root)?;
        let tls = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        tcp.enforce_http(false);
        let tls =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http1().wrap_connector(tcp);
        let client =
            Client::builder(TokioExecutor::new()).pool_max_idle_per_host(MAX_IDLE_CONNECTIONS).build(tls);
        Ok(Self { client, address })
    }

    /// Sends the request on, its Host header as it came, and returns the whole answer.
    pub(super) async fn call(&self, mut request: Request<Bytes>) -> anyhow::Result<Response<Bytes>> {
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let uri: Uri = format!("https://{}{path}", self.address).parse()?;
        *request.uri_mut() = uri;
        let call = async {
            let answer = self.client.request(request.map(Full::new)).await.context("calling the CA")?;
            let (parts, body) = answer.into_parts();
            let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
            let body = body.map_err(|error| anyhow!("reading the CA's answer: {error}"))?;
            Ok(Response::from_parts(parts, body.to_bytes()))
        };
        let limit = Duration::from_secs(CALL_LIMIT_SECONDS);
        tokio::time::timeout(limit, call)
            .await
            .unwrap_or_else(|_| Err(anyhow!("the CA gave no answer in {limit:?}")))
    }
}
