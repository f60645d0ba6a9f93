// SPDX-License-Identifier: Apache-2.0
//! `PATCH` and `DELETE .../certificates/{c}`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use cap_client::wire;
use cap_core::access::Action;
use cap_core::audit::{self, Draft};
use cap_store::{CertificateChange, Mutation};

use crate::app::App;
use crate::auth::Caller;
use crate::body::Body;
use crate::problem::ApiError;
use crate::view;

pub(super) async fn update(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((project, id)): Path<(String, String)>,
    body: Body<wire::UpdateCertificate>,
) -> Result<Json<wire::Certificate>, ApiError> {
    let project = app.project(&caller, &project, Action::OperateProject).await?.id;
    let certificate = super::find(&app, project, &id).await?;
    let change = CertificateChange { auto_renew: body.value.auto_renew };
    let draft = Draft::new(audit::Action::CertificateUpdated, Some(project), certificate.id)
        .detail("auto_renew", body.value.auto_renew);
    let audit = app.audit(&caller, &draft).await?;
    let mutation = Mutation { audit: &audit, request: None };
    if !app.store.update_certificate(certificate.id, change, app.clock.now(), mutation).await? {
        return Err(ApiError::not_found("certificate", &id));
    }
    Ok(Json(view::certificate(super::find(&app, project, &id).await?)))
}

pub(super) async fn remove(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((project, id)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let project = app.project(&caller, &project, Action::OperateProject).await?.id;
    let certificate = super::find(&app, project, &id).await?;
    let draft = Draft::new(audit::Action::CertificateDeleted, Some(project), certificate.id)
        .names(&certificate.spec.names);
    let audit = app.audit(&caller, &draft).await?;
    app.store.delete_certificate(certificate.id, Mutation { audit: &audit, request: None }).await?;
    Ok(StatusCode::NO_CONTENT)
}
