// SPDX-License-Identifier: Apache-2.0
//! `ETag` and `If-Match` of certificates and issuers (RFC 9110, 8.8.3 and 13.1.1): nobody overwrites what they have not seen.

use std::sync::Arc;

use axum::Json;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use cap_store::{CertificateRecord, IssuerRecord, StoreError};
use jiff::Timestamp;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::app::App;
use crate::problem::{ApiError, MALFORMED_REQUEST, PRECONDITION_FAILED};
use crate::{answer, view};

/// Octets of the hash that stand in a tag: states of one record are few.
const TAG_OCTETS: usize = 16;

/// A record whose states have tags.
pub(in crate::routes) trait Tagged: Clone {
    /// What it is called.
    const WHAT: &str;

    /// It, as it is answered at `now`.
    fn shown(self, now: Timestamp) -> impl Serialize;

    /// A strong tag: a hash of what is answered, so that it changes exactly when the answer does.
    fn tag(&self, now: Timestamp) -> String {
        let shown = serde_json::to_vec(&self.clone().shown(now)).unwrap_or_default();
        format!("\"{}\"", hex::encode(&Sha256::digest(shown)[..TAG_OCTETS]))
    }
}

impl Tagged for CertificateRecord {
    const WHAT: &str = "certificate";

    fn shown(self, now: Timestamp) -> impl Serialize {
        view::certificate(self, now)
    }
}

impl Tagged for IssuerRecord {
    const WHAT: &str = "issuer";

    fn shown(self, _: Timestamp) -> impl Serialize {
        view::issuer(self)
    }
}

/// The states that the client would change, if it said so.
pub(in crate::routes) struct IfMatch(Option<String>);

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
    /// Refuses when the record is in another state than the client wants to change; answers the state that it
    /// must still be in when it is changed, if that matters to the client.
    pub(in crate::routes) fn check<'a, R: Tagged>(
        &self,
        record: &'a R,
        now: Timestamp,
    ) -> Result<Option<&'a R>, ApiError> {
        let Some(given) = &self.0 else { return Ok(None) };
        let present = record.tag(now);
        if given.split(',').map(str::trim).any(|tag| tag == "*") {
            return Ok(None);
        }
        if given.split(',').map(str::trim).any(|tag| tag == present) {
            return Ok(Some(record));
        }
        let detail = format!("the {} is at {present} now; read it again and send its new ETag", R::WHAT);
        Err(ApiError::new(PRECONDITION_FAILED, detail))
    }

    /// What the client reads when somebody else changed the record between the check and the change.
    pub(in crate::routes) fn overtaken(error: StoreError) -> ApiError {
        match error {
            StoreError::Conflict { .. } => ApiError::new(
                PRECONDITION_FAILED,
                "it changed in the same moment; read it again and send its new ETag",
            ),
            error => error.into(),
        }
    }
}

/// 200 and the record, with its tag.
pub(in crate::routes) fn answer(record: impl Tagged, now: Timestamp) -> Response {
    let tag = record.tag(now);
    ([(header::ETAG, tag)], Json(record.shown(now))).into_response()
}

/// 201 and the record at its place, with its tag.
pub(in crate::routes) fn created_at(place: &str, record: impl Tagged, now: Timestamp) -> Response {
    let tag = record.tag(now);
    ([(header::ETAG, tag)], answer::created(place, record.shown(now))).into_response()
}

/// 201 and the certificate, with its tag and its place.
pub(super) fn created(certificate: CertificateRecord, now: Timestamp) -> Response {
    created_at(&format!("projects/{}/certificates/{}", certificate.project, certificate.id), certificate, now)
}
