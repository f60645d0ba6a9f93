// SPDX-License-Identifier: Apache-2.0
//! `/projects`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use cap_client::wire;
use cap_core::access::Action;
use cap_core::actor::{Actor, Role, Scope};
use cap_core::audit::{self, Draft};
use cap_core::drift::DriftSettings;
use cap_core::id::ProjectId;
use cap_core::job::Weight;
use cap_core::name::Label;
use cap_core::page::Slice;
use cap_runtime::config::parse_duration;
use cap_store::{DriftChange, Mutation, ProjectChange, ProjectRecord, StoreError};

use crate::answer::created;
use crate::app::App;
use crate::auth::Caller;
use crate::body::{At, Body, ListParams, Params};
use crate::idempotency::IdempotencyKey;
use crate::problem::{ApiError, CONFLICT};
use crate::routes::{Access, Route};
use crate::view;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/projects", Access::Bearer, list),
        Route::post("/projects", Access::Organisation, create),
        Route::get("/projects/{p}", Access::Project(Role::Viewer), read),
        Route::patch("/projects/{p}", Access::Project(Role::Admin), update),
    ]
}

async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    key: IdempotencyKey,
    body: Body<wire::CreateProject>,
) -> Result<Response, ApiError> {
    caller.must(Action::AdministerOrganisation)?;
    if let Some(earlier) = key.earlier(&app, &caller, &body.sha256).await? {
        return again(&app, &caller, &earlier.resource).await;
    }
    let name: Label = body.value.name.parse().map_err(ApiError::invalid)?;
    let id = ProjectId::generate(app.clock.as_ref(), app.entropy.as_ref());
    let project = ProjectRecord { id, name, drift: None, weight: Weight::default(), created_at: app.now() };
    let draft =
        Draft::new(audit::Action::ProjectCreated, Some(id), id).detail("name", project.name.to_string());
    let audit = app.audit(&caller, &draft).await?;
    let request = key.request(&app, &caller, &body.sha256, 201, id.to_string());
    let mutation = Mutation { audit: &audit, request: request.as_ref() };
    match app.store.create_project(&project, mutation).await {
        Ok(()) => Ok(answer(project)),
        Err(StoreError::Replayed(earlier)) => {
            again(&app, &caller, &key.same(*earlier, &body.sha256)?.resource).await
        }
        Err(StoreError::Conflict { .. }) => {
            Err(ApiError::new(CONFLICT, format!("there is a project called {} already", project.name)))
        }
        Err(error) => Err(error.into()),
    }
}

/// The answer that the same request got before.
async fn again(app: &App, caller: &Caller, project: &str) -> Result<Response, ApiError> {
    Ok(answer(app.project(caller, project, Action::ReadProject).await?))
}

fn answer(project: ProjectRecord) -> Response {
    created(&format!("projects/{}", project.id), view::project(project))
}

async fn update(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(named): At<String>,
    key: IdempotencyKey,
    body: Body<wire::UpdateProject>,
) -> Result<Json<wire::Project>, ApiError> {
    let earlier = key.earlier(&app, &caller, &body.sha256).await?;
    // Read after it, so that what the same request did before shows.
    let project = app.project(&caller, &named, Action::AdministerProject).await?;
    if earlier.is_some() {
        return Ok(Json(view::project(project)));
    }
    let asked = body.value.drift.unwrap_or_default();
    let weight = body.value.weight.map(Weight::try_from).transpose().map_err(ApiError::invalid)?;
    if weight.is_some() {
        // Whoever could give a project more weight could take the places of all others.
        caller.must(Action::AdministerOrganisation)?;
    }
    let change = ProjectChange { weight, drift: drift_change(&asked)? };
    if change == ProjectChange::default() {
        return Ok(Json(view::project(project)));
    }
    let draft = Draft::new(audit::Action::ProjectUpdated, Some(project.id), project.id)
        .detail("weight", body.value.weight)
        .detail("drift_enabled", asked.enabled)
        .detail("drift_port", asked.port)
        .detail("drift_interval", asked.interval);
    let audit = app.audit(&caller, &draft).await?;
    let request = key.request(&app, &caller, &body.sha256, 200, project.id.to_string());
    let mutation = Mutation { audit: &audit, request: request.as_ref() };
    match app.store.change_project(project.id, &change, mutation).await {
        Ok(true) => {}
        Ok(false) => return Err(ApiError::not_found("project", &named)),
        Err(StoreError::Replayed(earlier)) => drop(key.same(*earlier, &body.sha256)?),
        Err(error) => return Err(error.into()),
    }
    Ok(Json(view::project(app.project(&caller, &project.id.to_string(), Action::ReadProject).await?)))
}

fn drift_change(asked: &wire::UpdateProjectDrift) -> Result<DriftChange, ApiError> {
    let port = asked.port.map(DriftSettings::port).transpose().map_err(ApiError::invalid)?;
    let interval = asked.interval.as_deref().map(|text| {
        let interval =
            parse_duration(text).map_err(|bad| ApiError::invalid(format!("drift.interval: {bad}")))?;
        DriftSettings::interval(interval).map_err(ApiError::invalid)
    });
    Ok(DriftChange { enabled: asked.enabled, port, interval: interval.transpose()? })
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
    let found = app.store.projects(only, &params.page::<ProjectId>()?).await?;
    Ok(Json(found.map(view::project)))
}

async fn read(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(project): At<String>,
) -> Result<Json<wire::Project>, ApiError> {
    Ok(Json(view::project(app.project(&caller, &project, Action::ReadProject).await?)))
}
