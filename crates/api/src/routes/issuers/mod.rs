// SPDX-License-Identifier: Apache-2.0
//! `/projects/{p}/issuers`.

mod account;
mod external;

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use cap_client::wire;
use cap_core::access::Action;
use cap_core::actor::Role;
use cap_core::audit::{self, Draft};
use cap_core::certificate::account_key;
use cap_core::envelope::Slot;
use cap_core::id::{IssuerId, ProjectId};
use cap_core::issuer::{Contact, IssuerSpec, IssuerStatus, TrustRoots};
use cap_core::job::{JobDraft, Work};
use cap_core::name::Label;
use cap_core::page::Slice;
use cap_core::secret::ExposeSecret;
use cap_store::{
    ExternalRecord, IssuerChange, IssuerDeleted, IssuerRecord, IssuerUser, Mutation, StoreError,
};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use crate::app::App;
use crate::auth::Caller;
use crate::body::{At, Body, ListParams, Params};
use crate::idempotency::{IdempotencyKey, deleted_since};
use crate::problem::{ApiError, CONFLICT};
use crate::routes::certificates::etag::{self, IfMatch};
use crate::routes::{Access, Route};
use crate::view;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/projects/{p}/issuers", Access::Project(Role::Viewer), list),
        Route::post("/projects/{p}/issuers", Access::Project(Role::Admin), create),
        Route::get("/projects/{p}/issuers/{i}", Access::Project(Role::Viewer), read),
        Route::patch("/projects/{p}/issuers/{i}", Access::Project(Role::Admin), update),
        Route::delete("/projects/{p}/issuers/{i}", Access::Project(Role::Admin), remove),
        Route::post("/projects/{p}/issuers/{i}/roll-key", Access::Project(Role::Admin), account::roll_key),
        Route::post(
            "/projects/{p}/issuers/{i}/deactivate",
            Access::Project(Role::Admin),
            account::deactivate,
        ),
    ]
}

async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(project): At<String>,
    key: IdempotencyKey,
    body: Body<wire::CreateIssuer>,
) -> Result<Response, ApiError> {
    let project = app.project(&caller, &project, Action::AdministerProject).await?.id;
    if let Some(earlier) = key.earlier(&app, &caller, &body.sha256).await? {
        return again(&app, project, &earlier.resource).await;
    }
    let name: Label = body.value.name.parse().map_err(ApiError::invalid)?;
    let issuer = new_issuer(&app, project, name, body.value).await?;
    let job = registration(&app, &issuer);
    let draft = Draft::new(audit::Action::IssuerCreated, Some(project), issuer.id)
        .detail("name", issuer.name.to_string())
        .detail("directory_url", issuer.spec.directory.to_string())
        .sealed("account_key", &issuer.account_key);
    let draft = bound(draft, issuer.external.as_ref());
    let audit = app.audit(&caller, &draft).await?;
    let request = key.request(&app, &caller, &body.sha256, 201, issuer.id.to_string());
    let mutation = Mutation { audit: &audit, request: request.as_ref() };
    match app.store.create_issuer(&issuer, &job, mutation).await {
        Ok(()) => Ok(answer(issuer, app.now())),
        Err(StoreError::Replayed(earlier)) => {
            again(&app, project, &key.same(*earlier, &body.sha256)?.resource).await
        }
        Err(StoreError::Conflict { .. }) => {
            let detail = format!("the project has an issuer called {} already", issuer.name);
            Err(ApiError::new(CONFLICT, detail))
        }
        Err(error) => Err(error.into()),
    }
}

/// The answer that the same request got before.
async fn again(app: &App, project: ProjectId, recorded: &str) -> Result<Response, ApiError> {
    let found = app.store.issuer(project, recorded).await?;
    Ok(answer(found.ok_or_else(|| deleted_since("issuer", recorded))?, app.now()))
}

fn answer(issuer: IssuerRecord, now: Timestamp) -> Response {
    etag::created_at(&format!("projects/{}/issuers/{}", issuer.project, issuer.id), issuer, now)
}

/// Binds the leaf to the external account that an issuer is bound to.
fn bound(draft: Draft, external: Option<&ExternalRecord>) -> Draft {
    match external {
        Some(external) => {
            draft.detail("eab_kid", external.kid.to_string()).sealed("eab_hmac_key", &external.hmac_key)
        }
        None => draft,
    }
}

