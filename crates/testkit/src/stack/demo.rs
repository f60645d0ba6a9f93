// SPDX-License-Identifier: Apache-2.0
//! The way of a newcomer: a project, an issuer, a certificate.

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use serde_json::{Value, json};

use super::client::ApiClient;
use crate::ca::Pebble;
use crate::wait::{self, Pending};

/// An ACME account is registered by a job.
const ISSUER_LIMIT_SECONDS: u64 = 60;
/// An issuance takes a second; the first one on a busy machine takes longer.
const CERTIFICATE_LIMIT_SECONDS: u64 = 120;
/// The profile of a certificate that is to live long.
const DEFAULT_PROFILE: &str = "default";
/// Where the CA would write to.
const CONTACT: &str = "mailto:ops@example.test";

/// A project with an issuer at the local CA.
#[derive(Clone, Debug)]
pub struct Demo {
    /// The project's id.
    pub project: String,
    /// The issuer's name.
    pub issuer: String,
    profile: Option<String>,
}

impl Demo {
    /// Makes both, and waits until the issuer can issue.
    ///
    /// # Errors
    /// When the API refuses, or the issuer does not become ready.
    pub async fn create(api: &ApiClient, ca: &Pebble, project: &str, issuer: &str) -> anyhow::Result<Self> {
        let made = api.post("/api/v1/projects", &json!({ "name": project })).await?;
        let project = id_of(&made)?;
        let body = json!({
            "name": issuer,
            "directory_url": ca.directory_url(),
            "trust_roots_pem": std::fs::read_to_string(ca.ca_file()).context("reading the CA's root")?,
            "contact": [CONTACT],
        });
        let issuers = format!("/api/v1/projects/{project}/issuers");
        let made = api.post(&issuers, &body).await?;
        let path = format!("{issuers}/{}", id_of(&made)?);
        wait_status(api, &path, "ready", Duration::from_secs(ISSUER_LIMIT_SECONDS)).await?;
        // Said where there is one, because Pebble draws a profile by lot for an order that names none.
        let profile = ca.flavor().profiles.iter().find(|name| *name == DEFAULT_PROFILE).cloned();
        Ok(Self { project, issuer: issuer.to_owned(), profile })
    }

    /// Asks for a certificate; returns its id at once.
    ///
    /// # Errors
    /// When the API refuses.
    pub async fn request(&self, api: &ApiClient, names: &[&str]) -> anyhow::Result<String> {
        id_of(&api.post(&self.certificates(), &self.request_body(names)).await?)
    }

    /// What is sent to ask for a certificate.
    #[must_use]
    pub fn request_body(&self, names: &[&str]) -> Value {
        json!({
            "names": names,
            "issuer": self.issuer,
            "key": { "type": "ecdsa-p256" },
            "challenge": "http-01",
            "profile": self.profile,
            "auto_renew": true,
        })
    }

    /// Where certificates are asked for.
    #[must_use]
    pub fn certificates(&self) -> String {
        format!("/api/v1/projects/{}/certificates", self.project)
    }

    /// Waits until a certificate is valid; returns its record.
    ///
    /// # Errors
    /// When it is not after two minutes; the problem that it carries is in the error.
    pub async fn wait_valid(&self, api: &ApiClient, certificate: &str) -> anyhow::Result<Value> {
        wait_status(api, &self.path(certificate), "valid", Duration::from_secs(CERTIFICATE_LIMIT_SECONDS))
            .await
    }

    /// The certificate with its chain, PEM.
    ///
    /// # Errors
    /// When the API refuses.
    pub async fn download(&self, api: &ApiClient, certificate: &str) -> anyhow::Result<String> {
        api.text(&format!("{}/download?format=fullchain", self.path(certificate))).await
    }

    fn path(&self, certificate: &str) -> String {
        format!("{}/{certificate}", self.certificates())
    }
}

fn id_of(answer: &Value) -> anyhow::Result<String> {
    answer["id"].as_str().map(ToOwned::to_owned).ok_or_else(|| anyhow!("the answer has no `id`: {answer}"))
}

/// Nothing that fails is given up by the system, so a failing state is waited on like any other, and shown.
async fn wait_status(api: &ApiClient, path: &str, wanted: &str, limit: Duration) -> anyhow::Result<Value> {
    wait::until(&format!("{path} to be {wanted}"), limit, || async {
        let record = api.get(path).await.map_err(Pending::not_yet)?;
        if record["status"] == wanted {
            return Ok(record);
        }
        Err(Pending::not_yet(format_args!("status {}, problem {}", record["status"], record["problem"])))
    })
    .await
}
