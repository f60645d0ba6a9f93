// SPDX-License-Identifier: Apache-2.0
//! `/projects/{p}/jobs`.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Json, Router};
use cap_client::wire;
use cap_core::access::Action;
use cap_core::id::JobId;
use cap_core::job::JobState;
use cap_core::page::Slice;
use serde::Deserialize;

use crate::app::App;
use crate::auth::Caller;
use crate::body::{Params, page};
use crate::problem::ApiError;
use crate::view;

pub(super) fn router() -> Router<Arc<App>> {
    Router::new().route("/projects/{p}/jobs", get(list)).route("/projects/{p}/jobs/{j}", get(read))
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
    Path(project): Path<String>,
    Params(params): Params<ListJobs>,
) -> Result<Json<Slice<wire::Job>>, ApiError> {
    let project = app.project(&caller, &project, Action::ReadProject).await?.id;
    let page = page(params.limit, params.cursor.as_deref())?;
    Ok(Json(app.store.jobs(project, params.state, params.subject.as_deref(), &page).await?.map(view::job)))
}

async fn read(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((project, job)): Path<(String, String)>,
) -> Result<Json<wire::Job>, ApiError> {
    let project = app.project(&caller, &project, Action::ReadProject).await?.id;
    let missing = || ApiError::not_found("job", &job);
    let id: JobId = job.parse().map_err(|_| missing())?;
    Ok(Json(view::job(app.store.job(project, id).await?.ok_or_else(missing)?)))
}
