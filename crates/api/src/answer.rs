// SPDX-License-Identifier: Apache-2.0
//! Answers that say where to look next.

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// 201: it was made, and lives at `place` under the API.
pub(crate) fn created(place: &str, body: impl Serialize) -> Response {
    placed(StatusCode::CREATED, place, body)
}

/// 202: the job at `place` under the API does it.
pub(crate) fn accepted(place: &str, body: impl Serialize) -> Response {
    placed(StatusCode::ACCEPTED, place, body)
}

fn placed(status: StatusCode, place: &str, body: impl Serialize) -> Response {
    (status, [(header::LOCATION, format!("/api/v1/{place}"))], Json(body)).into_response()
}
