// SPDX-License-Identifier: Apache-2.0
//! `/projects/{p}/drift` and `.../certificates/{c}/drift-scan`: what certificates' names serve, and a look at it now.

use std::sync::Arc;

use crate::routes::jobs::again;
use axum::Json;
use axum::extract::State;
use axum::response::Response;
use cap_client::wire;
use cap_core::access::Action;
use cap_core::actor::Role;
use cap_core::audit::{self, Draft};
use cap_core::drift::DriftState;
use cap_core::id::CertificateId;
use cap_core::job::{JobDraft, Work};
use cap_core::page::Slice;
use cap_store::{JobRecord, Mutation, StoreError};
use serde::Deserialize;

use crate::answer::accepted;
use crate::app::App;
use crate::auth::Caller;
use crate::body::{At, NoBody, Params, page};
use crate::idempotency::IdempotencyKey;
use crate::problem::{ApiError, CONFLICT};
use crate::routes::{Access, Route, certificates};
use crate::view;

const NO_VERSION: &str =
    "the certificate has no version yet, so there is nothing to compare with; scan it when it is issued";

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/projects/{p}/drift", Access::Project(Role::Viewer), list),
        Route::post("/projects/{p}/certificates/{c}/drift-scan", Access::Project(Role::Operator), scan),
    ]
}

/// The query parameters of the list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListDrift {
    limit: Option<u32>,
    cursor: Option<String>,
    state: Option<DriftState>,
}

/// The certificates that were scanned, each with the first name of it that is wrong.
async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(project): At<String>,
    Params(params): Params<ListDrift>,
) -> Result<Json<Slice<wire::Certificate>>, ApiError> {
    let project = app.project(&caller, &project, Action::ReadProject).await?.id;
    let page = page::<CertificateId>(params.limit, params.cursor.as_deref())?;
    let found = app.store.drift(project, params.state, &page).await?;
    let now = app.now();
    Ok(Json(found.map(|certificate| view::certificate(certificate, now))))
}

async fn scan(
    State(app): State<Arc<App>>,
    caller: Caller,
    At((project, id)): At<(String, String)>,
    key: IdempotencyKey,
    body: NoBody,
) -> Result<Response, ApiError> {
    let project = app.project(&caller, &project, Action::OperateProject).await?;
    let certificate = certificates::find(&app, project.id, &id).await?;
    if let Some(earlier) = key.earlier(&app, &caller, &body.sha256).await? {
        return Ok(answer(again(&app, project.id, &earlier.resource).await?));
    }
    if !project.drift.is_some_and(|drift| drift.settings().enabled) {
        let detail = format!(
            "drift scans are off in project {}, so nothing is connected to; an admin turns them on with `certautopilot \
             project update {} --drift on`",
            project.name, project.name
        );
        return Err(ApiError::new(CONFLICT, detail));
    }
    if certificate.version.is_none() {
        return Err(ApiError::new(CONFLICT, NO_VERSION));
    }
    let fence = certificate.drift.fence.unwrap_or(0);
    let work = Work::DriftScan { certificate: certificate.id };
    let job = JobDraft::now(project.id, work, fence, app.clock.as_ref(), app.entropy.as_ref());
    let draft = Draft::new(audit::Action::CertificateDriftScanRequested, Some(project.id), certificate.id);
    let audit = app.audit(&caller, &draft).await?;
    let request = key.request(&app, &caller, &body.sha256, 202, job.id.to_string());
    let mutation = Mutation { audit: &audit, request: request.as_ref() };
    match app.store.request_drift(&job, mutation).await {
        Ok(job) => Ok(answer(job)),
        Err(StoreError::Replayed(earlier)) => {
            let earlier = key.same(*earlier, &body.sha256)?;
            Ok(answer(again(&app, project.id, &earlier.resource).await?))
        }
        Err(StoreError::Fenced) => Err(ApiError::not_found("certificate", &id)),
        Err(overtaken @ StoreError::Conflict { .. }) => {
            let detail =
                "the same was asked for in the same moment; look at the certificate's jobs, or ask again";
            Err(ApiError::new(CONFLICT, detail).because(overtaken))
        }
        Err(error) => Err(error.into()),
    }
}

fn answer(job: JobRecord) -> Response {
    accepted(&format!("projects/{}/jobs/{}", job.project, job.id), view::job(job))
}
