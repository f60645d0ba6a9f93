// SPDX-License-Identifier: Apache-2.0
//! The challenge listener: `GET /.well-known/acme-challenge/{token}` (RFC 8555, 8.3), no redirect, no authentication.

use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use cap_core::challenge::ChallengeToken;

use crate::app::App;
use crate::entrance::Waiting;

const PATH: &str = "/.well-known/acme-challenge/{token}";

pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new().route(PATH, get(answer)).fallback(async || nothing()).with_state(app)
}

/// The listener while the cluster is not open: no token can be looked up.
pub(crate) fn waiting(waiting: Arc<Waiting>) -> Router {
    Router::new().route(PATH, get(put_off)).fallback(async || nothing()).with_state(waiting)
}

async fn put_off(State(waiting): State<Arc<Waiting>>) -> Response {
    waiting.metrics.challenges.with_label_values(&[UNAVAILABLE]).inc();
    unavailable()
}

/// The type of every answer.
const TEXT: [(header::HeaderName, &str); 1] = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];

/// How an answer is counted that could not be looked up.
const UNAVAILABLE: &str = "unavailable";

fn nothing() -> Response {
    (StatusCode::NOT_FOUND, TEXT, "no such challenge\n").into_response()
}

fn unavailable() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, TEXT, "the database cannot be reached\n").into_response()
}

async fn answer(State(app): State<Arc<App>>, token: Result<Path<String>, PathRejection>) -> Response {
    // A token that is not UTF-8, or not base64url, is none that a CA was given.
    let token = token.ok().and_then(|Path(token)| ChallengeToken::try_from(token).ok());
    let found = match token {
        Some(token) => app.challenges.find(&token).await,
        None => Ok(None),
    };
    let (outcome, response) = match found {
        Ok(Some(key_authorization)) => ("answered", (TEXT, key_authorization).into_response()),
        Ok(None) => ("unknown", nothing()),
        Err(error) => {
            tracing::warn!(%error, "a challenge could not be answered");
            (UNAVAILABLE, unavailable())
        }
    };
    app.metrics.challenges.with_label_values(&[outcome]).inc();
    response
}
