// SPDX-License-Identifier: Apache-2.0
//! A tiny HTTP-01 responder, for tests of the ACME engine that run without the API.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// RFC 8555, section 8.3.
const PREFIX: &str = "/.well-known/acme-challenge/";

type Tokens = Arc<Mutex<HashMap<String, String>>>;

/// Answers HTTP-01 challenges until it is dropped. It lives on the runtime on which it was started.
#[derive(Debug)]
pub struct Http01Responder {
    tokens: Tokens,
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Http01Responder {
    /// Listens at this address and the CA's HTTP-01 port.
    ///
    /// # Errors
    /// When the address is taken.
    pub async fn start(address: Ipv4Addr, port: u16) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((address, port)).await;
        let listener = listener.with_context(|| format!("listening for HTTP-01 at {address}:{port}"))?;
        let address = listener.local_addr()?;
        let tokens = Tokens::default();
        let task = tokio::spawn(serve(listener, tokens.clone()));
        Ok(Self { tokens, address, task })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers this token with this key authorization.
    pub fn put(&self, token: &str, key_authorization: &str) {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.insert(token.to_owned(), key_authorization.to_owned());
    }

    /// Answers 404 again.
    pub fn remove(&self, token: &str) {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).remove(token);
    }
}

impl Drop for Http01Responder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, tokens: Tokens) {
    while let Ok((stream, _)) = listener.accept().await {
        let tokens = tokens.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| std::future::ready(answer(&request, &tokens)));
            // A client that leaves in mid-request is its own affair.
            let _left = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn answer(request: &Request<Incoming>, tokens: &Tokens) -> Result<Response<Full<Bytes>>, Infallible> {
    let token = request.uri().path().strip_prefix(PREFIX).unwrap_or_default();
    let known = tokens.lock().unwrap_or_else(PoisonError::into_inner).get(token).cloned();
    let (status, body) = known.map_or((StatusCode::NOT_FOUND, String::new()), |text| (StatusCode::OK, text));
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    Ok(response)
}
