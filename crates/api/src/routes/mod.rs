// SPDX-License-Identifier: Apache-2.0
//! The routes: one file a resource.

mod certificates;
mod cluster;
mod health;
mod issuers;
mod jobs;
mod projects;
mod tokens;

use std::sync::Arc;

use axum::Router;
use axum::http::Uri;

use crate::app::App;
use crate::problem::{ApiError, METHOD_NOT_ALLOWED, NOT_FOUND};

pub(crate) fn router() -> Router<Arc<App>> {
    let v1 = Router::new()
        .merge(projects::router())
        .merge(tokens::router())
        .merge(issuers::router())
        .merge(certificates::router())
        .merge(jobs::router())
        .merge(cluster::router());
    Router::new()
        .nest("/api/v1", v1)
        .merge(health::router())
        .fallback(|uri: Uri| async move {
            ApiError::new(NOT_FOUND, format!("there is nothing at {}; the API is under /api/v1", uri.path()))
        })
        .method_not_allowed_fallback(|| async {
            ApiError::new(METHOD_NOT_ALLOWED, "this path has no such method; see the API's reference")
        })
}
