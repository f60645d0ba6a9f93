// SPDX-License-Identifier: Apache-2.0
//! `PATCH` and `DELETE .../certificates/{c}`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use cap_client::wire;
use cap_core::access::Action;
use cap_core::audit::{self, Draft};
use cap_core::certificate::{ChainName, Profile};
use cap_core::drift::DriftTarget;
use cap_store::{CertificateChange, CertificateRecord, Deleted, Mutation, Request, StoreError};

use crate::app::App;
use crate::auth::Caller;
use crate::body::{At, Body};
use crate::idempotency::{IdempotencyKey, another_body};
use crate::problem::{ApiError, CONFLICT};

use super::etag::{self, IfMatch};

pub(super) async fn update(
    State(app): State<Arc<App>>,
    caller: Caller,
    At((project, id)): At<(String, String)>,
    condition: IfMatch,
    key: IdempotencyKey,
    body: Body<wire::UpdateCertificate>,
) -> Result<Response, ApiError> {
    let project = app.project(&caller, &project, Action::OperateProject).await?.id;
    let certificate = super::find(&app, project, &id).await?;
    if key.earlier(&app, &caller, &body.sha256).await?.is_some() {
        return Ok(etag::answer(super::find(&app, project, &id).await?, app.now()));
    }
    let seen = condition.check(&certificate, app.now())?;
    let request = key.request(&app, &caller, &body.sha256, 200, certificate.id.to_string());
    carry_out(&app, &caller, (&certificate, seen), &body.value, request.as_ref()).await
}

/// Changes a certificate, which must still be as it was `seen` where that matters to the client; answers it.
pub(super) async fn carry_out(
    app: &App,
    caller: &Caller,
    (certificate, seen): (&CertificateRecord, Option<&CertificateRecord>),
    asked: &wire::UpdateCertificate,
    request: Option<&Request>,
) -> Result<Response, ApiError> {
    let (project, id) = (certificate.project, certificate.id);
    let drift_target = asked.drift.clone().map(|target| drift_target(target.as_ref())).transpose()?;
    let change = change(asked, drift_target)?;
    let draft = Draft::new(audit::Action::CertificateUpdated, Some(project), id)
        .detail("auto_renew", asked.auto_renew);
    let audit = app.audit(caller, &audited(draft, asked)).await?;
    let mutation = Mutation { audit: &audit, request };
    match app.store.update_certificate(id, seen, change, app.now(), mutation).await {
        Err(StoreError::Replayed(earlier))
            if request.is_some_and(|request| request.body_sha256 != earlier.body_sha256) =>
        {
            Err(another_body())
        }
        Ok(true) | Err(StoreError::Replayed(_)) => {
            Ok(etag::answer(super::find(app, project, &id.to_string()).await?, app.now()))
        }
        Ok(false) => Err(ApiError::not_found("certificate", &id.to_string())),
        Err(error) => Err(IfMatch::overtaken(seen, error)),
    }
}

/// What is changed, each value as it may be.
fn change(
    asked: &wire::UpdateCertificate,
    drift_target: Option<Option<DriftTarget>>,
) -> Result<CertificateChange, ApiError> {
    let profile = asked.profile.clone().map(|profile| profile.map(Profile::try_from).transpose());
    let chain = asked.preferred_chain.clone().map(|chain| chain.map(ChainName::try_from).transpose());
    let key = asked.key.unwrap_or_default();
    Ok(CertificateChange {
        auto_renew: asked.auto_renew,
        key_type: key.kind,
        key_reuse: key.reuse,
        profile: profile.transpose().map_err(ApiError::invalid)?,
        preferred_chain: chain.transpose().map_err(ApiError::invalid)?,
        drift_target,
    })
}

/// With what was asked to be changed, in the entry.
fn audited(draft: Draft, asked: &wire::UpdateCertificate) -> Draft {
    let key = asked.key.unwrap_or_default();
    let key_type = key.kind.map(|kind| ("key_type", Some(kind.as_str().to_owned())));
    let profile = asked.profile.clone().map(|profile| ("profile", profile));
    let chain = asked.preferred_chain.clone().map(|chain| ("preferred_chain", chain));
    let texts = [key_type, profile, chain].into_iter().flatten();
    let mut draft = texts.fold(draft, |draft, (name, value)| draft.detail(name, value));
    if let Some(reuse) = key.reuse {
        draft = draft.detail("key_reuse", reuse);
    }
    match &asked.drift {
        Some(target) => draft
            .detail("drift_host", target.as_ref().and_then(|target| target.host.clone()))
            .detail("drift_port", target.as_ref().and_then(|target| target.port)),
        None => draft,
    }
}

/// Where a certificate is served, as asked; nothing when it is to be unset.
pub(super) fn drift_target(asked: Option<&wire::DriftTarget>) -> Result<Option<DriftTarget>, ApiError> {
    let Some(asked) = asked else { return Ok(None) };
    DriftTarget::parse(asked.host.as_deref(), asked.port).map_err(ApiError::invalid)
}

pub(super) async fn remove(
    State(app): State<Arc<App>>,
    caller: Caller,
    At((project, id)): At<(String, String)>,
    condition: IfMatch,
) -> Result<StatusCode, ApiError> {
    let project = app.project(&caller, &project, Action::OperateProject).await?.id;
    let certificate = super::find(&app, project, &id).await?;
    let seen = condition.check(&certificate, app.now())?;
    let draft = Draft::new(audit::Action::CertificateDeleted, Some(project), certificate.id)
        .names(&certificate.spec.names);
    let audit = app.audit(&caller, &draft).await?;
    let mutation = Mutation { audit: &audit, request: None };
    let deleted = app.store.delete_certificate(certificate.id, seen, mutation).await;
    match deleted.map_err(|error| IfMatch::overtaken(seen, error))? {
        Deleted::Gone => Ok(StatusCode::NO_CONTENT),
        Deleted::BeingRevoked => {
            let detail = "a version of it is being revoked, and could not be once it is deleted; wait until that is done, or \
                          cancel the job that does it";
            Err(ApiError::new(CONFLICT, detail))
        }
    }
}
