// SPDX-License-Identifier: Apache-2.0
//! `/projects/{p}/issuers`.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use cap_client::wire;
use cap_core::access::Action;
use cap_core::audit::{self, Draft};
use cap_core::certificate::account_key;
use cap_core::envelope::KeyOwner;
use cap_core::id::{IssuerId, ProjectId};
use cap_core::issuer::{Contact, IssuerSpec, IssuerStatus};
use cap_core::job::{JobDraft, Work};
use cap_core::name::Label;
use cap_core::page::Slice;
use cap_core::secret::ExposeSecret;
use cap_store::{IssuerRecord, Mutation, StoreError};

use crate::app::App;
use crate::auth::Caller;
use crate::body::{Body, ListParams, Params};
use crate::idempotency::IdempotencyKey;
use crate::problem::{ApiError, CONFLICT};
use crate::view;

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/projects/{p}/issuers", get(list).post(create))
        .route("/projects/{p}/issuers/{i}", get(read).delete(remove))
}

async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(project): Path<String>,
    key: IdempotencyKey,
    body: Body<wire::CreateIssuer>,
) -> Result<Response, ApiError> {
    let project = app.project(&caller, &project, Action::AdministerProject).await?.id;
    if let Some(earlier) = key.earlier(&app, &caller, &body.sha256).await? {
        let issuer = find(&app, project, &earlier.resource).await?;
        return Ok((StatusCode::CREATED, Json(view::issuer(issuer))).into_response());
    }
    let name: Label = body.value.name.parse().map_err(ApiError::invalid)?;
    let issuer = new_issuer(&app, project, name, spec(body.value)?).await?;
    let work = Work::RegisterIssuer { issuer: issuer.id };
    let job = JobDraft::now(project, work, issuer.fence, app.clock.as_ref(), app.entropy.as_ref());
    let draft = Draft::new(audit::Action::IssuerCreated, Some(project), issuer.id)
        .detail("name", issuer.name.to_string())
        .detail("directory_url", issuer.spec.directory.to_string())
        .sealed("account_key", &issuer.account_key);
    let audit = app.audit(&caller, &draft).await?;
    let request = key.request(&app, &caller, &body.sha256, 201, issuer.id.to_string());
    let mutation = Mutation { audit: &audit, request: request.as_ref() };
    app.store.create_issuer(&issuer, &job, mutation).await.map_err(|error| match error {
        StoreError::Conflict { .. } => {
            ApiError::new(CONFLICT, format!("the project has an issuer called {} already", issuer.name))
        }
        error => error.into(),
    })?;
    Ok((StatusCode::CREATED, Json(view::issuer(issuer))).into_response())
}

fn spec(asked: wire::CreateIssuer) -> Result<IssuerSpec, ApiError> {
    let directory = asked.directory_url.parse().map_err(ApiError::invalid)?;
    let trust_roots = asked.trust_roots_pem.map(|pem| pem.parse()).transpose().map_err(ApiError::invalid)?;
    let contacts = asked.contact.iter().map(|contact| contact.parse::<Contact>()).collect::<Result<_, _>>();
    IssuerSpec::new(directory, trust_roots, contacts.map_err(ApiError::invalid)?).map_err(ApiError::invalid)
}

async fn new_issuer(
    app: &App,
    project: ProjectId,
    name: Label,
    spec: IssuerSpec,
) -> Result<IssuerRecord, ApiError> {
    let id = IssuerId::generate(app.clock.as_ref(), app.entropy.as_ref());
    let key = account_key().map_err(ApiError::internal)?;
    let place = ("issuers", &*id.to_string(), "account_key");
    let account_key = app.keyring.seal(KeyOwner::Project(project), place, 1, key.expose_secret()).await?;
    Ok(IssuerRecord {
        id,
        project,
        name,
        spec,
        account_key,
        account_url: None,
        status: IssuerStatus::Registering,
        problem: None,
        next_attempt_at: None,
        fence: 0,
        created_at: app.clock.now(),
    })
}

async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(project): Path<String>,
    Params(params): Params<ListParams>,
) -> Result<Json<Slice<wire::Issuer>>, ApiError> {
    let project = app.project(&caller, &project, Action::ReadProject).await?.id;
    Ok(Json(app.store.issuers(project, &params.page()?).await?.map(view::issuer)))
}

async fn read(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((project, issuer)): Path<(String, String)>,
) -> Result<Json<wire::Issuer>, ApiError> {
    let project = app.project(&caller, &project, Action::ReadProject).await?.id;
    Ok(Json(view::issuer(find(&app, project, &issuer).await?)))
}

async fn remove(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((project, issuer)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let project = app.project(&caller, &project, Action::AdministerProject).await?.id;
    let issuer = find(&app, project, &issuer).await?;
    let draft = Draft::new(audit::Action::IssuerDeleted, Some(project), issuer.id);
    let audit = app.audit(&caller, &draft).await?;
    app.store.delete_issuer(issuer.id, Mutation { audit: &audit, request: None }).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn find(app: &App, project: ProjectId, id_or_name: &str) -> Result<IssuerRecord, ApiError> {
    let found = app.store.issuer(project, id_or_name).await?;
    found.ok_or_else(|| ApiError::not_found("issuer", id_or_name))
}
