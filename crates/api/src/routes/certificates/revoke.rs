// SPDX-License-Identifier: Apache-2.0
//! `POST .../certificates/{c}/revoke`: a version, the current one unless another is named.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use cap_client::wire;
use cap_core::access::Action;
use cap_core::audit::{self, Draft};
use cap_core::certificate::RevocationReason;
use cap_core::id::VersionId;
use cap_core::job::{JobDraft, Work};
use cap_store::{CertificateRecord, Mutation, RevocationAsked, RevocationRecord, StoreError};

use crate::app::App;
use crate::auth::Caller;
use crate::body::{At, Body};
use crate::idempotency::IdempotencyKey;
use crate::problem::{ApiError, CONFLICT};

use super::etag::IfMatch;
use super::renew::answer;
use crate::routes::jobs::again;

pub(super) async fn revoke(
    State(app): State<Arc<App>>,
    caller: Caller,
    At((project, id)): At<(String, String)>,
    condition: IfMatch,
    key: IdempotencyKey,
    body: Body<wire::RevokeCertificate>,
) -> Result<Response, ApiError> {
    let project = app.project(&caller, &project, Action::OperateProject).await?.id;
    let certificate = super::find(&app, project, &id).await?;
    if let Some(earlier) = key.earlier(&app, &caller, &body.sha256).await? {
        return Ok(answer(again(&app, project, &earlier.resource).await?));
    }
    let seen = condition.check(&certificate, app.now())?;
    let reason: RevocationReason = body.value.reason.parse().map_err(ApiError::invalid)?;
    let version = version(&certificate, body.value.version.as_deref())?;
    let work = Work::Revoke { certificate: certificate.id, version };
    let job = JobDraft::now(project, work, 0, app.clock.as_ref(), app.entropy.as_ref()).awaited();
    let wanted = RevocationRecord {
        reason,
        asked_at: app.now(),
        replace: body.value.replace,
        revoked_at: None,
        problem: None,
        next_attempt_at: None,
    };
    let draft = Draft::new(audit::Action::CertificateRevocationRequested, Some(project), certificate.id)
        .names(&certificate.spec.names)
        .detail("version", version.to_string())
        .detail("reason", reason.as_str())
        .detail("replace", wanted.replace);
    let audit = app.audit(&caller, &draft).await?;
    let request = key.request(&app, &caller, &body.sha256, 202, job.id.to_string());
    let mutation = Mutation { audit: &audit, request: request.as_ref() };
    match app.store.request_revocation(seen, &wanted, &job, mutation).await {
        Ok(RevocationAsked::Job(job)) => Ok(answer(*job)),
        Ok(RevocationAsked::Missing) => Err(ApiError::not_found("version", &version.to_string())),
        Ok(RevocationAsked::Done(at)) => Err(ApiError::new(
            CONFLICT,
            format!("version {version} was revoked at {at}; there is nothing left to do"),
        )),
        Ok(RevocationAsked::Otherwise(other)) => {
            let detail = format!(
                "version {version} is being revoked for the reason {other}; cancel that job first, or leave it as it is"
            );
            Err(ApiError::new(CONFLICT, detail))
        }
        Err(StoreError::Replayed(earlier)) => {
            let earlier = key.same(*earlier, &body.sha256)?;
            Ok(answer(again(&app, project, &earlier.resource).await?))
        }
        Err(error) => Err(IfMatch::overtaken(seen, error)),
    }
}

/// The version that is meant.
fn version(certificate: &CertificateRecord, asked: Option<&str>) -> Result<VersionId, ApiError> {
    match asked {
        Some(asked) => asked.parse().map_err(ApiError::invalid),
        None => certificate.version.as_ref().map(|version| version.id).ok_or_else(|| {
            let detail =
                "nothing was issued for it yet, so there is nothing to revoke; delete it if it is not wanted";
            ApiError::new(CONFLICT, detail)
        }),
    }
}
