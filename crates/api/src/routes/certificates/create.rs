// SPDX-License-Identifier: Apache-2.0
//! `POST .../certificates`: asks for a certificate.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use cap_client::wire;
use cap_core::access::Action;
use cap_core::audit::{self, Draft};
use cap_core::certificate::{ChainName, Names, Profile, Spec, Status};
use cap_core::drift::DriftTarget;
use cap_core::id::{CertificateId, IssuerId, ProjectId};
use cap_core::issuer::Hold;
use cap_core::job::{JobDraft, Work};
use cap_store::{CertificateRecord, DriftRecord, Mutation, ProjectRecord, RenewalInfoRecord, StoreError};

use crate::app::App;
use crate::auth::Caller;
use crate::body::{At, Body};
use crate::idempotency::{IdempotencyKey, deleted_since};
use crate::overload::waiting;
use crate::problem::{ApiError, CONFLICT};

use super::change::drift_target;
use super::etag;

pub(super) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(project): At<String>,
    key: IdempotencyKey,
    body: Body<wire::CreateCertificate>,
) -> Result<Response, ApiError> {
    let found = app.project(&caller, &project, Action::OperateProject).await?;
    let project = found.id;
    if let Some(earlier) = key.earlier(&app, &caller, &body.sha256).await? {
        return again(&app, project, &earlier.resource).await;
    }
    waiting::one_more(&app, project).await?;
    let issuer = body.value.issuer.clone();
    let target = drift_target(body.value.drift.as_ref())?;
    let drift = enrolled(found, target);
    let spec = spec(body.value)?;
    let found = app.store.issuer(project, &issuer).await?;
    let issuer = found.ok_or_else(|| ApiError::invalid(unknown_issuer(&issuer)))?;
    let is_ended = match issuer.why_held() {
        Some(Hold::Deactivating) => Some("is being deactivated"),
        Some(Hold::Deactivated) => Some("is deactivated, for ever"),
        Some(Hold::Refused) | None => None,
    };
    if let Some(is_ended) = is_ended {
        let detail = format!(
            "the account of issuer {} {is_ended}, so it issues no more; name another issuer, or make one",
            issuer.name
        );
        return Err(ApiError::new(CONFLICT, detail));
    }
    let certificate = new_certificate(&app, project, issuer.id, spec, drift);
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
            again(&app, project, &key.same(*earlier, &body.sha256)?.resource).await
        }
        Err(error) => Err(error.into()),
    }
}

/// The answer that the same request got before.
async fn again(app: &App, project: ProjectId, recorded: &str) -> Result<Response, ApiError> {
    let id: CertificateId = recorded.parse().map_err(ApiError::internal)?;
    let found = app.store.certificate(project, id).await?;
    Ok(etag::created(found.ok_or_else(|| deleted_since("certificate", id))?, app.now()))
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
    let preferred_chain = asked.preferred_chain.map(ChainName::try_from).transpose();
    let spec = Spec {
        names,
        key_type: asked.key.kind,
        key_reuse: asked.key.reuse,
        challenge: asked.challenge,
        profile,
        preferred_chain: preferred_chain.map_err(ApiError::invalid)?,
        auto_renew: asked.auto_renew,
    };
    spec.check().map_err(ApiError::invalid)
}

/// How it is scanned, by its project's settings of now. The scheduler looks after those that change meanwhile.
fn enrolled(project: ProjectRecord, target: Option<DriftTarget>) -> DriftRecord {
    let Some(drift) = project.drift else { return DriftRecord { target, ..DriftRecord::default() } };
    let on = drift.settings().enabled.then_some(true);
    DriftRecord { target, on, generation: Some(drift.generation), ..DriftRecord::default() }
}

fn new_certificate(
    app: &App,
    project: ProjectId,
    issuer: IssuerId,
    spec: Spec,
    drift: DriftRecord,
) -> CertificateRecord {
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
        watched: vec![],
        new_key: false,
        fence: 0,
        drift,
        renewal_info: RenewalInfoRecord::default(),
        created_at: now,
        updated_at: now,
    }
}
