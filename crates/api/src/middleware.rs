// SPDX-License-Identifier: Apache-2.0
//! What happens to every request: an id, a bound in size, number and time, a count, and a line in the log.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;

use crate::app::App;
use crate::body::BODY_OCTETS;
use crate::problem::{ApiError, Id, Logged, OVERLOADED, TIMED_OUT};
use crate::routes::PREFIX;

/// How long a request may take.
const REQUEST: Duration = Duration::from_secs(30);
/// Requests in flight; one more is refused, so that memory stays bounded.
const IN_FLIGHT: usize = 1024;
/// The header that tells the client the request's id.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Routes that cost nothing and are answered whatever else goes on.
const HEALTH: [&str; 2] = ["/healthz", "/livez"];

tokio::task_local! {
    static CURRENT: Id;
}

/// The id of the request that this task answers.
pub(crate) fn request_id() -> Option<Id> {
    CURRENT.try_with(|id| *id).ok()
}

/// Puts the router behind everything above.
pub(crate) fn wrap(router: Router<Arc<App>>, app: Arc<App>) -> Router {
    let gate = Arc::new(Semaphore::new(IN_FLIGHT));
    router
        .layer(DefaultBodyLimit::max(BODY_OCTETS))
        .layer(from_fn_with_state((app.clone(), gate), around))
        .with_state(app)
}

async fn around(
    State((app, gate)): State<(Arc<App>, Arc<Semaphore>)>,
    request: Request,
    next: Next,
) -> Response {
    let id = Id::generate(app.clock.as_ref(), app.entropy.as_ref());
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let route = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str).to_owned();
    let started = app.clock.boottime();
    let mut response = CURRENT
        .scope(id, async {
            let place = gate.try_acquire();
            // A load balancer must not take a replica out because it is busy: the others would only get busier.
            if place.is_err() && !HEALTH.contains(&route.as_str()) {
                return ApiError::new(
                    OVERLOADED,
                    "this replica answers as many requests as it can hold; try again soon",
                )
                .into_response();
            }
            let asks_database = request.uri().path().starts_with(PREFIX);
            tokio::select! {
                biased;
                response = next.run(request) => response,
                // Whatever waits for a database that is away is told so, and not after one bound behind the other.
                refused = app.lost_confirmation(), if asks_database => refused.into_response(),
                () = app.clock.sleep(REQUEST) => {
                    ApiError::new(TIMED_OUT, "no answer within 30 s; repeat it with the same Idempotency-Key")
                        .into_response()
                }
            }
        })
        .await;
    let took = app.clock.boottime().saturating_sub(started);
    let status = response.status();
    let labels = [counted(&method), &route, status.as_str()];
    app.metrics.requests.with_label_values(&labels).inc();
    app.metrics.duration.with_label_values(&labels[..2]).observe(took.as_secs_f64());
    let cause = response.extensions_mut().remove::<Logged>().and_then(|logged| logged.cause);
    match cause {
        Some(cause) => {
            tracing::warn!(request = %id, %method, path, status = status.as_u16(), ?took, cause, "request failed");
        }
        None => tracing::debug!(request = %id, %method, path, status = status.as_u16(), ?took, "request"),
    }
    if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

/// The method as it is counted. Clients may invent methods, and each label value is kept for ever.
fn counted(method: &Method) -> &str {
    match method.as_str() {
        known @ ("GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS") => known,
        _ => "other",
    }
}
