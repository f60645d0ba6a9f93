// SPDX-License-Identifier: Apache-2.0
//! Requests as anybody may send them, answers as they come.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::Value;

/// Longer than the API's own bound on anything that these tests ask for.
const REQUEST_LIMIT: Duration = Duration::from_secs(20);

/// A server.
#[derive(Clone)]
pub(crate) struct Http {
    base: String,
    client: Client,
}

/// A request that is being made.
pub(crate) struct Call(RequestBuilder);

/// An answer, whatever its status.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Http {
    pub(crate) fn new(base: &str) -> Self {
        cap_testkit::tls::install();
        let client = Client::builder().timeout(REQUEST_LIMIT).no_proxy().build().unwrap();
        Self { base: base.to_owned(), client }
    }

    /// The same server, asked from another address of this host.
    pub(crate) fn from(&self, address: &str) -> Self {
        let client = Client::builder().timeout(REQUEST_LIMIT).no_proxy().local_address(address.parse().ok());
        Self { base: self.base.clone(), client: client.build().unwrap() }
    }

    pub(crate) fn call(&self, method: &str, path: &str) -> Call {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        Call(self.client.request(method, format!("{}{path}", self.base)))
    }

    pub(crate) async fn get(&self, path: &str, token: &str) -> Answer {
        self.call("GET", path).token(token).send().await
    }

    pub(crate) async fn post(&self, path: &str, token: &str, body: &Value) -> Answer {
        self.call("POST", path).token(token).json(body).send().await
    }
}

impl Call {
    pub(crate) fn header(self, name: &str, value: &str) -> Self {
        Self(self.0.header(name, value))
    }

    pub(crate) fn token(self, token: &str) -> Self {
        Self(self.0.bearer_auth(token))
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        Self(self.0.json(body))
    }

    pub(crate) fn body(self, kind: Option<&str>, body: impl Into<Vec<u8>>) -> Self {
        let call = Self(self.0.body(body.into()));
        match kind {
            Some(kind) => call.header("content-type", kind),
            None => call,
        }
    }

    pub(crate) async fn send(self) -> Answer {
        self.try_send().await.unwrap()
    }

    pub(crate) async fn try_send(self) -> reqwest::Result<Answer> {
        let answer = self.0.send().await?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        Ok(Answer { status, headers, text: answer.text().await? })
    }
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Its id, of a thing that was made or read.
    pub(crate) fn id(&self) -> String {
        self.json()["id"].as_str().unwrap_or_else(|| panic!("no id: {self:?}")).to_owned()
    }

    /// The detail of the problem that this must be: whole, and of this status and name.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16, name: &str) -> String {
        let shown = format!("wanted {status} {name}, got {self:?}");
        assert_eq!(self.status, status, "{shown}");
        assert_eq!(self.header(CONTENT_TYPE.as_str()), "application/problem+json", "{shown}");
        let body = self.json();
        assert_eq!(body["type"], format!("urn:certautopilot:problem:{name}"), "{shown}");
        assert_eq!(body["status"], status, "{shown}");
        assert!(body["title"].as_str().is_some_and(|title| !title.is_empty()), "{shown}");
        let id = body["request_id"].as_str().unwrap_or_else(|| panic!("{shown}"));
        assert_eq!(self.header("x-request-id"), id, "{shown}");
        assert!(id.starts_with("req_"), "{shown}");
        body["detail"].as_str().unwrap_or_else(|| panic!("{shown}")).to_owned()
    }
}
