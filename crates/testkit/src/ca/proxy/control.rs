// SPDX-License-Identifier: Apache-2.0
//! The control port: `GET /proxy/counts`, `POST /proxy/delay?ms=N`, and the faults: `POST /proxy/faults` adds a
//! [`FaultRule`] in JSON, `GET` lists them, `DELETE` takes them all away.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Collected, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::TcpListener;

use super::Shared;

/// A longer delay would only run into every client's time-out.
const MAX_DELAY_MS: u64 = 120_000;
/// A rule is some hundred octets long.
const MAX_BODY_BYTES: usize = 64 * 1024;

pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        let shared = shared.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let shared = shared.clone();
                async move {
                    let (parts, body) = request.into_parts();
                    let body = Limited::new(body, MAX_BODY_BYTES).collect().await;
                    let body = body.map(Collected::to_bytes).unwrap_or_default();
                    let (path, query) = (parts.uri.path(), parts.uri.query());
                    Ok::<_, Infallible>(answer(&parts.method, path, query, &body, &shared))
                }
            });
            let _left = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn answer(
    method: &Method,
    path: &str,
    query: Option<&str>,
    body: &[u8],
    shared: &Shared,
) -> Response<Full<Bytes>> {
    match (method, path) {
        (&Method::GET, "/proxy/counts") => json(&shared.counts()),
        (&Method::GET, "/proxy/faults") => json(&shared.faults.rules()),
        (&Method::POST, "/proxy/faults") => match arm(body, shared) {
            Ok(()) => reply(StatusCode::NO_CONTENT, "text/plain", Vec::new()),
            Err(reason) => reply(StatusCode::BAD_REQUEST, "text/plain", format!("{reason}\n").into_bytes()),
        },
        (&Method::DELETE, "/proxy/faults") => {
            shared.faults.disarm();
            reply(StatusCode::NO_CONTENT, "text/plain", Vec::new())
        }
        (&Method::POST, "/proxy/delay") => match delay_of(query) {
            Some(delay) => {
                shared.set_delay(delay);
                reply(StatusCode::NO_CONTENT, "text/plain", Vec::new())
            }
            None => reply(
                StatusCode::BAD_REQUEST,
                "text/plain",
                format!("say ?ms=N, 0 to {MAX_DELAY_MS}\n").into_bytes(),
            ),
        },
        _ => reply(
            StatusCode::NOT_FOUND,
            "text/plain",
            b"GET /proxy/counts, POST /proxy/delay?ms=N, GET POST DELETE /proxy/faults\n".to_vec(),
        ),
    }
}

fn arm(body: &[u8], shared: &Shared) -> Result<(), String> {
    let rule = serde_json::from_slice(body).map_err(|error| format!("this is no rule: {error}"))?;
    shared.faults.arm(rule)
}

fn json(value: &impl Serialize) -> Response<Full<Bytes>> {
    match serde_json::to_vec_pretty(value) {
        Ok(json) => reply(StatusCode::OK, "application/json", json),
        Err(error) => reply(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", error.to_string().into_bytes()),
    }
}

fn delay_of(query: Option<&str>) -> Option<Duration> {
    let ms: u64 = query?.strip_prefix("ms=")?.parse().ok()?;
    (ms <= MAX_DELAY_MS).then(|| Duration::from_millis(ms))
}

fn reply(status: StatusCode, kind: &'static str, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_is_a_number_within_bounds() {
        assert_eq!(delay_of(Some("ms=50")), Some(Duration::from_millis(50)));
        for bad in [None, Some(""), Some("ms="), Some("ms=-1"), Some("ms=1e3"), Some("ms=999999999")] {
            assert_eq!(delay_of(bad), None);
        }
    }
}
