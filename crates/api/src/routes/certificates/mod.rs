// SPDX-License-Identifier: Apache-2.0
//! `/projects/{p}/certificates`.

mod change;
mod create;
mod download;
pub(super) mod etag;
mod pause;
mod read;
mod renew;
mod renewal_info;
mod revoke;

use cap_core::actor::Role;
use cap_core::id::{CertificateId, ProjectId};
use cap_store::CertificateRecord;

use crate::app::App;
use crate::problem::ApiError;
use crate::routes::{Access, Route};

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/projects/{p}/certificates", Access::Project(Role::Viewer), read::list),
        Route::post("/projects/{p}/certificates", Access::Project(Role::Operator), create::create),
        Route::get("/projects/{p}/certificates/{c}", Access::Project(Role::Viewer), read::read),
        Route::patch("/projects/{p}/certificates/{c}", Access::Project(Role::Operator), change::update),
        Route::delete("/projects/{p}/certificates/{c}", Access::Project(Role::Operator), change::remove),
        Route::get("/projects/{p}/certificates/{c}/versions", Access::Project(Role::Viewer), read::versions),
        Route::post("/projects/{p}/certificates/{c}/renew", Access::Project(Role::Operator), renew::renew),
        Route::post(
            "/projects/{p}/certificates/{c}/renewal-info",
            Access::Project(Role::Operator),
            renewal_info::ask,
        ),
        Route::post("/projects/{p}/certificates/{c}/revoke", Access::Project(Role::Operator), revoke::revoke),
        Route::post("/projects/{p}/certificates/{c}/pause", Access::Project(Role::Operator), pause::pause),
        Route::post("/projects/{p}/certificates/{c}/resume", Access::Project(Role::Operator), pause::resume),
        Route::get(
            "/projects/{p}/certificates/{c}/download",
            Access::Project(Role::Viewer),
            download::download,
        ),
    ]
}

pub(super) async fn find(app: &App, project: ProjectId, id: &str) -> Result<CertificateRecord, ApiError> {
    let missing = || ApiError::not_found("certificate", id);
    let certificate: CertificateId = id.parse().map_err(|_| missing())?;
    app.store.certificate(project, certificate).await?.ok_or_else(missing)
}
