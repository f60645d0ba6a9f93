// SPDX-License-Identifier: Apache-2.0
//! `POST .../certificates`: asks for a certificate.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use cap_client::wire;
use cap_core::access::Action;
use cap_core::audit::{self, Draft};
use cap_core::certificate::{Names, Profile, Spec, Status};
use cap_core::id::{CertificateId, IssuerId, ProjectId};
use cap_core::job::{JobDraft, Work};
use cap_store::{CertificateRecord, Mutation, StoreError};

use crate::app::App;
use crate::auth::Caller;
use crate::body::{At, Body};
use crate::idempotency::IdempotencyKey;
use crate::overload::waiting;
use crate::problem::ApiError;

use super::etag;

pub(super) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(project): At<String>,
    key: IdempotencyKey,
    body: Body<wire::CreateCertificate>,
) -> Result<Response, ApiError> {
    let project = app.project(&caller, &project, Action::OperateProject).await?.id;
    if let Some(earlier) = key.earlier(&app, &caller, &body.sha256).await? {
        return Ok(etag::created(super::find(&app, project, &earlier.resource).await?, app.now()));
    }
    waiting::one_more(&app, project).await?;
    let issuer = body.value.issuer.clone();
    let spec = spec(body.value)?;
    let found = app.store.issuer(project, &issuer).await?;
    let issuer = found.ok_or_else(|| ApiError::invalid(unknown_issuer(&issuer)))?;
    let certificate = new_certificate(&app, project, issuer.id, spec);
    let work = Work::Issue { certificate: certificate.id, made_for: None };
    let job =
        JobDraft::now(project, work, certificate.fence, app.clock.as_ref(), app.entropy.as_ref()).awaited();
    let draft = Draft::new(audit::Action::CertificateRequested, Some(project), certificate.id)
        .names(&certificate.spec.names)
        .detail("issuer", issuer.id.to_string());
    let audit = app.audit(&caller, &draft).await?;
    let request = key.request(&app, &caller, &body.sha256, 201, certificate.id.to_string());
    let mutation = Mutation { audit: &audit, request: request.as_ref() };
    match app.store.create_certificate(&certificate, &job, mutation).await {
        Ok(()) => Ok(etag::created(certificate, app.now())),
        Err(StoreError::Replayed(earlier)) => {
            let earlier = key.same(*earlier, &body.sha256)?;
            Ok(etag::created(super::find(&app, project, &earlier.resource).await?, app.now()))
        }
        Err(error) => Err(error.into()),
    }
}

fn unknown_issuer(issuer: &str) -> String {
    let issuer: String = issuer.chars().take(100).collect();
    format!(
        "the project has no issuer {issuer:?}; name one by its id or name, as the list of issuers shows them"
    )
}

fn spec(asked: wire::CreateCertificate) -> Result<Spec, ApiError> {
    let names = Names::parse(asked.names).map_err(ApiError::invalid)?;
    let profile = asked.profile.map(Profile::try_from).transpose().map_err(ApiError::invalid)?;
    let (challenge, auto_renew) = (asked.challenge, asked.auto_renew);
    let spec = Spec { names, key_type: asked.key.kind, challenge, profile, auto_renew };
    spec.check().map_err(ApiError::invalid)
}

fn new_certificate(app: &App, project: ProjectId, issuer: IssuerId, spec: Spec) -> CertificateRecord {
    let now = app.now();
    CertificateRecord {
        id: CertificateId::generate(app.clock.as_ref(), app.entropy.as_ref()),
        project,
        issuer,
        spec,
        status: Status::Requested,
        problem: None,
        next_attempt_at: None,
        version: None,
        renew_at: None,
        versions: 0,
        order: None,
        fence: 0,
        created_at: now,
        updated_at: now,
    }
}
