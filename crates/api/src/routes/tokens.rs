// SPDX-License-Identifier: Apache-2.0
//! `/tokens`: made, listed, revoked; shown once.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use cap_client::wire;
use cap_core::access::Action;
use cap_core::actor::Role;
use cap_core::audit::{self, Draft};
use cap_core::clock::later;
use cap_core::envelope::KeyId;
use cap_core::id::TokenId;
use cap_core::limits;
use cap_core::name::Label;
use cap_core::page::Slice;
use cap_core::secret::ExposeSecret;
use cap_core::token::Token;
use cap_runtime::config::{format_duration, parse_duration};
use cap_store::{Mutation, StoreError, TokenRecord};

use crate::answer::created;
use crate::app::App;
use crate::auth::Caller;
use crate::body::{At, Body, ListParams, Params};
use crate::idempotency::IdempotencyKey;
use crate::problem::{ALREADY_ANSWERED, ApiError};
use crate::routes::{Access, Route};
use crate::view;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/tokens", Access::Organisation, list),
        Route::post("/tokens", Access::Organisation, create),
        Route::get("/tokens/{t}", Access::Organisation, read),
        Route::delete("/tokens/{t}", Access::Organisation, revoke),
    ]
}

async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    key: IdempotencyKey,
    body: Body<wire::CreateToken>,
) -> Result<Response, ApiError> {
    caller.must(Action::AdministerOrganisation)?;
    if let Some(earlier) = key.earlier(&app, &caller, &body.sha256).await? {
        return Err(shown_once(&earlier.resource));
    }
    let asked = body.value;
    let name: Label = asked.name.parse().map_err(ApiError::invalid)?;
    let life = life(asked.expires_in.as_deref())?;
    let project = match &asked.project {
        Some(project) => Some(app.project(&caller, project, Action::AdministerProject).await?.id),
        None => None,
    };
    if asked.role == Role::Owner && project.is_some() {
        return Err(ApiError::invalid(
            "an owner has the whole organisation; leave project out, or choose the role admin",
        ));
    }
    let token =
        Token::generate(TokenId::generate(app.clock.as_ref(), app.entropy.as_ref()), app.entropy.as_ref());
    let (pepper_version, pepper) = app.keyring.current(KeyId::TOKEN_PEPPER).await?;
    let now = app.now();
    let record = TokenRecord {
        id: token.id(),
        name,
        role: asked.role,
        project,
        digest: token.digest(&pepper).to_vec(),
        pepper_version,
        created_at: now,
        expires_at: later(now, life),
        revoked_at: None,
    };
    let draft = Draft::new(audit::Action::TokenCreated, project, record.id)
        .detail("name", record.name.to_string())
        .detail("role", serde_json::to_value(record.role).map_err(ApiError::internal)?)
        .detail("expires_at", record.expires_at.to_string());
    let audit = app.audit(&caller, &draft).await?;
    let request = key.request(&app, &caller, &body.sha256, 201, record.id.to_string());
    let mutation = Mutation { audit: &audit, request: request.as_ref() };
    match app.store.create_token(&record, mutation).await {
        Ok(()) => {}
        Err(StoreError::Replayed(earlier)) => {
            return Err(shown_once(&key.same(*earlier, &body.sha256)?.resource));
        }
        Err(error) => return Err(error.into()),
    }
    let place = format!("tokens/{}", record.id);
    let token = token.into_text().expose_secret().to_owned();
    Ok(created(&place, wire::CreatedToken { record: view::token(record), token }))
}

fn shown_once(token: &str) -> ApiError {
    let detail = format!(
        "this request made token {token} before, and a token is shown once; revoke it and make another"
    );
    ApiError::new(ALREADY_ANSWERED, detail)
}

fn life(asked: Option<&str>) -> Result<Duration, ApiError> {
    let Some(text) = asked else { return Ok(limits::TOKEN_LIFE_DEFAULT) };
    let life = parse_duration(text).map_err(|bad| ApiError::invalid(format!("expires_in: {bad}")))?;
    if life.is_zero() || life > limits::TOKEN_LIFE_MAX {
        let max = format_duration(limits::TOKEN_LIFE_MAX);
        return Err(ApiError::invalid(format!(
            "expires_in is {text}; it must be more than nothing and at most {max}"
        )));
    }
    Ok(life)
}

async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Params(params): Params<ListParams>,
) -> Result<Json<Slice<wire::Token>>, ApiError> {
    caller.must(Action::AdministerOrganisation)?;
    Ok(Json(app.store.tokens(&params.page::<TokenId>()?).await?.map(view::token)))
}

async fn read(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(id): At<String>,
) -> Result<Json<wire::Token>, ApiError> {
    caller.must(Action::AdministerOrganisation)?;
    Ok(Json(view::token(find(&app, &id).await?)))
}

async fn find(app: &App, id: &str) -> Result<TokenRecord, ApiError> {
    let missing = || ApiError::not_found("token", id);
    let token: TokenId = id.parse().map_err(|_| missing())?;
    app.store.token(token).await?.ok_or_else(missing)
}

async fn revoke(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(id): At<String>,
) -> Result<StatusCode, ApiError> {
    caller.must(Action::AdministerOrganisation)?;
    let record = find(&app, &id).await?;
    let draft = Draft::new(audit::Action::TokenRevoked, record.project, record.id);
    let audit = app.audit(&caller, &draft).await?;
    app.store.revoke_token(record.id, app.now(), Mutation { audit: &audit, request: None }).await?;
    Ok(StatusCode::NO_CONTENT)
}
