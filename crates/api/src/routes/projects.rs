// SPDX-License-Identifier: Apache-2.0
//! `/projects`.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use cap_client::wire;
use cap_core::access::Action;
use cap_core::actor::{Actor, Scope};
use cap_core::audit::{self, Draft};
use cap_core::id::ProjectId;
use cap_core::name::Label;
use cap_core::page::Slice;
use cap_store::{Mutation, ProjectRecord, StoreError};

use crate::app::App;
use crate::auth::Caller;
use crate::body::{Body, ListParams, Params};
use crate::idempotency::IdempotencyKey;
use crate::problem::{ApiError, CONFLICT};
use crate::view;

pub(super) fn router() -> Router<Arc<App>> {
    Router::new().route("/projects", get(list).post(create)).route("/projects/{p}", get(read))
}

async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    key: IdempotencyKey,
    body: Body<wire::CreateProject>,
) -> Result<Response, ApiError> {
    caller.must(Action::AdministerOrganisation)?;
    if let Some(earlier) = key.earlier(&app, &caller, &body.sha256).await? {
        let project = app.project(&caller, &earlier.resource, Action::ReadProject).await?;
        return Ok((StatusCode::CREATED, Json(view::project(project))).into_response());
    }
    let name: Label = body.value.name.parse().map_err(ApiError::invalid)?;
    let id = ProjectId::generate(app.clock.as_ref(), app.entropy.as_ref());
    let project = ProjectRecord { id, name, created_at: app.clock.now() };
    let draft =
        Draft::new(audit::Action::ProjectCreated, Some(id), id).detail("name", project.name.to_string());
    let audit = app.audit(&caller, &draft).await?;
    let request = key.request(&app, &caller, &body.sha256, 201, id.to_string());
    let mutation = Mutation { audit: &audit, request: request.as_ref() };
    app.store.create_project(&project, mutation).await.map_err(|error| match error {
        StoreError::Conflict { .. } => {
            ApiError::new(CONFLICT, format!("there is a project called {} already", project.name))
        }
        error => error.into(),
    })?;
    Ok((StatusCode::CREATED, Json(view::project(project))).into_response())
}

async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Params(params): Params<ListParams>,
) -> Result<Json<Slice<wire::Project>>, ApiError> {
    let only = match &caller.actor {
        Actor::Token { scope: Scope::Project(project), .. } => Some(*project),
        Actor::Token { scope: Scope::Organisation, .. } | Actor::Service(_) | Actor::Console => None,
    };
    let found = app.store.projects(only, &params.page()?).await?;
    Ok(Json(found.map(view::project)))
}

async fn read(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(project): Path<String>,
) -> Result<Json<wire::Project>, ApiError> {
    Ok(Json(view::project(app.project(&caller, &project, Action::ReadProject).await?)))
}
