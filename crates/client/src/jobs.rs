// SPDX-License-Identifier: Apache-2.0
//! Jobs.

use cap_core::id::JobId;
use cap_core::job::JobState;
use cap_core::page::{Order, Slice};
use jiff::Timestamp;
use reqwest::{Method, RequestBuilder};
use serde::Serialize;

use crate::error::ClientError;
use crate::pages::PageQuery;
use crate::transport::Client;
use crate::wire::{CancelledJob, Job, JobTotal};

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
    /// Only those of this kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// In the order in which they were queued, unless it is said otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
}

/// Which totals.
#[derive(Debug, Clone, Default, Serialize)]
pub struct TotalQuery {
    /// Which page.
    #[serde(flatten)]
    pub page: PageQuery,
    /// Only from the hour on that this time is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

impl Client {
    /// A page of the hourly totals of a project's finished jobs.
    ///
    /// # Errors
    /// When the API refuses or cannot be reached.
    pub async fn job_totals(
        &self,
        project: &str,
        query: &TotalQuery,
    ) -> Result<Slice<JobTotal>, ClientError> {
        let path = ["api", "v1", "projects", project, "jobs", "totals"];
        self.exchange(self.request(Method::GET, &path)?.query(query)).await?.json()
    }

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
        self.exchange(self.one_job(Method::GET, project, id, None)?).await?.json()
    }

    /// Has a job run now that waits or is dead; answers the job.
    ///
    /// # Errors
    /// When the API refuses or cannot be reached.
    pub async fn retry_job(&self, project: &str, id: JobId) -> Result<Job, ClientError> {
        self.exchange(self.one_job(Method::POST, project, id, Some("retry"))?).await?.json()
    }

    /// Ends a job that waits.
    ///
    /// # Errors
    /// When the API refuses or cannot be reached.
    pub async fn cancel_job(&self, project: &str, id: JobId) -> Result<CancelledJob, ClientError> {
        self.exchange(self.one_job(Method::POST, project, id, Some("cancel"))?).await?.json()
    }

    fn one_job(
        &self,
        method: Method,
        project: &str,
        id: JobId,
        verb: Option<&str>,
    ) -> Result<RequestBuilder, ClientError> {
        let id = id.to_string();
        let mut path = vec!["api", "v1", "projects", project, "jobs", &id];
        path.extend(verb);
        self.request(method, &path)
    }
}
