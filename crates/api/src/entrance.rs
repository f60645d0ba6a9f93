// SPDX-License-Identifier: Apache-2.0
//! What the listeners answer until the cluster is open: that the process lives and is not ready, and 503 to whoever wants
//! anything of it. Nobody is refused a connection meanwhile.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::{RawQuery, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::get;
use cap_core::clock::Clock;
use cap_core::entropy::Entropy;
use cap_runtime::health::Readiness;
use tower::{ServiceExt, service_fn};

use crate::metrics::Metrics;
use crate::middleware::{Books, Head};
use crate::problem::{ApiError, UNAVAILABLE};
use crate::routes::health;

/// An api replica whose cluster is not open yet.
pub struct Waiting {
    /// What /readyz says.
    pub readiness: Readiness,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Luck.
    pub entropy: Arc<dyn Entropy>,
    /// What it counts.
    pub metrics: Metrics,
}

/// What a listener answers with: what waits, and from [`Entrance::open`] on the router that is given then, also on connections
/// from before.
#[derive(Clone, Default)]
pub struct Entrance(Arc<OnceLock<Router>>);

impl Entrance {
    /// The listener's router.
    pub fn router(&self, waiting: Router) -> Router {
        let opened = self.0.clone();
        Router::new().fallback_service(service_fn(move |request: Request| {
            opened.get().unwrap_or(&waiting).clone().oneshot(request)
        }))
    }

    /// From now on `router` answers. It is opened once.
    pub fn open(&self, router: Router) {
        let _ = self.0.set(router);
    }
}

/// The API's listener until the cluster is open.
pub(crate) fn api(waiting: Arc<Waiting>) -> Router {
    Router::new()
        .route("/healthz", get(health::alive))
        .route("/livez", get(health::alive))
        .route("/readyz", get(ready))
        .fallback(async || refused())
        .method_not_allowed_fallback(async || refused())
        .layer(from_fn_with_state(waiting.clone(), around))
        .with_state(waiting)
}

fn refused() -> ApiError {
    let detail = "this replica has waited since its start for the database, its schema or the KEK; nothing was done, so repeat \
                  the request later, or ask another replica";
    ApiError::new(UNAVAILABLE, detail)
}

/// What is ready. Nobody can be known yet, so nobody is told why not. Who waits is not ready, although what is waited for may be
/// there since a moment: whoever is sent here is refused.
async fn ready(State(waiting): State<Arc<Waiting>>, RawQuery(query): RawQuery) -> Result<Response, ApiError> {
    let answer = health::readiness(&waiting.readiness, query.as_deref(), false)?;
    if answer.status().is_success() { Err(refused()) } else { Ok(answer) }
}

async fn around(State(waiting): State<Arc<Waiting>>, request: Request, next: Next) -> Response {
    let Waiting { clock, entropy, metrics, .. } = waiting.as_ref();
    let books = Books { clock: clock.as_ref(), entropy: entropy.as_ref(), metrics };
    books.enter(&Head::of(&request), next.run(request)).await
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::StatusCode;

    use cap_runtime::clock::SystemClock;
    use cap_runtime::entropy::OsEntropy;

    use super::*;

    #[tokio::test]
    async fn who_waits_is_not_ready_whatever_is_there_by_now() {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let readiness = Readiness::new(clock.clone());
        assert!(readiness.ready());
        let metrics = Metrics::new(&prometheus::Registry::new()).unwrap();
        let router = api(Arc::new(Waiting { readiness, clock, entropy: Arc::new(OsEntropy), metrics }));
        for (path, status) in [
            ("/readyz", StatusCode::SERVICE_UNAVAILABLE),
            ("/readyz?exclude=kek", StatusCode::SERVICE_UNAVAILABLE),
            ("/healthz", StatusCode::OK),
        ] {
            let request = Request::builder().uri(path).body(Body::empty()).unwrap();
            assert_eq!(router.clone().oneshot(request).await.unwrap().status(), status, "{path}");
        }
    }

    #[tokio::test]
    async fn a_router_that_was_handed_out_answers_otherwise_once_it_is_open_and_is_opened_once() {
        let says = |text: &'static str| Router::new().route("/who", get(async move || text));
        let entrance = Entrance::default();
        let router = entrance.router(says("waiting"));
        let ask = async |path: &str| {
            let request = Request::builder().uri(path).body(Body::empty()).unwrap();
            let answer = router.clone().oneshot(request).await.unwrap();
            let status = answer.status();
            (status, axum::body::to_bytes(answer.into_body(), 100).await.unwrap())
        };
        assert_eq!(ask("/who").await, (StatusCode::OK, "waiting".into()));
        entrance.open(says("open"));
        assert_eq!(ask("/who").await, (StatusCode::OK, "open".into()));
        entrance.open(says("open again"));
        assert_eq!(ask("/who").await, (StatusCode::OK, "open".into()));
        assert_eq!(ask("/else").await.0, StatusCode::NOT_FOUND);
    }
}
