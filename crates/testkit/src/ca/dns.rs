// SPDX-License-Identifier: Apache-2.0
//! The DNS server that Pebble asks: `pebble-challtestsrv`, told what to answer over its management interface.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

/// It answers from memory.
const REQUEST_LIMIT_MS: u64 = 5_000;

/// A client of the management interface.
#[derive(Clone, Debug)]
pub struct DnsServer {
    management_url: String,
    client: reqwest::Client,
}

impl DnsServer {
    /// For the interface at this URL.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn at(management_url: &str) -> anyhow::Result<Self> {
        crate::tls::install();
        let client = reqwest::Client::builder()
            .user_agent(crate::tls::USER_AGENT)
            .timeout(Duration::from_millis(REQUEST_LIMIT_MS))
            .build()?;
        Ok(Self { management_url: management_url.trim_end_matches('/').to_owned(), client })
    }

    /// A name's IPv4 addresses, in the place of the default one.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn set_a(&self, name: &str, addresses: &[IpAddr]) -> anyhow::Result<()> {
        self.clear_a(name).await?;
        self.tell("add-a", json!({ "host": name, "addresses": addresses })).await
    }

    /// Takes a name's addresses away: it has the default one again.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn clear_a(&self, name: &str) -> anyhow::Result<()> {
        self.tell("clear-a", json!({ "host": name })).await
    }

    async fn tell(&self, verb: &str, mut body: Value) -> anyhow::Result<()> {
        // It compares names byte by byte, and questions come in lower case.
        if let Some(host) = body["host"].as_str().map(str::to_lowercase) {
            body["host"] = host.into();
        }
        let url = format!("{}/{verb}", self.management_url);
        let answer =
            self.client.post(&url).json(&body).send().await.with_context(|| format!("asking {url}"))?;
        ensure!(answer.status().is_success(), "{url} answers {}", answer.status());
        Ok(())
    }
}
