// SPDX-License-Identifier: Apache-2.0
//! `/projects/{p}/jobs`.

mod cancel;
mod retry;
mod totals;

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use cap_client::wire;
use cap_core::access::Action;
use cap_core::actor::Role;
use cap_core::audit::{self, Draft};
use cap_core::id::{CertificateId, IssuerId, JobId, ProjectId};
use cap_core::job::{JobState, Work};
use cap_core::page::{Order, Page, Slice};
use cap_store::{JobFilter, JobRecord, JobRefusal};
use serde::Deserialize;

use crate::app::App;
use crate::auth::Caller;
use crate::body::{At, Params};
use crate::problem::{ALREADY_ANSWERED, ApiError, CONFLICT, MALFORMED_REQUEST};
use crate::routes::{Access, Route};
use crate::view;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/projects/{p}/jobs", Access::Project(Role::Viewer), list),
        Route::get("/projects/{p}/jobs/totals", Access::Project(Role::Viewer), totals::totals),
        Route::get("/projects/{p}/jobs/{j}", Access::Project(Role::Viewer), read),
        Route::post("/projects/{p}/jobs/{j}/retry", Access::Project(Role::Operator), retry::retry),
        Route::post("/projects/{p}/jobs/{j}/cancel", Access::Project(Role::Operator), cancel::cancel),
    ]
}

/// The query parameters of the list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListJobs {
    limit: Option<u32>,
    cursor: Option<String>,
    state: Option<JobState>,
    /// The certificate or issuer that the jobs are for.
    subject: Option<String>,
    kind: Option<String>,
    #[serde(default)]
    order: Order,
}

async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(project): At<String>,
    Params(params): Params<ListJobs>,
) -> Result<Json<Slice<wire::Job>>, ApiError> {
    let project = app.project(&caller, &project, Action::ReadProject).await?.id;
    let ListJobs { limit, cursor, state, subject, kind, order } = params;
    if let Some(kind) = kind.as_deref().filter(|kind| !Work::KINDS.contains(kind)) {
        let known = Work::KINDS.join(", ");
        return Err(ApiError::new(
            MALFORMED_REQUEST,
            format!("kind: {kind:?} is none; it is one of {known}"),
        ));
    }
    if let Some(subject) = subject.as_deref().filter(|subject| !is_subject(subject)) {
        let detail = format!("subject: {subject:?} is none; give the id of a certificate or of an issuer");
        return Err(ApiError::new(MALFORMED_REQUEST, detail));
    }
    let page = Page::parse_in::<JobId>(order, limit, cursor.as_deref());
    let page = page.map_err(|bad| ApiError::new(MALFORMED_REQUEST, bad.to_string()))?;
    let wanted = JobFilter { state, subject, kind, order };
    Ok(Json(app.store.jobs(project, &wanted, &page).await?.map(view::job)))
}

/// Whether jobs can be for it: no other word may reach the lists of jobs.
fn is_subject(text: &str) -> bool {
    text.parse::<CertificateId>().is_ok() || text.parse::<IssuerId>().is_ok()
}

async fn read(
    State(app): State<Arc<App>>,
    caller: Caller,
    At((project, job)): At<(String, String)>,
) -> Result<Json<wire::Job>, ApiError> {
    let project = app.project(&caller, &project, Action::ReadProject).await?.id;
    Ok(Json(view::job(find(&app, project, &job).await?)))
}

async fn find(app: &App, project: ProjectId, job: &str) -> Result<JobRecord, ApiError> {
    let missing = || ApiError::not_found("job", job);
    let id: JobId = job.parse().map_err(|_| missing())?;
    app.store.job(project, id).await?.ok_or_else(missing)
}

/// The job of the same request before. Requests may be remembered for longer than jobs are kept: then it is over.
pub(super) async fn again(app: &App, project: ProjectId, recorded: &str) -> Result<JobRecord, ApiError> {
    let id: JobId = recorded.parse().map_err(ApiError::internal)?;
    let over = || {
        let detail = format!(
            "this request was carried out before, by job {id}, which is over and no longer kept; send it with another \
             Idempotency-Key to have it done again"
        );
        ApiError::new(ALREADY_ANSWERED, detail)
    };
    app.store.job(project, id).await?.ok_or_else(over)
}

/// A job of a kind that this build knows: what it does not know, it does not change.
async fn find_known(app: &App, project: ProjectId, job: &str) -> Result<(JobRecord, Work), ApiError> {
    let found = find(app, project, job).await?;
    let Some(work) = found.work.known().cloned() else {
        let (id, kind) = (found.id, found.work.kind());
        let why =
            format!("job {id} is of the kind {kind:?}, which this version does not know; ask a newer one");
        return Err(ApiError::new(CONFLICT, why));
    };
    Ok((found, work))
}

/// What is written down about a change of a job.
fn draft(action: audit::Action, job: &JobRecord, work: &Work) -> Draft {
    let draft = Draft::new(action, Some(job.project), job.id).detail("kind", work.kind());
    match work {
        Work::Issue { certificate, .. } | Work::DriftScan { certificate } => {
            draft.detail("certificate", certificate.to_string())
        }
        Work::Revoke { certificate, version } => {
            draft.detail("certificate", certificate.to_string()).detail("version", version.to_string())
        }
        Work::RegisterIssuer { issuer } | Work::RenewalLook { issuer } => {
            draft.detail("issuer", issuer.to_string())
        }
    }
}

/// What the client reads when a change is refused; `against` has the reason that lies in the job's state.
fn refused(
    what: &str,
    id: JobId,
    refusal: JobRefusal,
    against: fn(JobState) -> Option<&'static str>,
) -> ApiError {
    let why = match refusal {
        JobRefusal::State(state) => against(state).unwrap_or("its state changed in this moment; try again"),
        JobRefusal::Pointless => "what it was for is gone; leave it",
        JobRefusal::OfIssuer => {
            "an issuer's registration ends with the issuer: change what it lacks, or delete it"
        }
        JobRefusal::Doubled => "another job is at the same work; retry that one",
        JobRefusal::Missing => return ApiError::not_found("job", &id.to_string()),
    };
    ApiError::new(CONFLICT, format!("job {id} cannot be {what}: {why}"))
}
