// SPDX-License-Identifier: Apache-2.0
//! `PATCH` and `DELETE .../certificates/{c}`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use cap_client::wire;
use cap_core::access::Action;
use cap_core::audit::{self, Draft};
use cap_core::drift::DriftTarget;
use cap_store::{CertificateChange, Mutation};

use crate::app::App;
use crate::auth::Caller;
use crate::body::{At, Body};
use crate::problem::ApiError;

use super::etag::{self, IfMatch};

pub(super) async fn update(
    State(app): State<Arc<App>>,
    caller: Caller,
    At((project, id)): At<(String, String)>,
    condition: IfMatch,
    body: Body<wire::UpdateCertificate>,
) -> Result<Response, ApiError> {
    let project = app.project(&caller, &project, Action::OperateProject).await?.id;
    let certificate = super::find(&app, project, &id).await?;
    let seen = condition.check(&certificate, app.now())?;
    let drift_target = body.value.drift.clone().map(|target| drift_target(target.as_ref())).transpose()?;
    let change = CertificateChange { auto_renew: body.value.auto_renew, drift_target };
    let draft = Draft::new(audit::Action::CertificateUpdated, Some(project), certificate.id)
        .detail("auto_renew", body.value.auto_renew);
    let draft = match &body.value.drift {
        Some(target) => draft
            .detail("drift_host", target.as_ref().and_then(|target| target.host.clone()))
            .detail("drift_port", target.as_ref().and_then(|target| target.port)),
        None => draft,
    };
    let audit = app.audit(&caller, &draft).await?;
    let mutation = Mutation { audit: &audit, request: None };
    let updated = app.store.update_certificate(certificate.id, seen, change, app.now(), mutation).await;
    if !updated.map_err(IfMatch::overtaken)? {
        return Err(ApiError::not_found("certificate", &id));
    }
    Ok(etag::answer(super::find(&app, project, &id).await?, app.now()))
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
    deleted.map_err(IfMatch::overtaken)?;
    Ok(StatusCode::NO_CONTENT)
}
