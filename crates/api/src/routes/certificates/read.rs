// SPDX-License-Identifier: Apache-2.0
//! `GET .../certificates`, one of them, and its versions.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use cap_client::wire;
use cap_core::access::Action;
use cap_core::certificate::Status;
use cap_core::id::CertificateId;
use cap_core::limits::PAGE_ITEMS_MAX;
use cap_core::page::Slice;
use serde::Deserialize;

use crate::app::App;
use crate::auth::Caller;
use crate::body::{At, ListParams, Params, page};
use crate::problem::ApiError;
use crate::view;

/// The query parameters of the list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListCertificates {
    limit: Option<u32>,
    cursor: Option<String>,
    status: Option<Status>,
}

pub(super) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(project): At<String>,
    Params(params): Params<ListCertificates>,
) -> Result<Json<Slice<wire::Certificate>>, ApiError> {
    let project = app.project(&caller, &project, Action::ReadProject).await?.id;
    let page = page::<CertificateId>(params.limit, params.cursor.as_deref())?;
    let now = app.now();
    let found = app.store.certificates(project, params.status, now, &page).await?;
    Ok(Json(found.map(|certificate| view::listed(certificate, now))))
}

pub(super) async fn read(
    State(app): State<Arc<App>>,
    caller: Caller,
    At((project, certificate)): At<(String, String)>,
) -> Result<Response, ApiError> {
    let project = app.project(&caller, &project, Action::ReadProject).await?.id;
    Ok(super::etag::answer(super::find(&app, project, &certificate).await?, app.now()))
}

pub(super) async fn versions(
    State(app): State<Arc<App>>,
    caller: Caller,
    At((project, certificate)): At<(String, String)>,
    Params(params): Params<ListParams>,
) -> Result<Json<Slice<wire::Version>>, ApiError> {
    let project = app.project(&caller, &project, Action::ReadProject).await?.id;
    let certificate = super::find(&app, project, &certificate).await?;
    // Clients that say nothing of pages look for a version among all that they are given.
    let page = params.newest::<i64>(PAGE_ITEMS_MAX)?;
    Ok(Json(app.store.versions(certificate.id, &page).await?.map(view::version)))
}
