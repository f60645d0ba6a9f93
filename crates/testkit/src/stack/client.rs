// SPDX-License-Identifier: Apache-2.0
//! A plain client of the REST API: JSON in, JSON out, errors with the server's own words.

use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

/// The API answers or refuses within its own 5 s bound on the database, and some.
const REQUEST_LIMIT_SECONDS: u64 = 15;
/// How long an idle connection is kept: far less than the API keeps it, so that no request is sent into a connection
/// that is being closed.
const POOL_IDLE_SECONDS: u64 = 5;
/// How much of an error's body is shown.
const SHOWN_BODY_CHARS: usize = 1_000;
/// How long the token lives that a stack works with.
const TOKEN_LIFE: &str = "30d";

/// One API with one token.
#[derive(Clone, Debug)]
pub struct ApiClient {
    base: String,
    token: String,
    http: reqwest::Client,
}

/// An answer, whatever its status.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub text: String,
}

impl Answer {
    /// The body as JSON, null when it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }

    /// Whether the same request may well be answered otherwise soon.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        const TOO_MANY_REQUESTS: u16 = 429;
        const SERVER_ERRORS: u16 = 500;
        self.status == TOO_MANY_REQUESTS || self.status >= SERVER_ERRORS
    }
}

impl ApiClient {
    /// For this base URL (`http://127.0.0.1:8181`) and token.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn new(base: &str, token: &str) -> anyhow::Result<Self> {
        crate::tls::install();
        let http = reqwest::Client::builder()
            .user_agent(crate::tls::USER_AGENT)
            .timeout(Duration::from_secs(REQUEST_LIMIT_SECONDS))
            .pool_idle_timeout(Duration::from_secs(POOL_IDLE_SECONDS))
            .build()?;
        Ok(Self { base: base.trim_end_matches('/').to_owned(), token: token.to_owned(), http })
    }

    /// GET of a path such as `/api/v1/projects`, as JSON.
    ///
    /// # Errors
    /// When the API cannot be reached or refuses; its problem document is in the error.
    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&self.text(path).await?)?)
    }

    /// GET of a path, as text: downloads, metrics.
    ///
    /// # Errors
    /// As [`ApiClient::get`].
    pub async fn text(&self, path: &str) -> anyhow::Result<String> {
        self.send(self.http.get(self.url(path)), &format!("GET {path}")).await
    }

    /// POST of a JSON body; the answer as JSON, null when it has no body.
    ///
    /// # Errors
    /// As [`ApiClient::get`].
    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let text = self.send(self.http.post(self.url(path)).json(body), &format!("POST {path}")).await?;
        if text.is_empty() { Ok(Value::Null) } else { Ok(serde_json::from_str(&text)?) }
    }

    /// PATCH of a JSON body; the answer as JSON.
    ///
    /// # Errors
    /// As [`ApiClient::get`].
    pub async fn patch(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let text = self.send(self.http.patch(self.url(path)).json(body), &format!("PATCH {path}")).await?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Any request, and its answer whatever its status: for whoever counts refusals.
    ///
    /// # Errors
    /// When there is no answer: its outcome is unknown then.
    pub async fn call(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        idempotency_key: Option<&str>,
    ) -> anyhow::Result<Answer> {
        let method = reqwest::Method::from_bytes(method.as_bytes())?;
        let mut request = self.http.request(method, self.url(path)).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        if let Some(key) = idempotency_key {
            request = request.header("idempotency-key", key);
        }
        let answer = request.send().await.with_context(|| format!("{path} at {}", self.base))?;
        let status = answer.status().as_u16();
        Ok(Answer { status, text: answer.text().await? })
    }

    /// A token of 30 days for the one that this client has.
    pub(super) async fn exchange_token(&self) -> anyhow::Result<String> {
        let body = json!({ "name": "local", "role": "owner", "expires_in": TOKEN_LIFE });
        let answer = self.post("/api/v1/tokens", &body).await?;
        answer["token"]
            .as_str()
            .map(ToOwned::to_owned)
            .context("the answer to POST /api/v1/tokens has no `token`")
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    async fn send(&self, request: reqwest::RequestBuilder, what: &str) -> anyhow::Result<String> {
        let answer = request.bearer_auth(&self.token).send().await;
        let answer = answer.with_context(|| format!("{what} at {}", self.base))?;
        let status = answer.status();
        let text = answer.text().await.with_context(|| format!("the answer to {what}"))?;
        if !status.is_success() {
            let shown: String = text.chars().take(SHOWN_BODY_CHARS).collect();
            bail!("{what} at {}: {status}: {shown}", self.base);
        }
        Ok(text)
    }
}
