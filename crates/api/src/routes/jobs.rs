// SPDX-License-Identifier: Apache-2.0
//! `/projects/{p}/jobs`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use cap_client::wire;
use cap_core::access::Action;
use cap_core::actor::Role;
use cap_core::id::JobId;
use cap_core::job::JobState;
use cap_core::page::Slice;
use serde::Deserialize;

use crate::app::App;
use crate::auth::Caller;
use crate::body::{At, Params, page};
use crate::problem::ApiError;
use crate::routes::{Access, Route};
use crate::view;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/projects/{p}/jobs", Access::Project(Role::Viewer), list),
        Route::get("/projects/{p}/jobs/{j}", Access::Project(Role::Viewer), read),
    ]
}

/// The query parameters of the list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListJobs {
    limit: Option<u32>,
    cursor: Option<String>,
    state: Option<JobState>,
    /// The certificate or issuer that the jobs are for.
    subject: Option<String>,
}

async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(project): At<String>,
    Params(params): Params<ListJobs>,
) -> Result<Json<Slice<wire::Job>>, ApiError> {
    let project = app.project(&caller, &project, Action::ReadProject).await?.id;
    let page = page(params.limit, params.cursor.as_deref())?;
    Ok(Json(app.store.jobs(project, params.state, params.subject.as_deref(), &page).await?.map(view::job)))
}

async fn read(
    State(app): State<Arc<App>>,
    caller: Caller,
    At((project, job)): At<(String, String)>,
) -> Result<Json<wire::Job>, ApiError> {
    let project = app.project(&caller, &project, Action::ReadProject).await?.id;
    let missing = || ApiError::not_found("job", &job);
    let id: JobId = job.parse().map_err(|_| missing())?;
    Ok(Json(view::job(app.store.job(project, id).await?.ok_or_else(missing)?)))
}
