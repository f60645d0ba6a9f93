// SPDX-License-Identifier: Apache-2.0
//! What happens to every request: an id, a bound in size, number and time, a count, and a line in the log.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use cap_core::clock::Clock;
use cap_core::entropy::Entropy;

use crate::app::App;
use crate::metrics::Metrics;
use crate::overload::Asker;
use crate::problem::{ApiError, Id, Logged, TIMED_OUT};
use crate::routes::PREFIX;

/// How long a request may take.
const REQUEST: Duration = Duration::from_secs(30);
/// The header that tells the client the request's id.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Routes that cost nothing and are answered whatever else goes on.
const HEALTH: [&str; 2] = ["/healthz", "/livez"];
/// The one that costs nothing without a token.
const READY: &str = "/readyz";

tokio::task_local! {
    static CURRENT: Id;
}

/// The id of the request that this task answers.
pub(crate) fn request_id() -> Option<Id> {
    CURRENT.try_with(|id| *id).ok()
}

/// Puts the router behind everything above.
pub(crate) fn wrap(router: Router<Arc<App>>, app: Arc<App>) -> Router {
    router.layer(from_fn_with_state(app.clone(), around)).with_state(app)
}

/// With what requests get their ids, and where they are counted.
pub(crate) struct Books<'a> {
    pub(crate) clock: &'a dyn Clock,
    pub(crate) entropy: &'a dyn Entropy,
    pub(crate) metrics: &'a Metrics,
}

/// What is counted and logged of a request.
pub(crate) struct Head {
    method: Method,
    path: String,
    route: String,
}

impl Head {
    pub(crate) fn of(request: &Request) -> Self {
        let matched = request.extensions().get::<MatchedPath>();
        Self {
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            route: matched.map_or("unmatched", MatchedPath::as_str).to_owned(),
        }
    }
}

impl Books<'_> {
    /// Has a request answered under an id of its own, counts it and logs it.
    pub(crate) async fn enter(&self, head: &Head, answering: impl Future<Output = Response>) -> Response {
        let id = Id::generate(self.clock, self.entropy);
        let started = self.clock.boottime();
        let mut response = CURRENT.scope(id, answering).await;
        let took = self.clock.boottime().saturating_sub(started);
        let Head { method, path, route } = head;
        let status = response.status();
        let labels = [counted(method), route, status.as_str()];
        self.metrics.requests.with_label_values(&labels).inc();
        self.metrics.duration.with_label_values(&labels[..2]).observe(took.as_secs_f64());
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
}

async fn around(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let head = Head::of(&request);
    let asker = app.overload.asker(&request, app.clock.boottime());
    request.extensions_mut().insert(asker);
    let answering = async {
        let answered = if is_free(&request, &head.route) {
            Ok(next.run(request).await)
        } else {
            answer(&app, &asker, request, next, &head.route).await
        };
        answered.unwrap_or_else(IntoResponse::into_response)
    };
    let books = Books { clock: app.clock.as_ref(), entropy: app.entropy.as_ref(), metrics: &app.metrics };
    books.enter(&head, answering).await
}

/// Whether a request has no limits: a load balancer must not take a replica out because it is busy, since the others would
/// only get busier. `/readyz` with a token looks that up, and has them.
fn is_free(request: &Request, route: &str) -> bool {
    HEALTH.contains(&route) || (route == READY && !request.headers().contains_key(header::AUTHORIZATION))
}

/// Answers within the limits.
async fn answer(
    app: &App,
    asker: &Asker,
    request: Request,
    next: Next,
    route: &str,
) -> Result<Response, ApiError> {
    let _place = app.admit(asker)?;
    let asks_database = request.uri().path().starts_with(PREFIX);
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let answered = async {
        let _turn = app.turn(asker.who, request.method(), route).await?;
        Ok::<_, ApiError>(next.run(request).await)
    };
    let response = tokio::select! {
        biased;
        response = answered => response?,
        // Whatever waits for a database that is away is told so, and not after one bound behind the other.
        refused = app.lost_confirmation(), if asks_database => return Err(refused),
        () = app.clock.sleep(REQUEST) => {
            let detail = "no answer within 30 s; repeat it with the same Idempotency-Key";
            return Err(ApiError::new(TIMED_OUT, detail));
        }
    };
    app.hold_answer(asker.who, reads, response).await
}

/// The method as it is counted. Clients may invent methods, and each label value is kept for ever.
fn counted(method: &Method) -> &str {
    match method.as_str() {
        known @ ("GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS") => known,
        _ => "other",
    }
}
