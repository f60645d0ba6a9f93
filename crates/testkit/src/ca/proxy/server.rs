// SPDX-License-Identifier: Apache-2.0
//! The ACME side: one request in, past the faults, through the gate, one answer out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::faults::{self, Asking, Cut};
use super::route::Route;
use super::{ProxyConfig, Shared, control};
use crate::progress::say;

/// A signed request with a CSR of a hundred names is some 10 KB.
const MAX_REQUEST_BYTES: usize = 256 * 1024;
/// A client that opens a connection and says nothing.
const HANDSHAKE_LIMIT_SECONDS: u64 = 10;

/// The headers that belong to one connection and not to the message (RFC 9110, section 7.6.1).
const HOP_BY_HOP: &[HeaderName] = &[CONNECTION, TRANSFER_ENCODING, CONTENT_LENGTH];

/// Listeners that are bound and not yet served.
pub(super) struct Servers {
    acme: TcpListener,
    control: TcpListener,
    acceptor: TlsAcceptor,
    shared: Arc<Shared>,
}

/// Binds both ports.
pub(super) async fn listen(config: &ProxyConfig, shared: Arc<Shared>) -> anyhow::Result<Servers> {
    let bind =
        async |address| TcpListener::bind(address).await.with_context(|| format!("listening at {address}"));
    let file = |path: &std::path::Path, error| anyhow!("reading {}: {error}", path.display());
    let certificates = CertificateDer::pem_file_iter(&config.certificate_file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| file(&config.certificate_file, error))?;
    let key =
        PrivateKeyDer::from_pem_file(&config.key_file).map_err(|error| file(&config.key_file, error))?;
    let mut tls =
        rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(certificates, key)?;
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    Ok(Servers { acme: bind(config.listen).await?, control: bind(config.control).await?, acceptor, shared })
}

impl Servers {
    /// Serves until it is dropped.
    pub(super) async fn run(self) {
        let Self { acme, control, acceptor, shared } = self;
        tokio::join!(serve_acme(acme, acceptor, shared.clone()), control::serve(control, shared));
    }
}

async fn serve_acme(listener: TcpListener, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(serve_connection(stream, acceptor.clone(), shared.clone()));
            }
            // Out of file descriptors, for one: the next accept may succeed.
            Err(error) => {
                say(format_args!("the CA proxy cannot accept: {error}"));
                tokio::task::yield_now().await;
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    // Without it each answer waits for the client's delayed acknowledgement.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let handshake =
        tokio::time::timeout(Duration::from_secs(HANDSHAKE_LIMIT_SECONDS), acceptor.accept(stream));
    let Ok(Ok(stream)) = handshake.await else { return };
    let reset = Arc::new(AtomicBool::new(false));
    let told = reset.clone();
    let service = service_fn(move |request| {
        let (shared, told) = (shared.clone(), told.clone());
        async move {
            let answer = handle(request, shared).await;
            told.store(matches!(answer, Err(Cut::Reset)), Ordering::Relaxed);
            answer.map(|answer| answer.map(Full::new))
        }
    });
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // A client that is killed in mid-request is what the drills are about.
    let _left = (&mut connection).await;
    if reset.load(Ordering::Relaxed) {
        // What is closed with no time to linger is reset.
        let stream = connection.into_parts().io.into_inner();
        let _gone_already = stream.get_ref().0.set_zero_linger();
    }
}

async fn handle(request: Request<Incoming>, shared: Arc<Shared>) -> Result<Response<Bytes>, Cut> {
    let (parts, body) = request.into_parts();
    let body = match Limited::new(body, MAX_REQUEST_BYTES).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return Ok(refuse(StatusCode::PAYLOAD_TOO_LARGE, &error.to_string())),
    };
    let route = Route::of(parts.uri.path());
    let names = shared.ledger.names_of(&route, &body);
    let asking = Asking { route, names, body: body.clone() };
    let request = Request::from_parts(parts, body);
    shared.faults.note_time(&asking);
    let answer = match (shared.faults.refuse(&asking), shared.faults.draw(&asking)) {
        (Some(refusal), _) => Ok(refusal),
        (None, Some(fault)) => {
            faults::inject(&shared.faults, &fault, &asking, ask(request, asking.clone(), shared.clone()))
                .await
        }
        (None, None) => {
            let answer = ask(request, asking.clone(), shared.clone()).await;
            Ok(shared.faults.distort(&asking, answer))
        }
    };
    tokio::time::sleep(shared.delay()).await;
    answer
}

/// The CA's own answer.
async fn ask(request: Request<Bytes>, asking: Asking, shared: Arc<Shared>) -> Response<Bytes> {
    // A task of its own: hyper drops this future when the client leaves, and the CA's act must be seen to its end.
    match tokio::spawn(exchange(request, asking, shared)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => {
            say(format_args!("the CA proxy: {error:#}"));
            refuse(StatusCode::GATEWAY_TIMEOUT, &format!("{error:#}"))
        }
        Err(error) => refuse(StatusCode::BAD_GATEWAY, &error.to_string()),
    }
}

/// The call to the CA, and what is learnt from it. Inside the gate from the first byte to the last.
async fn exchange(
    mut request: Request<Bytes>,
    asking: Asking,
    shared: Arc<Shared>,
) -> anyhow::Result<Response<Bytes>> {
    let route = &asking.route;
    strip(request.headers_mut());
    let pass = match &shared.gate {
        Some(gate) => Some(gate.enter(route).await),
        None => None,
    };
    let answer = shared.upstream.call(request).await?;
    let (mut parts, body) = answer.into_parts();
    if !matches!(route, Route::Other(_) | Route::Certificate { .. }) {
        let location = faults::location(&parts);
        let json: Value = serde_json::from_slice(&body).unwrap_or_default();
        if let Some(gate) = &shared.gate {
            gate.learn(route, location, &json);
        }
        shared.ledger.note(route, &asking.body, parts.status, location, &json);
        shared.faults.learn(&asking, parts.status, location, &json);
    }
    drop(pass);
    strip(&mut parts.headers);
    Ok(Response::from_parts(parts, body))
}

fn strip(headers: &mut HeaderMap) {
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

fn refuse(status: StatusCode, reason: &str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(format!("CA proxy: {reason}\n")));
    *response.status_mut() = status;
    response
}
