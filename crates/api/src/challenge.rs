// SPDX-License-Identifier: Apache-2.0
//! The challenge listener: `GET /.well-known/acme-challenge/{token}` (RFC 8555, 8.3), no redirect, no authentication.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use cap_core::challenge::ChallengeToken;

use crate::app::App;

pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new().route("/.well-known/acme-challenge/{token}", get(answer)).with_state(app)
}

async fn answer(State(app): State<Arc<App>>, Path(token): Path<String>) -> Response {
    let found = match ChallengeToken::try_from(token) {
        Ok(token) => app.challenges.find(&token).await,
        Err(_) => Ok(None),
    };
    let text = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    let (outcome, response) = match found {
        Ok(Some(key_authorization)) => ("answered", (text, key_authorization).into_response()),
        Ok(None) => ("unknown", (StatusCode::NOT_FOUND, text, "no such challenge\n").into_response()),
        Err(error) => {
            tracing::warn!(%error, "a challenge could not be answered");
            (
                "unavailable",
                (StatusCode::SERVICE_UNAVAILABLE, text, "the database cannot be reached\n").into_response(),
            )
        }
    };
    app.metrics.challenges.with_label_values(&[outcome]).inc();
    response
}
