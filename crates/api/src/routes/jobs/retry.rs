// SPDX-License-Identifier: Apache-2.0
//! `POST .../jobs/{j}/retry`: now, whatever it waits for.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use cap_core::access::Action;
use cap_core::audit;
use cap_core::job::JobState;
use cap_store::{JobRecord, Mutation, StoreError};

use crate::answer::accepted;
use crate::app::App;
use crate::auth::Caller;
use crate::body::{At, NoBody};
use crate::idempotency::IdempotencyKey;
use crate::problem::ApiError;
use crate::view;

pub(super) async fn retry(
    State(app): State<Arc<App>>,
    caller: Caller,
    At((project, job)): At<(String, String)>,
    key: IdempotencyKey,
    body: NoBody,
) -> Result<Response, ApiError> {
    let project = app.project(&caller, &project, Action::OperateProject).await?.id;
    if let Some(earlier) = key.earlier(&app, &caller, &body.sha256).await? {
        return Ok(answer(super::again(&app, project, &earlier.resource).await?));
    }
    let (job, work) = super::find_known(&app, project, &job).await?;
    let audit = app.audit(&caller, &super::draft(audit::Action::JobRetried, &job, &work)).await?;
    let request = key.request(&app, &caller, &body.sha256, 202, job.id.to_string());
    match app.store.retry_job(project, job.id, Mutation { audit: &audit, request: request.as_ref() }).await {
        Ok(Ok(job)) => Ok(answer(job)),
        Ok(Err(refusal)) => Err(super::refused("retried", job.id, refusal, JobState::against_retry)),
        Err(StoreError::Replayed(earlier)) => {
            let earlier = key.same(*earlier, &body.sha256)?;
            Ok(answer(super::again(&app, project, &earlier.resource).await?))
        }
        Err(error) => Err(error.into()),
    }
}

fn answer(job: JobRecord) -> Response {
    accepted(&format!("projects/{}/jobs/{}", job.project, job.id), view::job(job))
}