fn spec(asked: &wire::CreateIssuer) -> Result<IssuerSpec, ApiError> {
    let directory = asked.directory_url.parse().map_err(ApiError::invalid)?;
    let roots = asked.trust_roots_pem.clone().map(|pem| pem.parse());
    let trust_roots = roots.transpose().map_err(ApiError::invalid)?;
    IssuerSpec::new(directory, trust_roots, contacts(&asked.contact)?).map_err(ApiError::invalid)
}

fn contacts(asked: &[String]) -> Result<Vec<Contact>, ApiError> {
    asked.iter().map(|contact| contact.parse()).collect::<Result<_, _>>().map_err(ApiError::invalid)
}

async fn new_issuer(
    app: &App,
    project: ProjectId,
    name: Label,
    asked: wire::CreateIssuer,
) -> Result<IssuerRecord, ApiError> {
    let spec = spec(&asked)?;
    let id = IssuerId::generate(app.clock.as_ref(), app.entropy.as_ref());
    let external = external::read(app, (project, id), asked.eab_kid, asked.eab_hmac_key).await?;
    let key = account_key().map_err(ApiError::internal)?;
    let slot = Slot::account_key(project, id);
    let account_key = app.keyring.seal(&slot, key.expose_secret()).await?;
    Ok(IssuerRecord {
        id,
        project,
        name,
        spec,
        account_key,
        external,
        rollover: None,
        rolled_at: None,
        hold: None,
        account_url: None,
        status: IssuerStatus::Registering,
        problem: None,
        next_attempt_at: None,
        fence: 0,
        created_at: app.now(),
    })
}

async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(project): At<String>,
    Params(params): Params<ListParams>,
) -> Result<Json<Slice<wire::Issuer>>, ApiError> {
    let project = app.project(&caller, &project, Action::ReadProject).await?.id;
    Ok(Json(app.store.issuers(project, &params.page::<IssuerId>()?).await?.map(view::issuer)))
}

async fn read(
    State(app): State<Arc<App>>,
    caller: Caller,
    At((project, issuer)): At<(String, String)>,
) -> Result<Response, ApiError> {
    let project = app.project(&caller, &project, Action::ReadProject).await?.id;
    Ok(etag::answer(find(&app, project, &issuer).await?, app.now()))
}

async fn update(
    State(app): State<Arc<App>>,
    caller: Caller,
    At((project, named)): At<(String, String)>,
    condition: IfMatch,
    key: IdempotencyKey,
    body: Body<wire::UpdateIssuer>,
) -> Result<Response, ApiError> {
    let project = app.project(&caller, &project, Action::AdministerProject).await?.id;
    let issuer = find(&app, project, &named).await?;
    if key.earlier(&app, &caller, &body.sha256).await?.is_some() {
        return Ok(etag::answer(find(&app, project, &named).await?, app.now()));
    }
    let seen = condition.check(&issuer, app.now())?;
    let Body { value, sha256, .. } = body;
    let change = change(&app, &issuer, value).await?;
    match issuer.shown_status() {
        IssuerStatus::Deactivated => {
            let detail = format!("issuer {} is deactivated, for ever; make another issuer", issuer.name);
            return Err(ApiError::new(CONFLICT, detail));
        }
        // The CA has to be reached for that.
        IssuerStatus::Deactivating if !change.is_of_trust() => {
            let detail = format!(
                "issuer {} is being deactivated, and nothing but trust_roots_pem may be changed until it is; make another issuer",
                issuer.name
            );
            return Err(ApiError::new(CONFLICT, detail));
        }
        _ => {}
    }
    let draft = Draft::new(audit::Action::IssuerUpdated, Some(project), issuer.id)
        .detail("trust_roots_sha256", change.trust_roots.as_ref().map(fingerprints))
        .detail("contact", change.contacts.is_some())
        .detail("eab", change.external.is_some());
    let draft = bound(draft, change.external.as_ref().and_then(Option::as_ref));
    let audit = app.audit(&caller, &draft).await?;
    let request = key.request(&app, &caller, &sha256, 200, issuer.id.to_string());
    let mutation = Mutation { audit: &audit, request: request.as_ref() };
    let job = registration(&app, &issuer);
    match app.store.update_issuer(issuer.id, seen, &change, &job, mutation).await {
        Ok(true) => {}
        Ok(false) => return Err(ApiError::not_found("issuer", &named)),
        Err(StoreError::Replayed(earlier)) => drop(key.same(*earlier, &sha256)?),
        Err(error) => return Err(IfMatch::overtaken(seen, error)),
    }
    Ok(etag::answer(find(&app, project, &issuer.id.to_string()).await?, app.now()))
}

