// SPDX-License-Identifier: Apache-2.0
//! `ETag` and `If-Match` of a certificate (RFC 9110, 8.8.3 and 13.1.1): nobody overwrites what they have not seen.

use std::sync::Arc;

use axum::Json;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use cap_store::{CertificateRecord, StoreError};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use crate::app::App;
use crate::problem::{ApiError, MALFORMED_REQUEST, PRECONDITION_FAILED};
use crate::{answer, view};

/// Octets of the hash that stand in a tag: states of one record are few.
const TAG_OCTETS: usize = 16;

/// The states that the client would change, if it said so.
pub(super) struct IfMatch(Option<String>);

impl FromRequestParts<Arc<App>> for IfMatch {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self, ApiError> {
        let given = parts.headers.get_all(header::IF_MATCH).iter().map(HeaderValue::to_str);
        let given: Vec<&str> = given.collect::<Result<_, _>>().map_err(|_| {
            ApiError::new(MALFORMED_REQUEST, "If-Match cannot be read; send the ETag as it was given")
        })?;
        Ok(Self((!given.is_empty()).then(|| given.join(","))))
    }
}

impl IfMatch {
    /// Refuses when the certificate is in another state than the client wants to change; answers the state that it
    /// must still be in when it is changed, if that matters to the client.
    pub(super) fn check<'a>(
        &self,
        certificate: &'a CertificateRecord,
        now: Timestamp,
    ) -> Result<Option<&'a CertificateRecord>, ApiError> {
        let Some(given) = &self.0 else { return Ok(None) };
        let present = tag(certificate, now);
        if given.split(',').map(str::trim).any(|tag| tag == "*") {
            return Ok(None);
        }
        if given.split(',').map(str::trim).any(|tag| tag == present) {
            return Ok(Some(certificate));
        }
        let detail = format!("the certificate is at {present} now; read it again and send its new ETag");
        Err(ApiError::new(PRECONDITION_FAILED, detail))
    }

    /// What the client reads when somebody else changed the certificate between the check and the change.
    pub(super) fn overtaken(error: StoreError) -> ApiError {
        match error {
            StoreError::Conflict { .. } => ApiError::new(
                PRECONDITION_FAILED,
                "the certificate changed in the same moment; read it again and send its new ETag",
            ),
            error => error.into(),
        }
    }
}

/// 200 and the certificate, with its tag.
pub(super) fn answer(certificate: CertificateRecord, now: Timestamp) -> Response {
    let tag = tag(&certificate, now);
    ([(header::ETAG, tag)], Json(view::certificate(certificate, now))).into_response()
}

/// 201 and the certificate, with its tag and its place.
pub(super) fn created(certificate: CertificateRecord, now: Timestamp) -> Response {
    let tag = tag(&certificate, now);
    let place = format!("projects/{}/certificates/{}", certificate.project, certificate.id);
    ([(header::ETAG, tag)], answer::created(&place, view::certificate(certificate, now))).into_response()
}

/// A strong tag: a hash of what is answered, so that it changes exactly when the answer does.
fn tag(certificate: &CertificateRecord, now: Timestamp) -> String {
    let shown = serde_json::to_vec(&view::certificate(certificate.clone(), now)).unwrap_or_default();
    format!("\"{}\"", hex::encode(&Sha256::digest(shown)[..TAG_OCTETS]))
}
