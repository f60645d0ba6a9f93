// SPDX-License-Identifier: Apache-2.0
//! The control port: `GET /proxy/counts`, `POST /proxy/delay?ms=N`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::Shared;

/// A longer delay would only run into every client's time-out.
const MAX_DELAY_MS: u64 = 120_000;

pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        let shared = shared.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let response = answer(request.method(), request.uri().path(), request.uri().query(), &shared);
                std::future::ready(Ok::<_, Infallible>(response))
            });
            let _left = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn answer(method: &Method, path: &str, query: Option<&str>, shared: &Shared) -> Response<Full<Bytes>> {
    match (method, path) {
        (&Method::GET, "/proxy/counts") => match serde_json::to_vec_pretty(&shared.ledger.counts()) {
            Ok(json) => reply(StatusCode::OK, "application/json", json),
            Err(error) => {
                reply(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", error.to_string().into_bytes())
            }
        },
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
            b"GET /proxy/counts, POST /proxy/delay?ms=N\n".to_vec(),
        ),
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
