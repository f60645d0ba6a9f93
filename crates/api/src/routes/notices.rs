// SPDX-License-Identifier: Apache-2.0
//! `/projects/{p}/notices`: certificates that run, or ran, out although they should have been renewed.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use cap_client::wire;
use cap_core::access::Action;
use cap_core::actor::Role;
use cap_core::expiry::NoticeId;
use cap_core::page::Slice;
use serde::Deserialize;

use crate::app::App;
use crate::auth::Caller;
use crate::body::{At, Params, page};
use crate::problem::ApiError;
use crate::routes::{Access, Route};
use crate::view;

pub(super) fn routes() -> Vec<Route> {
    vec![Route::get("/projects/{p}/notices", Access::Project(Role::Viewer), list)]
}

/// The query parameters of the list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListNotices {
    limit: Option<u32>,
    cursor: Option<String>,
    /// Only those that are open, or only those that are resolved.
    open: Option<bool>,
}

async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(project): At<String>,
    Params(params): Params<ListNotices>,
) -> Result<Json<Slice<wire::Notice>>, ApiError> {
    let project = app.project(&caller, &project, Action::ReadProject).await?.id;
    let page = page::<NoticeId>(params.limit, params.cursor.as_deref())?;
    Ok(Json(app.store.notices(project, params.open, &page).await?.map(view::notice)))
}
