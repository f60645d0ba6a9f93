// SPDX-License-Identifier: Apache-2.0
//! Who asks: the bearer token, looked up for every request at a primary that a majority confirms.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use cap_core::access::{Action, Verdict, decide};
use cap_core::actor::Actor;
use cap_core::audit::Origin;
use cap_core::envelope::KeyId;
use cap_core::secret;
use cap_core::token::Token;
use cap_store::TokenRecord;

use crate::app::App;
use crate::overload::Asker;
use crate::problem::{ApiError, UNAUTHENTICATED};

/// An authenticated caller.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) actor: Actor,
    source: Option<String>,
}

impl Caller {
    /// Refuses unless the caller may do `action`.
    pub(crate) fn must(&self, action: Action) -> Result<(), ApiError> {
        match decide(&self.actor, action) {
            Verdict::Granted => Ok(()),
            Verdict::Denied(role) => Err(ApiError::forbidden(role)),
            Verdict::DeniedToProjects(role) => Err(ApiError::forbidden_to_projects(role)),
            Verdict::Hidden => Err(ApiError::internal("an action outside projects was hidden")),
        }
    }

    /// Whom the audit names.
    pub(crate) fn origin(&self) -> Origin {
        Origin {
            actor: self.actor.clone(),
            source: self.source.clone(),
            request: crate::middleware::request_id(),
        }
    }

    /// Sets callers apart in idempotency records.
    pub(crate) fn id(&self) -> String {
        self.actor.audit_name()
    }
}

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let token = Token::parse(bearer(&parts.headers)?).map_err(|bad| refuse(&bad.to_string()))?;
        let asker =
            *parts.extensions.get::<Asker>().ok_or_else(|| ApiError::internal("nobody is said to ask"))?;
        app.may_try(&asker)?;
        // Before, so that nobody waits for a database that is away; after, since the token was read in between.
        app.must_be_confirmed()?;
        let found = authenticate(app, &token).await;
        if found.as_ref().err().is_none_or(|error| error.is(UNAUTHENTICATED)) {
            app.tried(&asker, found.is_ok());
        }
        let record = found?;
        app.must_be_confirmed()?;
        let source = Some(asker.address.to_string());
        let scope = record.scope();
        let actor = Actor::Token { id: record.id, name: record.name.to_string(), role: record.role, scope };
        Ok(Self { actor, source })
    }
}

fn refuse(detail: &str) -> ApiError {
    ApiError::new(UNAUTHENTICATED, detail)
}

/// The bearer token that a request shows.
pub(crate) fn bearer(headers: &HeaderMap) -> Result<&str, ApiError> {
    let value = headers.get(header::AUTHORIZATION);
    let value = value
        .ok_or_else(|| refuse("the request has no Authorization header; send \"Bearer\" and a token"))?;
    let text = value.to_str().ok().and_then(|value| value.split_once(' '));
    let text =
        text.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
    text.ok_or_else(|| refuse("the Authorization header must be \"Bearer\" and a token"))
}

async fn authenticate(app: &App, token: &Token) -> Result<TokenRecord, ApiError> {
    let unknown =
        || refuse("the token is not known here; it was made by another installation, or is a forgery");
    let record = app.store.token(token.id()).await?.ok_or_else(unknown)?;
    let pepper = app.keyring.version(KeyId::TOKEN_PEPPER, record.pepper_version).await?;
    // Who does not have the secret learns nothing about the record, not even that it expired.
    if !secret::equal(&token.digest(&pepper), &record.digest) {
        return Err(unknown());
    }
    if let Some(at) = record.revoked_at {
        return Err(refuse(&format!("the token was revoked at {at}; ask for a new one")));
    }
    if record.expires_at <= app.clock.now() {
        return Err(refuse(&format!("the token expired at {}; ask for a new one", record.expires_at)));
    }
    Ok(record)
}
