// SPDX-License-Identifier: Apache-2.0
//! `POST .../certificates/{c}/renew`: now, whatever the plan says.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use cap_core::access::Action;
use cap_core::audit::{self, Draft};
use cap_core::clock::later;
use cap_core::job::{JobDraft, Work};
use cap_core::order::buckets;
use cap_store::{CertificateRecord, JobRecord, Mutation, StoreError};

use crate::answer::accepted;
use crate::app::App;
use crate::auth::Caller;
use crate::body::{At, NoBody};
use crate::idempotency::IdempotencyKey;
use crate::problem::{ApiError, CONFLICT};
use crate::routes::jobs::again;
use crate::view;

use super::etag::IfMatch;

pub(super) async fn renew(
    State(app): State<Arc<App>>,
    caller: Caller,
    At((project, id)): At<(String, String)>,
    condition: IfMatch,
    key: IdempotencyKey,
    body: NoBody,
) -> Result<Response, ApiError> {
    let project = app.project(&caller, &project, Action::OperateProject).await?.id;
    let certificate = super::find(&app, project, &id).await?;
    if let Some(earlier) = key.earlier(&app, &caller, &body.sha256).await? {
        return Ok(answer(again(&app, project, &earlier.resource).await?));
    }
    let seen = condition.check(&certificate, app.now())?;
    let made_for = certificate.version.as_ref().map(|version| version.id);
    let work = Work::Issue { certificate: certificate.id, made_for };
    let expires = certificate.version.as_ref().map(|version| version.not_after);
    let job = JobDraft::now(project, work, certificate.fence, app.clock.as_ref(), app.entropy.as_ref())
        .awaited()
        .before(expires);
    let draft = Draft::new(audit::Action::CertificateRenewalRequested, Some(project), certificate.id);
    let audit = app.audit(&caller, &draft).await?;
    let request = key.request(&app, &caller, &body.sha256, 202, job.id.to_string());
    let mutation = Mutation { audit: &audit, request: request.as_ref() };
    match app.store.request_renewal(seen, &job, mutation).await {
        Ok(job) => Ok(answer(kept_waiting(&app, &certificate, job).await?)),
        Err(StoreError::Replayed(earlier)) => {
            let earlier = key.same(*earlier, &body.sha256)?;
            Ok(answer(again(&app, project, &earlier.resource).await?))
        }
        Err(overtaken @ StoreError::Conflict { .. }) if seen.is_some() => {
            Err(IfMatch::overtaken(seen, overtaken))
        }
        Err(overtaken @ StoreError::Conflict { .. }) => {
            let number = super::find(&app, project, &id).await?.version.map_or(0, |version| version.number);
            let detail = format!(
                "the certificate was renewed in the same moment, and its version is {number} now; renew it again if that is not enough"
            );
            Err(ApiError::new(CONFLICT, detail).because(overtaken))
        }
        Err(error) => Err(error.into()),
    }
}

/// The job, with the CA's rate limit that it has to keep, if there is one: nobody's request goes past that, and whoever
/// makes it is told at once.
async fn kept_waiting(
    app: &App,
    certificate: &CertificateRecord,
    mut job: JobRecord,
) -> Result<JobRecord, ApiError> {
    // An order in flight goes on; where it is not placed yet, its job has said so already.
    if certificate.order.is_none()
        && let Some(parked) = app.store.parked(certificate.issuer, &buckets(&certificate.spec.names)).await?
    {
        let now = app.clock.now();
        let until = later(now, parked.left);
        if !certificate.goes_past_limit(until, now, true) {
            job.due_at = job.due_at.max(Some(until));
            job.problem = Some(parked.problem);
        }
    }
    Ok(job)
}

pub(super) fn answer(job: JobRecord) -> Response {
    accepted(&format!("projects/{}/jobs/{}", job.project, job.id), view::job(job))
}
