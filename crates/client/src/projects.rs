// SPDX-License-Identifier: Apache-2.0
//! Projects.

use cap_core::page::Slice;
use reqwest::Method;

use crate::error::ClientError;
use crate::pages::PageQuery;
use crate::transport::Client;
use crate::wire::{CreateProject, Project};

impl Client {
    /// Makes a project.
    ///
    /// # Errors
    /// When the API refuses or cannot be reached.
    pub async fn create_project(&self, body: &CreateProject) -> Result<Project, ClientError> {
        let request = self.request(Method::POST, &["api", "v1", "projects"])?.json(body);
        self.exchange(request).await?.json()
    }

    /// A page of the projects that the token may see.
    ///
    /// # Errors
    /// When the API refuses or cannot be reached.
    pub async fn projects(&self, query: &PageQuery) -> Result<Slice<Project>, ClientError> {
        let request = self.request(Method::GET, &["api", "v1", "projects"])?.query(query);
        self.exchange(request).await?.json()
    }

    /// The project with this id or name.
    ///
    /// # Errors
    /// When the API refuses or cannot be reached.
    pub async fn project(&self, project: &str) -> Result<Project, ClientError> {
        let request = self.request(Method::GET, &["api", "v1", "projects", project])?;
        self.exchange(request).await?.json()
    }
}
