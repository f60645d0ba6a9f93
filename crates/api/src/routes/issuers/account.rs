// SPDX-License-Identifier: Apache-2.0
//! `POST .../issuers/{i}/roll-key` and `.../deactivate`: what is asked of an account at its CA, and done by a job.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use cap_client::wire;
use cap_core::access::Action;
use cap_core::audit::{self, Draft};
use cap_core::certificate::account_key;
use cap_core::envelope::Slot;
use cap_core::issuer::{Hold, IssuerStatus, KEY_IN_USE};
use cap_core::secret::ExposeSecret;
use cap_store::{IssuerRecord, Mutation, Request, RolloverRecord, StoreError};

use crate::answer::accepted;
use crate::app::App;
use crate::auth::Caller;
use crate::body::{At, Body, NoBody};
use crate::idempotency::IdempotencyKey;
use crate::problem::{ApiError, CONFLICT};
use crate::view;

/// Has the account take another key. One that is being rolled already goes on.
pub(super) async fn roll_key(
    State(app): State<Arc<App>>,
    caller: Caller,
    At((project, named)): At<(String, String)>,
    key: IdempotencyKey,
    body: NoBody,
) -> Result<Response, ApiError> {
    let project = app.project(&caller, &project, Action::AdministerProject).await?.id;
    let issuer = super::find(&app, project, &named).await?;
    if key.earlier(&app, &caller, &body.sha256).await?.is_some() {
        return Ok(answer(issuer));
    }
    if issuer.is_rolling() {
        // Repeated when that is over, it must not have the key rolled once more.
        let request = key.request(&app, &caller, &body.sha256, 202, issuer.id.to_string());
        remember(&app, &key, request.as_ref()).await?;
        return Ok(answer(issuer));
    }
    if matches!(issuer.shown_status(), IssuerStatus::Deactivating | IssuerStatus::Deactivated) {
        let detail = format!(
            "issuer {} is deactivated, for ever, so its account needs no other key; create another issuer",
            issuer.name
        );
        return Err(ApiError::new(CONFLICT, detail));
    }
    if issuer.shown_status() != IssuerStatus::Ready || issuer.account_url.is_none() {
        let detail = format!(
            "issuer {} is not ready, and only an account that the CA accepts can take another key; roll it when it is ready",
            issuer.name
        );
        return Err(ApiError::new(CONFLICT, detail));
    }
    let rollover = rollover(&app, &issuer).await?;
    let draft = Draft::new(audit::Action::IssuerKeyRollRequested, Some(project), issuer.id)
        .sealed("next_account_key", &rollover.key);
    let audit = app.audit(&caller, &draft).await?;
    let request = key.request(&app, &caller, &body.sha256, 202, issuer.id.to_string());
    let mutation = Mutation { audit: &audit, request: request.as_ref() };
    let job = super::registration(&app, &issuer);
    match app.store.request_rollover(&issuer, &rollover, &job, mutation).await {
        Ok(()) => {}
        Err(StoreError::Replayed(earlier)) => {
            key.same(*earlier, &body.sha256)?;
        }
        Err(error) => return Err(overtaken(error)),
    }
    Ok(answer(super::find(&app, project, &issuer.id.to_string()).await?))
}

/// Remembers a request that somebody else's goes before.
async fn remember(app: &App, key: &IdempotencyKey, request: Option<&Request>) -> Result<(), ApiError> {
    let Some(request) = request else { return Ok(()) };
    match app.store.remember(request).await {
        Err(StoreError::Replayed(earlier)) => key.same(*earlier, &request.body_sha256).map(drop),
        remembered => Ok(remembered?),
    }
}

/// The next key: a new one, or the one that was given up before, which the CA may have heard of and may yet take.
async fn rollover(app: &App, issuer: &IssuerRecord) -> Result<RolloverRecord, ApiError> {
    let requested_at = app.now();
    let is_free =
        |rollover: &&RolloverRecord| rollover.problem.as_ref().is_some_and(|p| p.kind != KEY_IN_USE);
    if let Some(before) = issuer.rollover.as_ref().filter(is_free) {
        return Ok(RolloverRecord { key: before.key.clone(), requested_at, problem: None });
    }
    let key = account_key().map_err(ApiError::internal)?;
    // Sealed for the place that it will have, so that taking that place is one write.
    let slot = Slot::account_key(issuer.project, issuer.id);
    let key = app.keyring.seal(&slot, key.expose_secret()).await?;
    Ok(RolloverRecord { key, requested_at, problem: None })
}

/// Has the CA close the account, for ever. Asking twice is fine.
pub(super) async fn deactivate(
    State(app): State<Arc<App>>,
    caller: Caller,
    At((project, named)): At<(String, String)>,
    key: IdempotencyKey,
    body: Body<wire::DeactivateIssuer>,
) -> Result<Response, ApiError> {
    let project = app.project(&caller, &project, Action::AdministerProject).await?.id;
    let issuer = super::find(&app, project, &named).await?;
    let is_asked = matches!(issuer.why_held(), Some(Hold::Deactivating | Hold::Deactivated));
    if key.earlier(&app, &caller, &body.sha256).await?.is_some() || is_asked {
        return Ok(answer(issuer));
    }
    let draft = Draft::new(audit::Action::IssuerDeactivationRequested, Some(project), issuer.id)
        .detail("account_url", issuer.known_url())
        .detail("even_if_used", body.value.even_if_used);
    let audit = app.audit(&caller, &draft).await?;
    let request = key.request(&app, &caller, &body.sha256, 202, issuer.id.to_string());
    let mutation = Mutation { audit: &audit, request: request.as_ref() };
    let job = super::registration(&app, &issuer);
    match app.store.request_deactivation(&issuer, body.value.even_if_used, &job, mutation).await {
        Ok(users) if users.is_empty() => {}
        Ok(users) => {
            let named: Vec<String> = users.iter().map(super::named).collect();
            let detail = format!(
                "certificates use the issuer {}, among them {}, and none of them would be renewed any more; delete them \
                 first, or send even_if_used (`--even-if-used`)",
                issuer.name,
                named.join(", ")
            );
            return Err(ApiError::new(CONFLICT, detail));
        }
        Err(StoreError::Replayed(earlier)) => {
            key.same(*earlier, &body.sha256)?;
        }
        Err(error) => return Err(overtaken(error)),
    }
    Ok(answer(super::find(&app, project, &issuer.id.to_string()).await?))
}

/// What the client reads when somebody else changed the issuer in the same moment.
fn overtaken(error: StoreError) -> ApiError {
    match error {
        StoreError::Conflict { .. } => {
            ApiError::new(CONFLICT, "the issuer changed in the same moment; look at it, and ask again")
        }
        error => error.into(),
    }
}

fn answer(issuer: IssuerRecord) -> Response {
    accepted(&format!("projects/{}/issuers/{}", issuer.project, issuer.id), view::issuer(issuer))
}
