// SPDX-License-Identifier: Apache-2.0
//! Repeated requests: the same key and body get the same answer, and nothing happens twice.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use cap_core::clock::later;
use cap_core::limits;
use cap_store::{Replay, Request};
use sha2::{Digest, Sha256};

use crate::app::App;
use crate::auth::Caller;
use crate::problem::{ALREADY_ANSWERED, ApiError, IDEMPOTENCY_MISMATCH, MALFORMED_REQUEST};

/// The client's name for its request, if it gave one.
pub(crate) struct IdempotencyKey {
    key: Option<String>,
    route: String,
}

impl FromRequestParts<Arc<App>> for IdempotencyKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self, ApiError> {
        let route = format!("{} {}", parts.method, parts.uri.path());
        let Some(value) = parts.headers.get("idempotency-key") else { return Ok(Self { key: None, route }) };
        let key = value.to_str().ok().filter(|key| (1..=limits::IDEMPOTENCY_KEY_OCTETS).contains(&key.len()));
        let bad = || {
            let detail = format!(
                "Idempotency-Key must be 1 to {} printable ASCII characters",
                limits::IDEMPOTENCY_KEY_OCTETS
            );
            ApiError::new(MALFORMED_REQUEST, detail)
        };
        Ok(Self { key: Some(key.ok_or_else(bad)?.to_owned()), route })
    }
}

/// What is answered where the same request made something before that is gone.
pub(crate) fn deleted_since(what: &str, id: impl std::fmt::Display) -> ApiError {
    let detail = format!(
        "this request was carried out before, and the {what} {id} that it made has been deleted since; send it with another \
         Idempotency-Key to have it done again"
    );
    ApiError::new(ALREADY_ANSWERED, detail)
}

/// What is answered to another request under the key of an earlier one.
pub(crate) fn another_body() -> ApiError {
    let detail = "this Idempotency-Key was sent with another body before; use a new key for a new request";
    ApiError::new(IDEMPOTENCY_MISMATCH, detail)
}

impl IdempotencyKey {
    fn id(&self, caller: &Caller) -> Option<String> {
        let key = self.key.as_ref()?;
        let text = [caller.id().as_str(), &self.route, key].join("\n");
        Some(hex::encode(Sha256::digest(text)))
    }

    /// The answer that the same request got before, if it was carried out.
    pub(crate) async fn earlier(
        &self,
        app: &App,
        caller: &Caller,
        body_sha256: &str,
    ) -> Result<Option<Replay>, ApiError> {
        let Some(id) = self.id(caller) else { return Ok(None) };
        match app.store.replay(&id).await? {
            Some(replay) => self.same(replay, body_sha256).map(Some),
            None => Ok(None),
        }
    }

    /// What was carried out under this key, if it had the same body.
    pub(crate) fn same(&self, earlier: Replay, body_sha256: &str) -> Result<Replay, ApiError> {
        if earlier.body_sha256 == body_sha256 { Ok(earlier) } else { Err(another_body()) }
    }

    /// The record that goes in with the mutation.
    pub(crate) fn request(
        &self,
        app: &App,
        caller: &Caller,
        body_sha256: &str,
        status: u16,
        resource: String,
    ) -> Option<Request> {
        let id = self.id(caller)?;
        let remembered_until = later(app.clock.now(), app.store.retention().idempotency);
        Some(Request { id, body_sha256: body_sha256.to_owned(), status, resource, remembered_until })
    }
}
