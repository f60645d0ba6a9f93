// SPDX-License-Identifier: Apache-2.0
//! `/projects/{p}/attention`: the few certificates that somebody should look at first.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use cap_client::wire;
use cap_core::access::Action;
use cap_core::actor::Role;

use crate::app::App;
use crate::auth::Caller;
use crate::body::At;
use crate::problem::ApiError;
use crate::routes::{Access, Route};
use crate::view;

pub(super) fn routes() -> Vec<Route> {
    vec![Route::get("/projects/{p}/attention", Access::Project(Role::Viewer), read)]
}

async fn read(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(project): At<String>,
) -> Result<Json<wire::Attention>, ApiError> {
    let project = app.project(&caller, &project, Action::ReadProject).await?.id;
    let now = app.now();
    let (failing, ending) =
        tokio::try_join!(app.store.failing_soonest(project), app.store.ending_soonest(project, now))?;
    let shown = |records: Vec<_>| records.into_iter().map(|record| view::listed(record, now)).collect();
    Ok(Json(wire::Attention { failing: shown(failing), ending: shown(ending) }))
}
