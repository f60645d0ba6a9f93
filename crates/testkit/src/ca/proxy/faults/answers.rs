// SPDX-License-Identifier: Apache-2.0
//! Answers in the CA's name. Each is one that a client must be ready for: JSON where the CA speaks, a gateway's page
//! where it does not, and a nonce with everything that a signed request led to (RFC 8555, 6.5).

use bytes::Bytes;
use http::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use serde_json::json;

use super::orders::{Known, protected};

pub(super) const REPLAY_NONCE: HeaderName = HeaderName::from_static("replay-nonce");

/// The nonce that a request was to use up: where the CA was not asked, it is still good.
pub(super) fn unused_nonce(request: &[u8]) -> Option<HeaderValue> {
    protected(request)?["nonce"].as_str()?.parse().ok()
}

/// A problem document of the CA's.
pub(super) fn problem(
    status: StatusCode,
    kind: &str,
    detail: &str,
    nonce: Option<HeaderValue>,
) -> Response<Bytes> {
    let body = json!({
        "type": format!("urn:ietf:params:acme:error:{kind}"),
        "detail": format!("CA proxy: {detail}"),
        "status": status.as_u16(),
    });
    answer(status, "application/problem+json", body.to_string(), nonce)
}

/// What a gateway says whose CA is away.
pub(super) fn gateway(status: StatusCode, nonce: Option<HeaderValue>) -> Response<Bytes> {
    let reason = status.canonical_reason().unwrap_or_default();
    let page = format!("<html><head><title>{reason}</title></head><body><h1>{reason}</h1></body></html>\n");
    answer(status, "text/html", page, nonce)
}

/// An order, under its URL.
pub(super) fn order(status: StatusCode, known: &Known, nonce: Option<HeaderValue>) -> Response<Bytes> {
    let mut response = answer(status, "application/json; charset=utf-8", known.body.to_string(), nonce);
    if let Ok(url) = known.url.parse() {
        response.headers_mut().insert(LOCATION, url);
    }
    response
}

/// A challenge that was taken, and will be looked at (RFC 8555, 7.5.1).
pub(super) fn challenge(nonce: Option<HeaderValue>) -> Response<Bytes> {
    let body = json!({ "type": "http-01", "url": "about:blank", "token": "AAAA", "status": "processing" });
    answer(StatusCode::OK, "application/json; charset=utf-8", body.to_string(), nonce)
}

/// Adds `Retry-After` in one of its two forms (RFC 9110, 10.2.3). A date is in whole seconds, so it may name a moment
/// that is up to a second earlier.
pub(super) fn retry_after(headers: &mut HeaderMap, at: Timestamp, seconds: u32, as_date: bool) {
    let date = || DateTimePrinter::new().timestamp_to_rfc9110_string(&at).ok();
    let value =
        if as_date { date().and_then(|date| date.parse().ok()) } else { Some(HeaderValue::from(seconds)) };
    if let Some(value) = value {
        headers.insert(RETRY_AFTER, value);
    }
}

fn answer(
    status: StatusCode,
    kind: &'static str,
    body: String,
    nonce: Option<HeaderValue>,
) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    if let Some(nonce) = nonce {
        headers.insert(REPLAY_NONCE, nonce);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_retry_after_name_the_same_moment() {
        let at: Timestamp = "2026-10-21T07:28:03Z".parse().unwrap();
        let said = |as_date| {
            let mut headers = HeaderMap::new();
            retry_after(&mut headers, at, 3, as_date);
            headers[RETRY_AFTER].to_str().unwrap().to_owned()
        };
        assert_eq!((said(false).as_str(), said(true).as_str()), ("3", "Wed, 21 Oct 2026 07:28:03 GMT"));
    }
}
