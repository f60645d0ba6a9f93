// SPDX-License-Identifier: Apache-2.0
//! The routes: one file a resource.

mod attention;
mod certificates;
mod cluster;
mod drift;
pub(crate) mod health;
mod issuers;
mod jobs;
mod notices;
mod projects;
mod tokens;

use std::sync::Arc;

use axum::Router;
use axum::handler::Handler;
use axum::http::Uri;
use axum::routing::{self, MethodRouter};
use cap_core::actor::Role;

use crate::app::App;
use crate::problem::{ApiError, METHOD_NOT_ALLOWED, NOT_FOUND};

/// Where every route but the health checks lives.
pub(crate) const PREFIX: &str = "/api/v1";

/// Who may call a route. A claim: the handler decides, and the tests hold one against the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everybody.
    Anyone,
    /// Whoever has a token; the answer holds what it may see.
    Bearer,
    /// Whoever has this role, or a higher one, in the project of the path.
    Project(Role),
    /// Administrators and owners of the organisation.
    Cluster,
    /// Owners of the organisation.
    Organisation,
}

/// One method at one path. The router is made of these, so there is no other.
#[derive(Debug)]
pub struct Route {
    /// The method.
    pub method: &'static str,
    /// The path, its parameters in braces.
    pub path: String,
    /// Who may call it.
    pub access: Access,
    handler: MethodRouter<Arc<App>>,
}

macro_rules! methods {
    ($($function:ident = $name:literal;)*) => {$(
        fn $function<H, T>(path: &str, access: Access, handler: H) -> Self
        where
            H: Handler<T, Arc<App>>,
            T: 'static,
        {
            let path = format!("{PREFIX}{path}");
            Self { method: $name, path, access, handler: routing::$function(handler) }
        }
    )*};
}

impl Route {
    methods! { get = "GET"; post = "POST"; patch = "PATCH"; delete = "DELETE"; }

    /// A GET outside the API proper.
    fn plain<H, T>(path: &str, handler: H) -> Self
    where
        H: Handler<T, Arc<App>>,
        T: 'static,
    {
        Self { method: "GET", path: path.to_owned(), access: Access::Anyone, handler: routing::get(handler) }
    }
}

/// Every route of the API's listener.
#[must_use]
pub fn routes() -> Vec<Route> {
    let parts = [
        projects::routes(),
        tokens::routes(),
        issuers::routes(),
        certificates::routes(),
        attention::routes(),
        drift::routes(),
        jobs::routes(),
        notices::routes(),
        cluster::routes(),
        health::routes(),
    ];
    parts.into_iter().flatten().collect()
}

pub(crate) fn router() -> Router<Arc<App>> {
    routes()
        .into_iter()
        .fold(Router::new(), |router, route| router.route(&route.path, route.handler))
        .fallback(|uri: Uri| async move {
            ApiError::new(NOT_FOUND, format!("there is nothing at {}; the API is under /api/v1", uri.path()))
        })
        .method_not_allowed_fallback(|| async {
            ApiError::new(
                METHOD_NOT_ALLOWED,
                "this path has no such method; the Allow header names those that it has",
            )
        })
}
