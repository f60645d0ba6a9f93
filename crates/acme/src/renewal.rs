// SPDX-License-Identifier: Apache-2.0
//! Renewal information (RFC 9773): a GET without a signature, read here because `instant-acme` refuses an answer that has no
//! `Retry-After`, and hides the one that has.

use std::sync::Arc;

use bytes::Bytes;
use cap_core::limits;
use cap_core::order::CaError;
use cap_core::problem::{Class, Problem};
use cap_core::renewal_info::{AriId, RenewalInfo};
use http::Request;
use instant_acme::{BodyWrapper, CertificateIdentifier, Error};
use jiff::Timestamp;
use serde::Deserialize;
use url::Url;

use crate::call::Action;
use crate::http::{Handle, Http};

/// A CA's answer (RFC 9773, 4.2).
#[derive(Deserialize)]
struct Body {
    #[serde(rename = "suggestedWindow")]
    window: Bounds,
    #[serde(rename = "explanationURL", default)]
    explanation_url: Option<String>,
}

#[derive(Deserialize)]
struct Bounds {
    start: Timestamp,
    end: Timestamp,
}

/// As `instant-acme` calls it.
pub(crate) fn identifier(id: &AriId) -> CertificateIdentifier<'_> {
    let (authority_key_identifier, serial) = id.parts();
    CertificateIdentifier { authority_key_identifier: authority_key_identifier.into(), serial: serial.into() }
}

/// Asks at `endpoint`.
pub(crate) async fn ask(
    http: &Arc<Http>,
    endpoint: Option<&str>,
    certificate: &AriId,
) -> Result<RenewalInfo, CaError> {
    let Some(endpoint) = endpoint else {
        let detail = "the CA's directory offers no renewal information, so it is not asked for any";
        return Err(CaError::Refused(Problem::new(Class::Configuration, "renewal-info-not-offered", detail)));
    };
    let url = format!("{}/{certificate}", endpoint.trim_end_matches('/'));
    let get = async {
        let request = Request::get(url).body(BodyWrapper::<Bytes>::default())?;
        let answer = instant_acme::HttpClient::request(&Handle(http.clone()), request).await?;
        // Anything but 200 is classified by what was seen.
        if answer.parts.status == http::StatusCode::OK {
            Ok(())
        } else {
            Err(Error::Str("no renewal information"))
        }
    };
    let ((), answer) = http.call(Action::RenewalInfo, get).await?;
    let body: Body = serde_json::from_slice(&answer.body).map_err(|error| unreadable(&answer.url, &error))?;
    Ok(RenewalInfo {
        start: body.window.start,
        end: body.window.end,
        explanation_url: body.explanation_url.filter(|url| is_shown(url)),
        retry_after: answer.retry_after,
    })
}

/// People open it: only what leads to a page, and is no longer than URLs are.
fn is_shown(url: &str) -> bool {
    let web = |url: Url| matches!(url.scheme(), "https" | "http");
    url.len() <= limits::URL_OCTETS && Url::parse(url).is_ok_and(web)
}

/// This certificate's answer alone: the CA is there, and what it says of others may well be read.
fn unreadable(url: &str, error: &serde_json::Error) -> CaError {
    let detail = format!(
        "reading renewal information failed: the answer of {url} is none of RFC 9773, 4.2: {error}; it is asked again later, and \
         renewal stays as planned"
    );
    CaError::Refused(Problem::new(Class::Protocol, "renewal-info-unreadable", detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_with_what_it_leaves_out() {
        let text = r#"{"suggestedWindow":{"start":"2025-01-02T04:00:00Z","end":"2025-01-03T04:00:00.123+01:00"},"more":1}"#;
        let body: Body = serde_json::from_str(text).unwrap();
        assert_eq!(body.window.start, "2025-01-02T04:00:00Z".parse().unwrap());
        assert_eq!(body.window.end, "2025-01-03T03:00:00.123Z".parse().unwrap());
        assert_eq!(body.explanation_url, None);
        for wrong in [
            r#"{"suggestedWindow":{"start":"2025-01-02T04:00:00Z"}}"#,
            "{}",
            "null",
            r#"{"suggestedWindow":{"start":1,"end":2}}"#,
        ] {
            assert!(serde_json::from_str::<Body>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_pages_are_shown_to_people() {
        assert!(is_shown("https://ca.example.test/incident/1"));
        for wrong in ["javascript:alert(1)", "data:text/html,x", "incident 1", "", "file:///etc/passwd"] {
            assert!(!is_shown(wrong), "{wrong}");
        }
        assert!(!is_shown(&format!("https://ca.example.test/{}", "x".repeat(limits::URL_OCTETS))));
    }

    #[test]
    fn a_certificate_is_called_the_same_by_both() {
        let id = AriId::new(&[0x69, 0x88], &[0x00, 0x87]).unwrap();
        assert_eq!(identifier(&id).to_string(), id.to_string());
    }
}
