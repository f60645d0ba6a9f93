// SPDX-License-Identifier: Apache-2.0
//! `POST .../certificates/{c}/renew`: now, whatever the plan says.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use cap_core::access::Action;
use cap_core::audit::{self, Draft};
use cap_core::id::{CertificateId, JobId, ProjectId};
use cap_core::job::{JobDraft, JobState, Work};
use cap_core::page::Page;
use cap_store::{JobRecord, Mutation, StoreError};

use crate::answer::accepted;
use crate::app::App;
use crate::auth::Caller;
use crate::body::{At, NoBody};
use crate::idempotency::IdempotencyKey;
use crate::problem::{ApiError, NOT_FOUND};
use crate::view;

pub(super) async fn renew(
    State(app): State<Arc<App>>,
    caller: Caller,
    At((project, id)): At<(String, String)>,
    key: IdempotencyKey,
    body: NoBody,
) -> Result<Response, ApiError> {
    let project = app.project(&caller, &project, Action::OperateProject).await?.id;
    let certificate = super::find(&app, project, &id).await?;
    if let Some(earlier) = key.earlier(&app, &caller, &body.sha256).await? {
        return Ok(answer(again(&app, project, certificate.id, &earlier.resource).await?));
    }
    let made_for = certificate.version.map(|version| version.id);
    let work = Work::Issue { certificate: certificate.id, made_for };
    let job = JobDraft::now(project, work, certificate.fence, app.clock.as_ref(), app.entropy.as_ref());
    let draft = Draft::new(audit::Action::CertificateRenewalRequested, Some(project), certificate.id);
    let audit = app.audit(&caller, &draft).await?;
    let request = key.request(&app, &caller, &body.sha256, 202, job.id.to_string());
    let mutation = Mutation { audit: &audit, request: request.as_ref() };
    match app.store.request_renewal(&job, mutation).await {
        Ok(job) => Ok(answer(job)),
        Err(StoreError::Replayed(earlier)) => {
            let earlier = key.same(*earlier, &body.sha256)?;
            Ok(answer(again(&app, project, certificate.id, &earlier.resource).await?))
        }
        Err(error) => Err(error.into()),
    }
}

/// The job of the same request before: the one that it queued, or the waiting one that it brought forward instead.
async fn again(
    app: &App,
    project: ProjectId,
    certificate: CertificateId,
    recorded: &str,
) -> Result<JobRecord, ApiError> {
    let queued = app.store.job(project, recorded.parse::<JobId>().map_err(ApiError::internal)?).await?;
    if let Some(job) = queued {
        return Ok(job);
    }
    let subject = certificate.to_string();
    let first = Page { limit: 1, after: None };
    for living in [JobState::Queued, JobState::Running] {
        let found = app.store.jobs(project, Some(living), Some(&subject), &first).await?;
        if let Some(job) = found.items.into_iter().next() {
            return Ok(job);
        }
    }
    let detail = "the renewal that this request brought forward is over; the list of jobs shows how it ended";
    Err(ApiError::new(NOT_FOUND, detail))
}

fn answer(job: JobRecord) -> Response {
    accepted(&format!("projects/{}/jobs/{}", job.project, job.id), view::job(job))
}
