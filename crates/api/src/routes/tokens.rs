// SPDX-License-Identifier: Apache-2.0
//! `/tokens`: made, listed, revoked; shown once.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get};
use axum::{Json, Router};
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
use cap_store::{Mutation, TokenRecord};

use crate::app::App;
use crate::auth::Caller;
use crate::body::{Body, ListParams, Params};
use crate::idempotency::IdempotencyKey;
use crate::problem::{ALREADY_ANSWERED, ApiError};
use crate::view;

pub(super) fn router() -> Router<Arc<App>> {
    Router::new().route("/tokens", get(list).post(create)).route("/tokens/{t}", delete(revoke))
}

async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    key: IdempotencyKey,
    body: Body<wire::CreateToken>,
) -> Result<Response, ApiError> {
    caller.must(Action::AdministerOrganisation)?;
    if let Some(earlier) = key.earlier(&app, &caller, &body.sha256).await? {
        let detail = format!(
            "this request made token {} before, and a token is shown once; revoke it and make another",
            earlier.resource
        );
        return Err(ApiError::new(ALREADY_ANSWERED, detail));
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
    let now = app.clock.now();
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
    app.store.create_token(&record, Mutation { audit: &audit, request: request.as_ref() }).await?;
    let token = token.into_text().expose_secret().to_owned();
    let created = wire::CreatedToken { record: view::token(record), token };
    Ok((StatusCode::CREATED, Json(created)).into_response())
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
    Ok(Json(app.store.tokens(&params.page()?).await?.map(view::token)))
}

async fn revoke(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    caller.must(Action::AdministerOrganisation)?;
    let missing = || ApiError::not_found("token", &id);
    let token: TokenId = id.parse().map_err(|_| missing())?;
    let record = app.store.token(token).await?.ok_or_else(missing)?;
    let draft = Draft::new(audit::Action::TokenRevoked, record.project, token);
    let audit = app.audit(&caller, &draft).await?;
    app.store.revoke_token(token, app.clock.now(), Mutation { audit: &audit, request: None }).await?;
    Ok(StatusCode::NO_CONTENT)
}
