// SPDX-License-Identifier: Apache-2.0
//! `POST .../certificates/{c}/renew`: now, whatever the plan says.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use cap_client::wire;
use cap_core::access::Action;
use cap_core::audit::{self, Draft};
use cap_core::id::JobId;
use cap_core::job::{JobDraft, Work};
use cap_store::Mutation;
use sha2::{Digest, Sha256};

use crate::app::App;
use crate::auth::Caller;
use crate::idempotency::IdempotencyKey;
use crate::problem::{ApiError, MALFORMED_REQUEST};
use crate::view;

pub(super) async fn renew(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((project, id)): Path<(String, String)>,
    key: IdempotencyKey,
    body: Bytes,
) -> Result<(StatusCode, Json<wire::Job>), ApiError> {
    let project = app.project(&caller, &project, Action::OperateProject).await?.id;
    if !matches!(body.trim_ascii(), b"" | b"{}") {
        return Err(ApiError::new(MALFORMED_REQUEST, "a renewal takes no settings; send no body, or {}"));
    }
    let sha256 = hex::encode(Sha256::digest(&body));
    if let Some(earlier) = key.earlier(&app, &caller, &sha256).await? {
        let job = earlier.resource.parse::<JobId>().map_err(ApiError::internal)?;
        let job = app
            .store
            .job(project, job)
            .await?
            .ok_or_else(|| ApiError::not_found("job", &earlier.resource))?;
        return Ok((StatusCode::ACCEPTED, Json(view::job(job))));
    }
    let certificate = super::find(&app, project, &id).await?;
    let made_for = certificate.version.map(|version| version.id);
    let work = Work::Issue { certificate: certificate.id, made_for };
    let job = JobDraft::now(project, work, certificate.fence, app.clock.as_ref(), app.entropy.as_ref());
    let draft = Draft::new(audit::Action::CertificateRenewalRequested, Some(project), certificate.id);
    let audit = app.audit(&caller, &draft).await?;
    let request = key.request(&app, &caller, &sha256, 202, job.id.to_string());
    let mutation = Mutation { audit: &audit, request: request.as_ref() };
    let job = app.store.request_renewal(&job, mutation).await?;
    Ok((StatusCode::ACCEPTED, Json(view::job(job))))
}