async fn change(
    app: &App,
    issuer: &IssuerRecord,
    asked: wire::UpdateIssuer,
) -> Result<IssuerChange, ApiError> {
    let roots = |pem: String| pem.parse().map_err(ApiError::invalid);
    let trust_roots = asked.trust_roots_pem.map(|pem| pem.map(roots).transpose()).transpose()?;
    let contacts = asked.contact.map(|asked| contacts(&asked.unwrap_or_default())).transpose()?;
    if let Some(contacts) = &contacts {
        IssuerSpec::new(issuer.spec.directory.clone(), None, contacts.clone()).map_err(ApiError::invalid)?;
    }
    let external = external::change(app, issuer, asked.eab_kid, asked.eab_hmac_key).await?;
    Ok(IssuerChange { trust_roots, contacts, external })
}

/// What a CA is trusted by from now on, for the audit: none are the public roots.
fn fingerprints(roots: &Option<TrustRoots>) -> Vec<String> {
    let certificates = roots.iter().flat_map(TrustRoots::certificates);
    certificates.map(|certificate| hex::encode(Sha256::digest(certificate))).collect()
}

/// The job that registers an issuer's account.
fn registration(app: &App, issuer: &IssuerRecord) -> JobDraft {
    let work = Work::RegisterIssuer { issuer: issuer.id };
    JobDraft::now(issuer.project, work, issuer.fence, app.clock.as_ref(), app.entropy.as_ref()).awaited()
}

async fn remove(
    State(app): State<Arc<App>>,
    caller: Caller,
    At((project, issuer)): At<(String, String)>,
    condition: IfMatch,
) -> Result<StatusCode, ApiError> {
    let project = app.project(&caller, &project, Action::AdministerProject).await?.id;
    let issuer = find(&app, project, &issuer).await?;
    let seen = condition.check(&issuer, app.now())?;
    let draft = Draft::new(audit::Action::IssuerDeleted, Some(project), issuer.id);
    let audit = app.audit(&caller, &draft).await?;
    let mutation = Mutation { audit: &audit, request: None };
    let deleted = app.store.delete_issuer(issuer.id, seen, mutation).await;
    let detail = match deleted.map_err(|error| IfMatch::overtaken(seen, error))? {
        IssuerDeleted::Gone => return Ok(StatusCode::NO_CONTENT),
        IssuerDeleted::Used(users) => format!(
            "certificates use the issuer {}, among them {}; delete what uses it first",
            issuer.name,
            users.iter().map(named).collect::<Vec<_>>().join(", ")
        ),
        IssuerDeleted::BeingDeactivated => format!(
            "the account of issuer {} is being deactivated, and nobody would have the CA do it once the issuer is deleted; delete \
             it when it is deactivated, or shows a problem that is in the way of that",
            issuer.name
        ),
        IssuerDeleted::BeingRolled => format!(
            "the account of issuer {} is taking another key, and which one the CA knows would be lost with the issuer; delete it \
             when that is done, or when it shows a problem that is in the way of it",
            issuer.name
        ),
    };
    Err(ApiError::new(CONFLICT, detail))
}

fn named(user: &IssuerUser) -> String {
    let first = user.names.identifiers().first().map(ToString::to_string).unwrap_or_default();
    format!("{} ({first})", user.certificate)
}

pub(super) async fn find(app: &App, project: ProjectId, id_or_name: &str) -> Result<IssuerRecord, ApiError> {
    let found = app.store.issuer(project, id_or_name).await?;
    found.ok_or_else(|| ApiError::not_found("issuer", id_or_name))
}
