// SPDX-License-Identifier: Apache-2.0
//! Jobs.

use cap_core::id::JobId;
use cap_core::job::JobState;
use cap_core::page::Slice;
use reqwest::Method;
use serde::Serialize;

use crate::error::ClientError;
use crate::pages::PageQuery;
use crate::transport::Client;
use crate::wire::Job;

/// Which jobs.
#[derive(Debug, Clone, Default, Serialize)]
pub struct JobQuery {
    /// Which page.
    #[serde(flatten)]
    pub page: PageQuery,
    /// Only those in this state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<JobState>,
    /// Only those for this certificate or issuer, by id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
}

impl Client {
    /// A page of a project's jobs.
    ///
    /// # Errors
    /// When the API refuses or cannot be reached.
    pub async fn jobs(&self, project: &str, query: &JobQuery) -> Result<Slice<Job>, ClientError> {
        let request = self.request(Method::GET, &["api", "v1", "projects", project, "jobs"])?.query(query);
        self.exchange(request).await?.json()
    }

    /// A job.
    ///
    /// # Errors
    /// When the API refuses or cannot be reached.
    pub async fn job(&self, project: &str, id: JobId) -> Result<Job, ClientError> {
        let id = id.to_string();
        let request = self.request(Method::GET, &["api", "v1", "projects", project, "jobs", &id])?;
        self.exchange(request).await?.json()
    }
}
