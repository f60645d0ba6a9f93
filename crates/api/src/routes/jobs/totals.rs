// SPDX-License-Identifier: Apache-2.0
//! `GET /projects/{p}/jobs/totals`: how many jobs ended in each hour, of which kind and how.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use cap_client::wire;
use cap_core::access::Action;
use cap_core::page::Slice;
use cap_core::totals::TotalId;
use jiff::Timestamp;
use serde::Deserialize;

use crate::app::App;
use crate::auth::Caller;
use crate::body::{At, Params, page};
use crate::problem::{ApiError, MALFORMED_REQUEST};
use crate::view;

/// The query parameters of the list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListTotals {
    limit: Option<u32>,
    cursor: Option<String>,
    /// Only from the hour on that this time is in.
    since: Option<String>,
}

pub(super) async fn totals(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(project): At<String>,
    Params(params): Params<ListTotals>,
) -> Result<Json<Slice<wire::JobTotal>>, ApiError> {
    let project = app.project(&caller, &project, Action::ReadProject).await?.id;
    let page = page::<TotalId>(params.limit, params.cursor.as_deref())?;
    let since = params.since.as_deref().map(time).transpose()?;
    Ok(Json(app.store.job_totals(project, since, &page).await?.map(view::job_total)))
}

fn time(text: &str) -> Result<Timestamp, ApiError> {
    text.parse().map_err(|_| {
        let detail = format!("since: {text:?} is no time; write it as in 2026-11-29T00:00:00Z (RFC 3339)");
        ApiError::new(MALFORMED_REQUEST, detail)
    })
}
