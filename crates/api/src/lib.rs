// SPDX-License-Identifier: Apache-2.0
//! The REST API and the HTTP-01 responder.
//!
//! It never speaks to a CA and never runs a job: it checks who asks and what for, records one atomic fact, and answers
//! from what is recorded. Every replica answers every HTTP-01 challenge.

mod answer;
mod app;
mod auth;
mod body;
mod challenge;
mod entrance;
mod idempotency;
mod metrics;
mod middleware;
mod objects;
mod overload;
mod problem;
mod routes;
mod view;
mod whole;

pub use app::App;
pub use entrance::{Entrance, Waiting};
pub use metrics::Metrics;
pub use overload::Overload;
pub use problem::{CATALOGUE, reference_markdown};
pub use routes::{Access, Route, routes};

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use cap_runtime::serve::{Bounds, IDLE, STALL};

/// The bounds of the API's listener. One address may have half of the connections: behind a load balancer all share one.
pub const API_BOUNDS: Bounds = Bounds {
    connections: 4096,
    head: Duration::from_secs(10),
    idle: IDLE,
    head_octets: 32 * 1024,
    each: 2048,
    stall: STALL,
};
/// The bounds of the challenge listener: CAs ask from several places, others ask for nothing that is there.
pub const CHALLENGE_BOUNDS: Bounds = Bounds {
    connections: 1024,
    head: Duration::from_secs(10),
    idle: IDLE,
    head_octets: 16 * 1024,
    each: 512,
    stall: STALL,
};

/// The REST API, `/healthz`, `/livez` and `/readyz`.
pub fn api(app: Arc<App>) -> Router {
    middleware::wrap(routes::router(), app)
}

/// The same listener until the cluster is open: nobody is let in.
pub fn api_waiting(waiting: Arc<Waiting>) -> Router {
    entrance::api(waiting)
}

/// The challenge listener: HTTP-01 and nothing else.
pub fn challenges(app: Arc<App>) -> Router {
    challenge::router(app)
}

/// The same listener until the cluster is open: 503 to whoever asks for a challenge.
pub fn challenges_waiting(waiting: Arc<Waiting>) -> Router {
    challenge::waiting(waiting)
}
