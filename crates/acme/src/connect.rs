// SPDX-License-Identifier: Apache-2.0
//! How CAs are reached: names resolved, connections opened and kept, TLS verified.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cap_core::issuer::TrustRoots;
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use instant_acme::BodyWrapper;
use rustls::{ClientConfig, RootCertStore};
use tower::util::ServiceFn;

use crate::unreachable::Unresolved;

/// The longest time to open a connection, over all addresses of a name.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an idle connection is kept: CAs close theirs after a minute or so, and a request must not meet that.
const IDLE: Duration = Duration::from_secs(30);
/// Idle connections kept to a CA: what a busy worker needs at once.
const IDLE_CONNECTIONS: usize = 32;

type Resolution = Pin<Box<dyn Future<Output = Result<std::vec::IntoIter<SocketAddr>, Unresolved>> + Send>>;
type Resolver = ServiceFn<fn(Name) -> Resolution>;

/// An HTTP client with its connection pool.
pub(crate) type Connections = Client<HttpsConnector<HttpConnector<Resolver>>, BodyWrapper<Bytes>>;

/// A client that speaks HTTPS only, and trusts these roots; the public ones when there are none.
///
/// # Errors
/// The reason why the roots cannot be used.
pub(crate) fn connections(roots: Option<&TrustRoots>, request: Duration) -> Result<Connections, String> {
    let mut tcp = HttpConnector::new_with_resolver(tower::service_fn(resolve as fn(Name) -> Resolution));
    tcp.enforce_http(false);
    // Without it each POST, which is written in two parts, waits for an acknowledgement in between.
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT.min(request)));
    let https = HttpsConnectorBuilder::new()
        .with_tls_config(tls(roots)?)
        .https_only()
        .enable_http1()
        .wrap_connector(tcp);
    let client = Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(IDLE_CONNECTIONS)
        .build(https);
    Ok(client)
}

/// The provider is named here, so that nothing depends on who installed which one as the process's default.
fn tls(roots: Option<&TrustRoots>) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let Some(roots) = roots else {
        return Ok(builder.with_webpki_roots().with_no_client_auth());
    };
    let mut store = RootCertStore::empty();
    for certificate in roots.certificates() {
        store.add(certificate).map_err(|error| error.to_string())?;
    }
    Ok(builder.with_root_certificates(store).with_no_client_auth())
}

fn resolve(name: Name) -> Resolution {
    Box::pin(async move {
        let addresses = tokio::net::lookup_host((name.as_str(), 0)).await;
        let addresses: Vec<_> = addresses.map_err(|error| Unresolved(error.to_string()))?.collect();
        Ok(addresses.into_iter())
    })
}
