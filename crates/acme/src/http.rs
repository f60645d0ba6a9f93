// SPDX-License-Identifier: Apache-2.0
//! The HTTP client below `instant-acme`: one an issuer.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cap_core::clock::Clock;
use cap_core::issuer::IssuerSpec;
use cap_core::limits;
use cap_core::order::CaError;
use cap_core::problem::{Class, Problem};
use http::response::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Response, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use instant_acme::{BodyWrapper, BytesResponse, HttpClient};
use url::Url;

use crate::call::{self, Action, Answer};
use crate::connect::{self, Connections};
use crate::document;
use crate::fault;
use crate::metrics::{CaMetrics, Metrics};
use crate::nonces::Nonces;
use crate::status;
use crate::unreachable::Unreachable;

/// Octets of an answer: a certificate chain is the longest that a CA sends.
const ANSWER_OCTETS: usize = limits::CHAIN_OCTETS;
/// RFC 8555, 6.1, asks for our name and that of the library.
const USER_AGENT: &str = concat!("certautopilot/", env!("CARGO_PKG_VERSION"), " instant-acme/0.8");
pub(crate) const REPLAY_NONCE: HeaderName = HeaderName::from_static("replay-nonce");

/// Connections to one CA, the nonces that came over them, and what is counted of them.
pub(crate) struct Http {
    directory: String,
    clock: Arc<dyn Clock>,
    request_timeout: Duration,
    connections: Connections,
    nonces: Nonces,
    metrics: CaMetrics,
}

/// What `instant-acme` is given.
pub(crate) struct Handle(pub(crate) Arc<Http>);

impl Http {
    /// # Errors
    /// When the trust roots cannot be used.
    pub(crate) fn new(
        spec: &IssuerSpec,
        clock: Arc<dyn Clock>,
        request_timeout: Duration,
        metrics: &Metrics,
    ) -> Result<Self, CaError> {
        let connections =
            connect::connections(spec.trust_roots.as_ref(), request_timeout).map_err(unusable_roots)?;
        let directory = spec.directory.to_string();
        let url = Url::parse(&directory).ok();
        let host = url.as_ref().and_then(Url::host_str).unwrap_or("unknown");
        Ok(Self {
            metrics: metrics.of(host),
            nonces: Nonces::default(),
            directory,
            clock,
            request_timeout,
            connections,
        })
    }

    pub(crate) fn directory(&self) -> &str {
        &self.directory
    }

    /// How long a call may take.
    pub(crate) fn request_timeout(&self) -> Duration {
        self.request_timeout
    }

    /// Runs one request of ACME's, whose POSTs are for `action`; answers its result with what was seen last, or what
    /// to do about its failure. It may be several exchanges: a nonce is fetched first, and `instant-acme` repeats it
    /// after badNonce. They have one deadline.
    pub(crate) async fn call<T>(
        &self,
        action: Action,
        act: impl Future<Output = Result<T, instant_acme::Error>>,
    ) -> Result<(T, Answer), CaError> {
        let (result, answer) = self.answered(action, act).await;
        Ok((result?, answer))
    }

    /// The same, with what was seen last although it is of no use.
    pub(crate) async fn answered<T>(
        &self,
        action: Action,
        act: impl Future<Output = Result<T, instant_acme::Error>>,
    ) -> (Result<T, CaError>, Answer) {
        let (result, answer) = call::watched(action, self.request_timeout, act).await;
        let result = result.map_err(|error| {
            let failure = fault::classify(&error, action, &answer, self.clock.now());
            if fault::is_rate_limit(&failure) {
                self.metrics.rate_limited();
            }
            failure
        });
        (result, answer)
    }

    async fn send(&self, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, Unreachable> {
        let action = call::action(request.method());
        if action == Action::Nonce
            && let Some(nonce) = self.nonces.take(self.clock.boottime())
        {
            return Ok(pooled(nonce));
        }
        let posted = request.method() == Method::POST;
        let mut answer = Answer { action: Some(action), url: request.uri().to_string(), ..Answer::default() };
        let began = self.clock.boottime();
        let exchanged = self.exchange(request).await;
        let took = self.clock.boottime().saturating_sub(began);
        let status = exchanged.as_ref().map(|(parts, _)| parts.status);
        self.metrics.ended(action, status, took);
        let status = status.map(|status| status.as_u16()).unwrap_or_default();
        tracing::debug!(url = answer.url, action = action.label(), status, ?took, "asked the CA");
        if let Ok((parts, body)) = &exchanged {
            answer.read(parts.status, &parts.headers, self.clock.now());
            answer.body = body.clone();
        }
        call::note(answer);
        let (mut parts, body) = exchanged?;
        if posted {
            self.collect_nonce(&mut parts, &body);
        }
        let body = Box::new(status::known(action, body));
        Ok(BytesResponse { parts, body })
    }

    async fn exchange(
        &self,
        mut request: Request<BodyWrapper<Bytes>>,
    ) -> Result<(Parts, Bytes), Unreachable> {
        let headers = request.headers_mut();
        headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        headers.insert(header::ACCEPT_LANGUAGE, HeaderValue::from_static("en"));
        let exchange = async {
            let response = self.connections.request(request).await;
            let (parts, body) = response.map_err(|error| Unreachable::diagnose(&error))?.into_parts();
            let body = Limited::new(body, ANSWER_OCTETS).collect().await;
            let body = body.map_err(|error| match error.is::<LengthLimitError>() {
                true => Unreachable::TooLong(ANSWER_OCTETS),
                false => Unreachable::diagnose(&*error),
            })?;
            Ok((parts, body.to_bytes()))
        };
        let slow = |_| Unreachable::Slow(self.request_timeout);
        tokio::time::timeout_at(call::deadline(self.request_timeout), exchange).await.map_err(slow)?
    }

    /// Moves the nonce from the answer to the pool: `instant-acme` would tie it to one order. After badNonce the
    /// others are worth nothing, but the one that came with it is good (RFC 8555, 6.5).
    fn collect_nonce(&self, parts: &mut Parts, body: &[u8]) {
        if document::is_bad_nonce(parts.status, body) {
            self.nonces.clear();
        }
        if let Some(nonce) = parts.headers.remove(REPLAY_NONCE) {
            self.nonces.put(nonce, self.clock.boottime());
        }
    }
}

impl HttpClient for Handle {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        let http = self.0.clone();
        Box::pin(async move {
            let sent = http.send(request).await;
            sent.map_err(|fault| instant_acme::Error::Other(Box::new(fault)))
        })
    }
}

/// What newNonce would have answered (RFC 8555, 7.2).
fn pooled(nonce: HeaderValue) -> BytesResponse {
    let (mut parts, ()) = Response::new(()).into_parts();
    parts.headers.insert(REPLAY_NONCE, nonce);
    let body = Box::new(Bytes::new());
    BytesResponse { parts, body }
}

fn unusable_roots(reason: String) -> CaError {
    let detail = format!("trust_roots_pem cannot be used: {reason}; set it to the CA's root certificates");
    CaError::Refused(Problem::new(Class::Configuration, "trust-roots", detail))
}
