// SPDX-License-Identifier: Apache-2.0
//! The cluster, and whether the process that answers is well.

use reqwest::{Method, StatusCode};

use crate::error::ClientError;
use crate::transport::Client;
use crate::wire::{Attention, Cluster, StepDown, SteppingDown};

/// The problem of a replica that has no room for a request.
const OVERLOADED: &str = "urn:certautopilot:problem:overloaded";

/// What a process says about its readiness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// Whether it is ready.
    pub ready: bool,
    /// Its checks, a line each; without reasons unless the token is good.
    pub report: String,
}

impl Client {
    /// The state of the cluster.
    ///
    /// # Errors
    /// When the API refuses or cannot be reached.
    pub async fn cluster(&self) -> Result<Cluster, ClientError> {
        self.exchange(self.request(Method::GET, &["api", "v1", "cluster"])?).await?.json()
    }

    /// Asks the scheduler that leads to give the lead up; answers who was asked.
    ///
    /// # Errors
    /// When the API refuses or cannot be reached.
    pub async fn step_down(&self, asked: &StepDown) -> Result<SteppingDown, ClientError> {
        let request = self.request(Method::POST, &["api", "v1", "cluster", "step-down"])?.json(asked);
        self.exchange(request).await?.json()
    }

    /// The certificates of a project that somebody should look at first.
    ///
    /// # Errors
    /// When the API refuses or cannot be reached.
    pub async fn attention(&self, project: &str) -> Result<Attention, ClientError> {
        let path = ["api", "v1", "projects", project, "attention"];
        self.exchange(self.request(Method::GET, &path)?).await?.json()
    }

    /// Whether the API takes requests, as its load balancer sees it. Asked once.
    ///
    /// # Errors
    /// When it cannot be reached or answers something else than yes or no.
    pub async fn health(&self) -> Result<Readiness, ClientError> {
        self.verdict(self.request(Method::GET, &["healthz"])?).await
    }

    /// Whether the API has all that it needs, check by check. Asked once, and once more without the token where the API
    /// refuses who asks, since that says nothing about the API; reasons are missing then.
    ///
    /// # Errors
    /// When it cannot be reached or answers something else than yes or no.
    pub async fn readiness(&self) -> Result<Readiness, ClientError> {
        let (path, verbose) = (["readyz"], [("verbose", "")]);
        let asked = self.verdict(self.request(Method::GET, &path)?.query(&verbose)).await;
        if self.has_token() && asked.as_ref().is_err_and(is_about_who_asks) {
            return self.verdict(self.request_of_nobody(Method::GET, &path)?.query(&verbose)).await;
        }
        asked
    }

    async fn verdict(&self, request: reqwest::RequestBuilder) -> Result<Readiness, ClientError> {
        let answer = self.exchange_once(request).await?;
        let ready = match answer.status {
            StatusCode::OK => true,
            // A problem document is a refusal, and no list of checks.
            StatusCode::SERVICE_UNAVAILABLE if !answer.is_problem() => false,
            _ => return answer.text().map(|report| Readiness { ready: true, report }),
        };
        let report = String::from_utf8_lossy(&answer.body).trim_end().to_owned();
        Ok(Readiness { ready, report })
    }
}

/// Whether who asks was refused for a limit's sake.
fn is_about_who_asks(error: &ClientError) -> bool {
    let is_overloaded = matches!(error, ClientError::Api(problem) if problem.kind == OVERLOADED);
    is_overloaded || error.status() == Some(StatusCode::TOO_MANY_REQUESTS)
}
