// SPDX-License-Identifier: Apache-2.0
//! `POST .../certificates/{c}/renewal-info`: has the CA asked now when it wants the certificate renewed (RFC 9773), as when it
//! is known to revoke.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use cap_core::access::Action;
use cap_core::audit::{self, Draft};
use cap_store::{Mutation, StoreError};

use crate::app::App;
use crate::auth::Caller;
use crate::body::{At, NoBody};
use crate::idempotency::IdempotencyKey;
use crate::problem::{ApiError, CONFLICT};

use super::etag;

/// The look is made by a worker, behind the leader's next one at what is due: `next_look_at` is now until then.
pub(super) async fn ask(
    State(app): State<Arc<App>>,
    caller: Caller,
    At((project, id)): At<(String, String)>,
    key: IdempotencyKey,
    body: NoBody,
) -> Result<Response, ApiError> {
    let project = app.project(&caller, &project, Action::OperateProject).await?.id;
    let certificate = super::find(&app, project, &id).await?;
    if key.earlier(&app, &caller, &body.sha256).await?.is_some() {
        return Ok(etag::answer(certificate, app.now()));
    }
    if certificate.version.is_none() {
        let detail = "the certificate has no version yet, so there is nothing to ask its CA about";
        return Err(ApiError::new(CONFLICT, detail));
    }
    let issuer = app.store.issuer(project, &certificate.issuer.to_string()).await?;
    if let Some(issuer) = issuer.filter(|issuer| issuer.account_url.is_none()) {
        let name = &issuer.name;
        let detail = format!(
            "the account of issuer {name} cannot be used now, so its CA is not asked: see to the issuer first"
        );
        return Err(ApiError::new(CONFLICT, detail));
    }
    let draft = Draft::new(audit::Action::CertificateRenewalInfoRequested, Some(project), certificate.id);
    let audit = app.audit(&caller, &draft).await?;
    let request = key.request(&app, &caller, &body.sha256, 200, certificate.id.to_string());
    let mutation = Mutation { audit: &audit, request: request.as_ref() };
    match app.store.request_renewal_look(&certificate, mutation).await {
        Ok(()) => {}
        Err(StoreError::Replayed(earlier)) => {
            key.same(*earlier, &body.sha256)?;
        }
        Err(refused @ StoreError::Conflict { .. }) => {
            let detail = "there is nothing to ask about the certificate's version: its CA offers no renewal information, its life is \
                          too short to be asked about, it has expired or was revoked, or it was renewed in this moment";
            return Err(ApiError::new(CONFLICT, detail).because(refused));
        }
        Err(error) => return Err(error.into()),
    }
    Ok(etag::answer(super::find(&app, project, &id).await?, app.now()))
}
