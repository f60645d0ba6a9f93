// SPDX-License-Identifier: Apache-2.0
//! The admin listener of every process: `/metrics`, `/livez`, `/readyz`. For operators: it tells reasons.

use std::time::Duration;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::health::{Readiness, ReadyQuery, report};
use crate::metrics::Metrics;
use crate::serve::{Bounds, IDLE, STALL};

/// A scraper, two probes and a few people.
pub const BOUNDS: Bounds = Bounds {
    connections: 64,
    head: Duration::from_secs(10),
    idle: IDLE,
    head_octets: 16 * 1024,
    each: 64,
    stall: STALL,
};

#[derive(Debug, Clone)]
struct Shown {
    metrics: Metrics,
    readiness: Readiness,
}

/// The routes.
pub fn router(metrics: Metrics, readiness: Readiness) -> Router {
    Router::new()
        .route("/metrics", get(show_metrics))
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(show_readiness))
        .with_state(Shown { metrics, readiness })
}

async fn show_metrics(State(shown): State<Shown>) -> Response {
    match shown.metrics.exposition() {
        Ok(text) => ([(header::CONTENT_TYPE, shown.metrics.media_type())], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "the metrics cannot be written down");
            (StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written down; see the log\n")
                .into_response()
        }
    }
}

async fn show_readiness(State(shown): State<Shown>, RawQuery(query): RawQuery) -> Response {
    let query = match ReadyQuery::parse(query.as_deref()) {
        Ok(query) => query,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    };
    let report = report(&shown.readiness.findings(&query.exclude), query.verbose, true);
    let status = StatusCode::from_u16(report.status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    (status, report.text).into_response()
}

#[cfg(test)]
mod tests;
