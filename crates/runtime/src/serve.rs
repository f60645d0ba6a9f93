// SPDX-License-Identifier: Apache-2.0
//! Serving HTTP with bounds: connections, the size of a head, the time that it may take to arrive, idle time, the time
//! that an answer may lie untaken.

mod crowd;
mod turn;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::extract::ConnectInfo;
use axum::response::Response;
use http_body_util::BodyExt;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use secrecy::ExposeSecret;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::config::{TlsFiles, secret_file};

use crowd::Crowd;
use turn::{Timed, Turn};

/// How long a connection may idle between two requests. Longer than load balancers keep theirs, which is 60 s with most:
/// of two sides, the one that sends requests must be the first to close, or a request meets a closed connection.
pub const IDLE: Duration = Duration::from_secs(90);

/// How long a peer may take no octet of an answer: the answer stays in memory until it has.
pub const STALL: Duration = Duration::from_secs(30);

/// The wait after the kernel gave no connection (too many open files, say): trying on at once would only burn time.
const ACCEPT_WAIT: Duration = Duration::from_millis(100);

/// The bounds of a listener.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Connections at once; more wait in the kernel's queue.
    pub connections: usize,
    /// How long the head of a request may take: the first one from the beginning of the connection, later ones from
    /// their first octet.
    pub head: Duration,
    /// How long a connection may idle after an answer; [`IDLE`] unless there is a reason.
    pub idle: Duration,
    /// Octets of a head.
    pub head_octets: usize,
    /// Connections of one address at once; one more is closed, so that no single one can take all of them.
    pub each: usize,
    /// How long the peer may take no octet of an answer; [`STALL`] unless there is a reason.
    pub stall: Duration,
}

/// What a TLS listener needs, from PEM files.
///
/// # Errors
/// When a file cannot be read, others may read or change the key, or the two do not belong together.
pub fn tls(files: &TlsFiles) -> anyhow::Result<TlsAcceptor> {
    let (certificate, key) = (files.certificate.display(), files.key.display());
    let chain =
        CertificateDer::pem_file_iter(&files.certificate).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.with_context(|| format!("CAP_API_TLS_CERT_FILE: {certificate} is not a PEM chain"))?;
    anyhow::ensure!(!chain.is_empty(), "CAP_API_TLS_CERT_FILE: {certificate} holds no certificate");
    let pem = secret_file::read(&files.key);
    let pem = pem.map_err(|(why, remedy)| anyhow::anyhow!("CAP_API_TLS_KEY_FILE: {why}; {remedy}"))?;
    let secret = PrivateKeyDer::from_pem_slice(pem.expose_secret().as_bytes());
    let secret = secret.with_context(|| format!("CAP_API_TLS_KEY_FILE: {key} is not a PEM private key"))?;
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, secret);
    let config = config.with_context(|| format!("{certificate} and {key} do not belong together"))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Serves HTTP/1.1 on `listener`, over TLS if given, until `stop`, then lets the requests in flight end. It is for the
/// caller to bound how long that may take.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    tls: Option<TlsAcceptor>,
    bounds: Bounds,
    stop: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(bounds.connections));
    let connections = TaskTracker::new();
    let crowd = Crowd::new(bounds.each);
    loop {
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place,
            () = stop.cancelled() => break,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let Some(own) = crowd.enter(peer.ip()) else {
                    tracing::debug!(%peer, "its address has as many connections as it may; one more is closed");
                    continue;
                };
                // Answers are small: waiting to fill a packet would only delay them.
                let _ = stream.set_nodelay(true);
                let (router, tls, stop) = (router.clone(), tls.clone(), stop.clone());
                connections.spawn(async move {
                    match tls {
                        None => connection(stream, peer, router, bounds, stop).await,
                        Some(tls) => match tokio::time::timeout(bounds.head, tls.accept(stream)).await {
                            Ok(Ok(stream)) => connection(stream, peer, router, bounds, stop).await,
                            Ok(Err(error)) => tracing::debug!(%peer, %error, "no TLS session"),
                            Err(_) => tracing::debug!(%peer, "no TLS session in time"),
                        },
                    }
                    drop((place, own));
                });
            }
            Err(error) => {
                tracing::debug!(%error, "no connection was accepted");
                tokio::time::sleep(ACCEPT_WAIT).await;
            }
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// Serves HTTP/1.1 on one connection, TLS or not, until it ends or, after `stop`, its request in flight has ended.
async fn connection<IO>(io: IO, peer: SocketAddr, router: Router, bounds: Bounds, stop: CancellationToken)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let turn = Turn::first(bounds.head);
    let (asked, answered) = (turn.clone(), turn.clone());
    let router = router.map_request(move |mut request: http::Request<_>| {
        asked.answering();
        request.extensions_mut().insert(ConnectInfo(peer));
        request
    });
    let service = TowerToHyperService::new(router.map_response(move |response: Response| {
        let over = answered.until_dropped();
        response.map(|body| {
            body.map_err(move |error| {
                // Held by the body: once its last octet is on its way, or it is given up, the connection idles.
                let _ = &over;
                error
            })
        })
    }));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.idle)
        .max_buf_size(bounds.head_octets)
        .serve_connection(TokioIo::new(Timed::new(io, turn, bounds.head, bounds.stall)), service);
    let mut served = std::pin::pin!(served);
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

#[cfg(test)]
mod tests;
