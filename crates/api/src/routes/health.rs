// SPDX-License-Identifier: Apache-2.0
//! `/healthz`, `/livez`, `/readyz`: for load balancers and probes.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequestParts, RawQuery, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};

use crate::app::App;
use cap_runtime::health::{Readiness, ReadyQuery, report};

use crate::auth::Caller;
use crate::problem::{ApiError, MALFORMED_REQUEST};
use crate::routes::Route;

pub(super) fn routes() -> Vec<Route> {
    vec![Route::plain("/healthz", alive), Route::plain("/livez", alive), Route::plain("/readyz", ready)]
}

/// The process answers: nothing else is asked, so that a database that is away takes no replica out of service.
pub(crate) async fn alive() -> &'static str {
    "ok\n"
}

/// What is ready, and for authenticated callers why not.
async fn ready(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
    Reasons(reasons): Reasons,
) -> Result<Response, ApiError> {
    readiness(&app.readiness, query.as_deref(), reasons)
}

/// How long it is looked for who asks: with a database that hangs the answer is as prompt, and gives no reasons.
const CALLER_WAIT: Duration = Duration::from_secs(2);

/// Whether who asks is known, and so is told why.
struct Reasons(bool);

impl FromRequestParts<Arc<App>> for Reasons {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Infallible> {
        let caller = Caller::from_request_parts(parts, app);
        Ok(Self(tokio::time::timeout(CALLER_WAIT, caller).await.is_ok_and(|caller| caller.is_ok())))
    }
}

/// The answer of `/readyz`, with reasons or without.
pub(crate) fn readiness(
    readiness: &Readiness,
    query: Option<&str>,
    reasons: bool,
) -> Result<Response, ApiError> {
    let query = ReadyQuery::parse(query).map_err(|bad| ApiError::new(MALFORMED_REQUEST, bad.to_string()))?;
    let report = report(&readiness.findings(&query.exclude), query.verbose, reasons);
    let status = StatusCode::from_u16(report.status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    Ok((status, report.text).into_response())
}
