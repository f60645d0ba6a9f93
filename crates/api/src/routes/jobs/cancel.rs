// SPDX-License-Identifier: Apache-2.0
//! `POST .../jobs/{j}/cancel`: ends a job that waits, and says what that leads to.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use cap_client::wire;
use cap_core::access::Action;
use cap_core::audit;
use cap_core::job::{JobState, Work};
use cap_store::{JobRecord, Mutation, StoreError};

use crate::app::App;
use crate::auth::Caller;
use crate::body::{At, NoBody};
use crate::idempotency::IdempotencyKey;
use crate::problem::ApiError;
use crate::view;

pub(super) async fn cancel(
    State(app): State<Arc<App>>,
    caller: Caller,
    At((project, job)): At<(String, String)>,
    key: IdempotencyKey,
    body: NoBody,
) -> Result<Json<wire::CancelledJob>, ApiError> {
    let project = app.project(&caller, &project, Action::OperateProject).await?.id;
    if let Some(earlier) = key.earlier(&app, &caller, &body.sha256).await? {
        return answer(&app, super::again(&app, project, &earlier.resource).await?).await;
    }
    let (job, work) = super::find_known(&app, project, &job).await?;
    let audit = app.audit(&caller, &super::draft(audit::Action::JobCancelled, &job, &work)).await?;
    let request = key.request(&app, &caller, &body.sha256, 200, job.id.to_string());
    match app.store.cancel_job(project, job.id, Mutation { audit: &audit, request: request.as_ref() }).await {
        Ok(Ok(job)) => answer(&app, job).await,
        Ok(Err(refusal)) => Err(super::refused("cancelled", job.id, refusal, JobState::against_cancel)),
        Err(StoreError::Replayed(earlier)) => {
            let earlier = key.same(*earlier, &body.sha256)?;
            answer(&app, super::again(&app, project, &earlier.resource).await?).await
        }
        Err(error) => Err(error.into()),
    }
}

async fn answer(app: &App, job: JobRecord) -> Result<Json<wire::CancelledJob>, ApiError> {
    let next = next(app, &job).await?.to_owned();
    Ok(Json(wire::CancelledJob { job: view::job(job), next }))
}

/// What becomes of the work without the job.
async fn next(app: &App, job: &JobRecord) -> Result<&'static str, ApiError> {
    let work =
        job.work.known().ok_or_else(|| ApiError::internal("a job of an unknown kind was cancelled"))?;
    let certificate = match work {
        Work::Issue { certificate, .. } => certificate,
        Work::DriftScan { .. } => {
            return Ok("the certificate is scanned again at its project's interval, or when you ask for it");
        }
        Work::RenewalLook { .. } => {
            return Ok(
                "the scheduler has the CA asked again within a minute, and nothing is renewed later for it",
            );
        }
        Work::Revoke { .. } if job.attempt == 0 => {
            return Ok("the version is not revoked; ask for it again if it shall be");
        }
        Work::Revoke { .. } => {
            return Ok(
                "the CA may have been asked, and may have revoked the version: ask for it again to find out",
            );
        }
        Work::RegisterIssuer { .. } => return Err(ApiError::internal("a registration was cancelled")),
    };
    let certificate = app.store.certificate(job.project, *certificate).await?;
    Ok(match certificate {
        Some(certificate) if certificate.spec.auto_renew && certificate.renew_at.is_some() => {
            "the scheduler plans this renewal again as soon as it is due, and an order that the CA may issue for goes on then; \
             pause the certificate to have it renewed only when you ask"
        }
        Some(_) => {
            "nothing works on this certificate any more: renew it to queue another job, which goes on with an order that the \
             CA may issue for, if there is one"
        }
        None => "the certificate is gone: there is nothing left to do",
    })
}
