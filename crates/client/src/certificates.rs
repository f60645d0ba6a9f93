// SPDX-License-Identifier: Apache-2.0
//! Certificates.

use std::fmt;

use cap_core::certificate::Status;
use cap_core::id::CertificateId;
use cap_core::page::Slice;
use reqwest::header::{ACCEPT, HeaderValue};
use reqwest::{Method, RequestBuilder};
use secrecy::SecretString;
use serde::Serialize;

use crate::error::ClientError;
use crate::pages::PageQuery;
use crate::transport::Client;
use crate::wire::{Certificate, CreateCertificate, Job, RevokeCertificate, UpdateCertificate, Version};

/// Which certificates.
#[derive(Debug, Clone, Default, Serialize)]
pub struct CertificateQuery {
    /// Which page.
    #[serde(flatten)]
    pub page: PageQuery,
    /// Only those in this status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
}

/// What of a certificate is downloaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DownloadFormat {
    /// The certificate and its chain, PEM.
    Fullchain,
    /// The chain without the certificate, PEM.
    Chain,
    /// The certificate alone, PEM.
    Leaf,
    /// The private key, PEM.
    Key,
}

impl DownloadFormat {
    /// The word in the query.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fullchain => "fullchain",
            Self::Chain => "chain",
            Self::Leaf => "leaf",
            Self::Key => "key",
        }
    }
}

impl fmt::Display for DownloadFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Client {
    /// Asks for a certificate; it is issued in the background.
    ///
    /// # Errors
    /// When the API refuses or cannot be reached.
    pub async fn create_certificate(
        &self,
        project: &str,
        body: &CreateCertificate,
    ) -> Result<Certificate, ClientError> {
        let request =
            self.request(Method::POST, &["api", "v1", "projects", project, "certificates"])?.json(body);
        self.exchange(request).await?.json()
    }

    /// A page of a project's certificates.
    ///
    /// # Errors
    /// When the API refuses or cannot be reached.
    pub async fn certificates(
        &self,
        project: &str,
        query: &CertificateQuery,
    ) -> Result<Slice<Certificate>, ClientError> {
        let request =
            self.request(Method::GET, &["api", "v1", "projects", project, "certificates"])?.query(query);
        self.exchange(request).await?.json()
    }

    /// A certificate.
    ///
    /// # Errors
    /// When the API refuses or cannot be reached.
    pub async fn certificate(&self, project: &str, id: CertificateId) -> Result<Certificate, ClientError> {
        self.exchange(self.below(Method::GET, project, id, None)?).await?.json()
    }

    /// Changes a certificate's settings.
    ///
    /// # Errors
    /// When the API refuses or cannot be reached.
    pub async fn update_certificate(
        &self,
        project: &str,
        id: CertificateId,
        body: &UpdateCertificate,
    ) -> Result<Certificate, ClientError> {
        self.exchange(self.below(Method::PATCH, project, id, None)?.json(body)).await?.json()
    }

    /// Deletes a certificate with its versions and keys.
    ///
    /// # Errors
    /// When the API refuses or cannot be reached.
    pub async fn delete_certificate(&self, project: &str, id: CertificateId) -> Result<(), ClientError> {
        self.exchange(self.below(Method::DELETE, project, id, None)?).await?.success().map(drop)
    }

    /// Has nothing renew a certificate by itself until it is resumed.
    ///
    /// # Errors
    /// When the API refuses or cannot be reached.
    pub async fn pause_certificate(
        &self,
        project: &str,
        id: CertificateId,
    ) -> Result<Certificate, ClientError> {
        self.exchange(self.below(Method::POST, project, id, Some("pause"))?).await?.json()
    }

    /// Has a certificate renewed by itself again.
    ///
    /// # Errors
    /// When the API refuses or cannot be reached.
    pub async fn resume_certificate(
        &self,
        project: &str,
        id: CertificateId,
    ) -> Result<Certificate, ClientError> {
        self.exchange(self.below(Method::POST, project, id, Some("resume"))?).await?.json()
    }

    /// Renews a certificate now; answers the job that does it.
    ///
    /// # Errors
    /// When the API refuses or cannot be reached.
    pub async fn renew_certificate(&self, project: &str, id: CertificateId) -> Result<Job, ClientError> {
        self.exchange(self.below(Method::POST, project, id, Some("renew"))?).await?.json()
    }

    /// Has a certificate's CA asked now when it wants it renewed (RFC 9773).
    ///
    /// # Errors
    /// When the API refuses or cannot be reached.
    pub async fn ask_renewal_info(
        &self,
        project: &str,
        id: CertificateId,
    ) -> Result<Certificate, ClientError> {
        self.exchange(self.below(Method::POST, project, id, Some("renewal-info"))?).await?.json()
    }

    /// Has a version of a certificate revoked; answers the job that does it.
    ///
    /// # Errors
    /// When the API refuses or cannot be reached.
    pub async fn revoke_certificate(
        &self,
        project: &str,
        id: CertificateId,
        body: &RevokeCertificate,
    ) -> Result<Job, ClientError> {
        self.exchange(self.below(Method::POST, project, id, Some("revoke"))?.json(body)).await?.json()
    }

    /// A page of a certificate's versions.
    ///
    /// # Errors
    /// When the API refuses or cannot be reached.
    pub async fn versions(
        &self,
        project: &str,
        id: CertificateId,
        query: &PageQuery,
    ) -> Result<Slice<Version>, ClientError> {
        self.exchange(self.below(Method::GET, project, id, Some("versions"))?.query(query)).await?.json()
    }

    /// The current version as PEM. Held as a secret whatever it is: one of the formats is the private key.
    ///
    /// # Errors
    /// When the API refuses or cannot be reached.
    pub async fn download(
        &self,
        project: &str,
        id: CertificateId,
        format: DownloadFormat,
    ) -> Result<SecretString, ClientError> {
        let pem = HeaderValue::from_static("application/pem-certificate-chain, application/x-pem-file, */*");
        let request =
            self.below(Method::GET, project, id, Some("download"))?.query(&[("format", format.as_str())]);
        let headers = std::iter::once((ACCEPT, pem)).collect();
        Ok(self.exchange(request.headers(headers)).await?.text()?.into())
    }

    fn below(
        &self,
        method: Method,
        project: &str,
        id: CertificateId,
        verb: Option<&str>,
    ) -> Result<RequestBuilder, ClientError> {
        let id = id.to_string();
        let mut path = vec!["api", "v1", "projects", project, "certificates", &id];
        path.extend(verb);
        self.request(method, &path)
    }
}
