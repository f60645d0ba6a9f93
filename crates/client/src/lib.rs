// SPDX-License-Identifier: Apache-2.0
//! The wire types of the REST API and a typed HTTP client over them.
//!
//! This crate knows the API and nothing of how it is served: no store, no sealing, no order engine. Of `cap-core` it
//! uses ids, enums and pages only. It prints nothing, reads no environment and no file, and follows no redirect: what
//! a bearer token is sent to is what the caller named.

mod certificates;
mod cluster;
mod drift;
mod error;
mod issuers;
mod jobs;
mod notices;
mod pages;
mod projects;
mod retry;
mod tokens;
mod transport;
pub mod wire;

pub use certificates::{CertificateQuery, DownloadFormat};
pub use cluster::Readiness;
pub use drift::DriftQuery;
pub use error::ClientError;
pub use jobs::{JobQuery, TotalQuery};
pub use notices::NoticeQuery;
pub use pages::{All, PAGE_ITEMS, PAGES_MAX, PageQuery, follow};
pub use transport::{BODY_OCTETS, Client, OnWait};
