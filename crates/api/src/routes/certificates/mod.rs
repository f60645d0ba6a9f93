// SPDX-License-Identifier: Apache-2.0
//! `/projects/{p}/certificates`.

mod change;
mod create;
mod download;
mod read;
mod renew;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};
use cap_core::id::{CertificateId, ProjectId};
use cap_store::CertificateRecord;

use crate::app::App;
use crate::problem::ApiError;

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/projects/{p}/certificates", get(read::list).post(create::create))
        .route("/projects/{p}/certificates/{c}", get(read::read).patch(change::update).delete(change::remove))
        .route("/projects/{p}/certificates/{c}/versions", get(read::versions))
        .route("/projects/{p}/certificates/{c}/renew", post(renew::renew))
        .route("/projects/{p}/certificates/{c}/download", get(download::download))
}

async fn find(app: &App, project: ProjectId, id: &str) -> Result<CertificateRecord, ApiError> {
    let missing = || ApiError::not_found("certificate", id);
    let certificate: CertificateId = id.parse().map_err(|_| missing())?;
    app.store.certificate(project, certificate).await?.ok_or_else(missing)
}
