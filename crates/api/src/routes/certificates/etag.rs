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
use crate::problem::{ApiError, CONFLICT, MALFORMED_REQUEST, PRECONDITION_FAILED};
use crate::{answer, view};

/// Octets of the hash that stand in a tag: states of one record are few.
const TAG_OCTETS: usize = 16;

/// A record whose states have tags.
pub(in crate::routes) trait Tagged: Clone {
    /// What it is called.
    const WHAT: &str;
    /// What may stand against a change of it since the look at it a moment ago.
    const MOVED: &str;

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
    const MOVED: &str = "it changed";

    fn shown(self, now: Timestamp) -> impl Serialize {
        view::certificate(self, now)
    }
}

impl Tagged for IssuerRecord {
    const WHAT: &str = "issuer";
    const MOVED: &str = "its account was registered or deactivated";

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

    /// What the client reads when somebody else changed the record between the check and the change: that its condition failed
    /// where [`IfMatch::check`] answered what it has `seen`, and what stands against it where it made no condition.
    pub(in crate::routes) fn overtaken<R: Tagged>(seen: Option<&R>, error: StoreError) -> ApiError {
        match (error, seen) {
            (StoreError::Conflict { .. }, Some(_)) => ApiError::new(
                PRECONDITION_FAILED,
                "it changed in the same moment; read it again and send its new ETag",
            ),
            (overtaken @ StoreError::Conflict { .. }, None) => {
                let (what, moved) = (R::WHAT, R::MOVED);
                let detail = format!(
                    "{moved} in the same moment, which stands against this; look at the {what} again, and ask for what can \
                     still be done"
                );
                ApiError::new(CONFLICT, detail).because(overtaken)
            }
            (error, _) => error.into(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::UNAVAILABLE;

    #[derive(Clone)]
    struct Thing;

    impl Tagged for Thing {
        const WHAT: &str = "thing";
        const MOVED: &str = "it changed";

        fn shown(self, _: Timestamp) -> impl Serialize {
            "thing"
        }
    }

    #[test]
    fn only_who_made_a_condition_is_told_that_it_failed() {
        let conflict = || StoreError::Conflict { doing: "update an issuer", what: "registered".to_owned() };
        let unmade = IfMatch::overtaken(None::<&IssuerRecord>, conflict());
        assert!(unmade.is(CONFLICT) && unmade.cause().is_some(), "{unmade:?}");
        let why = format!("{unmade:?}");
        assert!(why.contains("registered or deactivated") && why.contains("look at the issuer"), "{why}");
        assert!(IfMatch::overtaken(Some(&Thing), conflict()).is(PRECONDITION_FAILED));
        let away = StoreError::Unavailable { doing: "update an issuer", cause: "away".to_owned() };
        assert!(IfMatch::overtaken(Some(&Thing), away).is(UNAVAILABLE));
    }
}
