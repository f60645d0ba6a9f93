// SPDX-License-Identifier: Apache-2.0
//! Drift: what certificates' names serve.

use cap_core::drift::DriftState;
use cap_core::id::CertificateId;
use cap_core::page::Slice;
use reqwest::Method;
use serde::Serialize;

use crate::error::ClientError;
use crate::pages::PageQuery;
use crate::transport::Client;
use crate::wire::{Certificate, Job, Project, UpdateProject};

/// Which certificates that were scanned.
#[derive(Debug, Clone, Default, Serialize)]
pub struct DriftQuery {
    /// Which page.
    #[serde(flatten)]
    pub page: PageQuery,
    /// Only those in this state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<DriftState>,
}

impl Client {
    /// A page of a project's certificates that were scanned.
    ///
    /// # Errors
    /// When the API refuses or cannot be reached.
    pub async fn drift(&self, project: &str, query: &DriftQuery) -> Result<Slice<Certificate>, ClientError> {
        let request = self.request(Method::GET, &["api", "v1", "projects", project, "drift"])?.query(query);
        self.exchange(request).await?.json()
    }

    /// Has a certificate scanned now; answers the job that does it.
    ///
    /// # Errors
    /// When the API refuses or cannot be reached.
    pub async fn scan_drift(&self, project: &str, id: CertificateId) -> Result<Job, ClientError> {
        let id = id.to_string();
        let path = ["api", "v1", "projects", project, "certificates", &id, "drift-scan"];
        self.exchange(self.request(Method::POST, &path)?).await?.json()
    }

    /// Changes a project's settings.
    ///
    /// # Errors
    /// When the API refuses or cannot be reached.
    pub async fn update_project(&self, project: &str, body: &UpdateProject) -> Result<Project, ClientError> {
        let request = self.request(Method::PATCH, &["api", "v1", "projects", project])?.json(body);
        self.exchange(request).await?.json()
    }
}
