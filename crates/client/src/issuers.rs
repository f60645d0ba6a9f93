// SPDX-License-Identifier: Apache-2.0
//! Issuers.

use cap_core::page::Slice;
use reqwest::Method;

use crate::error::ClientError;
use crate::pages::PageQuery;
use crate::transport::Client;
use crate::wire::{CreateIssuer, DeactivateIssuer, Issuer, UpdateIssuer};

impl Client {
    /// Makes an issuer; its account is registered in the background.
    ///
    /// # Errors
    /// When the API refuses or cannot be reached.
    pub async fn create_issuer(&self, project: &str, body: &CreateIssuer) -> Result<Issuer, ClientError> {
        let request = self.request(Method::POST, &["api", "v1", "projects", project, "issuers"])?.json(body);
        self.exchange(request).await?.json()
    }

    /// A page of a project's issuers.
    ///
    /// # Errors
    /// When the API refuses or cannot be reached.
    pub async fn issuers(&self, project: &str, query: &PageQuery) -> Result<Slice<Issuer>, ClientError> {
        let request = self.request(Method::GET, &["api", "v1", "projects", project, "issuers"])?.query(query);
        self.exchange(request).await?.json()
    }

    /// The issuer with this id or name.
    ///
    /// # Errors
    /// When the API refuses or cannot be reached.
    pub async fn issuer(&self, project: &str, issuer: &str) -> Result<Issuer, ClientError> {
        let request = self.request(Method::GET, &["api", "v1", "projects", project, "issuers", issuer])?;
        self.exchange(request).await?.json()
    }

    /// Changes an issuer's settings; its account is registered again in the background where that is needed.
    ///
    /// # Errors
    /// When the API refuses or cannot be reached.
    pub async fn update_issuer(
        &self,
        project: &str,
        issuer: &str,
        body: &UpdateIssuer,
    ) -> Result<Issuer, ClientError> {
        let path = ["api", "v1", "projects", project, "issuers", issuer];
        self.exchange(self.request(Method::PATCH, &path)?.json(body)).await?.json()
    }

    /// Has an issuer's account take another key (RFC 8555, 7.3.5), in the background.
    ///
    /// # Errors
    /// When the API refuses or cannot be reached.
    pub async fn roll_issuer_key(&self, project: &str, issuer: &str) -> Result<Issuer, ClientError> {
        let path = ["api", "v1", "projects", project, "issuers", issuer, "roll-key"];
        self.exchange(self.request(Method::POST, &path)?).await?.json()
    }

    /// Has an issuer's account deactivated for ever (RFC 8555, 7.3.6), in the background.
    ///
    /// # Errors
    /// When the API refuses or cannot be reached.
    pub async fn deactivate_issuer(
        &self,
        project: &str,
        issuer: &str,
        body: &DeactivateIssuer,
    ) -> Result<Issuer, ClientError> {
        let path = ["api", "v1", "projects", project, "issuers", issuer, "deactivate"];
        self.exchange(self.request(Method::POST, &path)?.json(body)).await?.json()
    }

    /// Deletes an issuer that no certificate uses.
    ///
    /// # Errors
    /// When the API refuses or cannot be reached.
    pub async fn delete_issuer(&self, project: &str, issuer: &str) -> Result<(), ClientError> {
        let request = self.request(Method::DELETE, &["api", "v1", "projects", project, "issuers", issuer])?;
        self.exchange(request).await?.success().map(drop)
    }
}
