// SPDX-License-Identifier: Apache-2.0
//! `POST .../certificates/{c}/pause` and `.../resume`: whether it is renewed by itself, as a change of `auto_renew` has it.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use cap_client::wire;
use cap_core::access::Action;

use crate::app::App;
use crate::auth::Caller;
use crate::body::{At, NoBody};
use crate::idempotency::IdempotencyKey;
use crate::problem::ApiError;

use super::change::carry_out;
use super::etag::{self, IfMatch};

/// Has nothing plan its renewal any more. A job that lives already goes on, and so does whatever somebody asks for.
pub(super) async fn pause(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(place): At<(String, String)>,
    condition: IfMatch,
    key: IdempotencyKey,
    body: NoBody,
) -> Result<Response, ApiError> {
    switch(&app, &caller, place, condition, (key, body), false).await
}

/// Has it renewed by itself again: by the leader's next look where it is due by now.
pub(super) async fn resume(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(place): At<(String, String)>,
    condition: IfMatch,
    key: IdempotencyKey,
    body: NoBody,
) -> Result<Response, ApiError> {
    switch(&app, &caller, place, condition, (key, body), true).await
}

async fn switch(
    app: &App,
    caller: &Caller,
    (project, id): (String, String),
    condition: IfMatch,
    (key, body): (IdempotencyKey, NoBody),
    auto_renew: bool,
) -> Result<Response, ApiError> {
    let project = app.project(caller, &project, Action::OperateProject).await?.id;
    let certificate = super::find(app, project, &id).await?;
    if key.earlier(app, caller, &body.sha256).await?.is_some() {
        return Ok(etag::answer(super::find(app, project, &id).await?, app.now()));
    }
    let seen = condition.check(&certificate, app.now())?;
    let asked = wire::UpdateCertificate { auto_renew: Some(auto_renew), ..Default::default() };
    let request = key.request(app, caller, &body.sha256, 200, certificate.id.to_string());
    carry_out(app, caller, (&certificate, seen), &asked, request.as_ref()).await
}
