// SPDX-License-Identifier: Apache-2.0
//! One HTTP exchange: bounded in time and size, repeated where that is harmless.

use std::error::Error as _;
use std::fmt::Write as _;
use std::time::Duration;

use cap_core::id::RequestId;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Request, Response, StatusCode, redirect};
use rustls::crypto::CryptoProvider;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::error::ClientError;
use crate::retry::{self, Outcome};
use crate::wire::ProblemDetails;

/// The longest wait for a TCP and TLS connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest wait for an answer and its body: as long as the API itself works on a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long an idle connection is kept: less than the time after which the API (90 s) or any load balancer before it
/// closes one, so that no request is sent into a connection that is just being closed.
const POOL_IDLE: Duration = Duration::from_secs(5);
/// Octets of an answer's body: a full page of the widest records takes about half of it.
pub const BODY_OCTETS: usize = 16 * 1024 * 1024;
/// Random octets of an idempotency key.
const IDEMPOTENCY_KEY_OCTETS: usize = 16;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A client of one API, with at most one token.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    token: Option<HeaderValue>,
    on_wait: Option<OnWait>,
}

/// Hears of a wait that an answer asked for, and of its status.
pub type OnWait = fn(Duration, u16);

/// An answer of whatever status, with its whole body.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) url: String,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Client {
    /// A client of the API at `url`, trusting the certificates in `ca_pem` beside the platform's. Nothing is sent yet.
    /// The process must have installed a TLS backend for rustls.
    ///
    /// # Errors
    /// [`ClientError::Settings`] when the URL, the token or the certificates cannot be used.
    pub fn new(url: &str, token: Option<&SecretString>, ca_pem: Option<&[u8]>) -> Result<Self, ClientError> {
        let base = base_url(url)?;
        if CryptoProvider::get_default().is_none() {
            return Err(settings("TLS", "no backend is installed in this process", "report this bug"));
        }
        let token = token.map(bearer).transpose()?;
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("certautopilot/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            .pool_idle_timeout(POOL_IDLE)
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never());
        if let Some(pem) = ca_pem {
            const REMEDY: &str = "give a PEM file with -----BEGIN CERTIFICATE----- blocks";
            let roots = reqwest::Certificate::from_pem_bundle(pem)
                .map_err(|error| settings("the CA certificates", &causes(&error), REMEDY))?;
            if roots.is_empty() {
                return Err(settings("the CA certificates", "there is none in the file", REMEDY));
            }
            builder = builder.tls_certs_merge(roots);
        } else if base.scheme() == "http" {
            // Plain HTTP must work on a host without any CA certificates: redirects are off, so TLS never starts.
            builder = builder.tls_certs_only([]);
        }
        let http = builder.build().map_err(|error| {
            settings("TLS", &causes(&error), "install the platform's CA certificates, or give a CA file")
        })?;
        Ok(Self { http, base, token, on_wait: None })
    }

    /// Tells `on_wait` before each wait that an answer asked for, so that a person knows why nothing happens.
    #[must_use]
    pub fn telling(self, on_wait: OnWait) -> Self {
        Self { on_wait: Some(on_wait), ..self }
    }

    /// The URL of `segments` below the API's root.
    pub(crate) fn url(&self, segments: &[&str]) -> Result<Url, ClientError> {
        let odd = |segment: &&&str| segment.is_empty() || **segment == "." || **segment == "..";
        if let Some(segment) = segments.iter().find(odd) {
            return Err(ClientError::NoName { text: (*segment).to_owned() });
        }
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        Ok(url)
    }

    /// A request below the API's root, with the token if there is one.
    pub(crate) fn request(
        &self,
        method: Method,
        segments: &[&str],
    ) -> Result<reqwest::RequestBuilder, ClientError> {
        let builder = self.request_of_nobody(method, segments)?;
        Ok(match &self.token {
            Some(token) => builder.header(AUTHORIZATION, token.clone()),
            None => builder,
        })
    }

    /// Whether requests have a token.
    pub(crate) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// A request below the API's root, without the token.
    pub(crate) fn request_of_nobody(
        &self,
        method: Method,
        segments: &[&str],
    ) -> Result<reqwest::RequestBuilder, ClientError> {
        let mut builder = self.http.request(method.clone(), self.url(segments)?);
        if method == Method::POST {
            builder = builder.header(IDEMPOTENCY_KEY, idempotency_key()?);
        }
        Ok(builder.header(ACCEPT, "application/json, application/problem+json"))
    }

    /// Sends a request, and again where that is harmless, until there is an answer of whatever status.
    pub(crate) async fn exchange(&self, builder: reqwest::RequestBuilder) -> Result<Answer, ClientError> {
        let request = built(builder)?;
        let mut tries = 1;
        loop {
            // Every body of ours is in memory, and such requests can be cloned.
            let Some(again) = request.try_clone() else {
                return Err(settings("the request", "its body cannot be sent twice", "report this bug"));
            };
            let (result, outcome) = self.attempt(again).await;
            match retry::wait(request.method(), tries, outcome) {
                Some(wait) => {
                    if let (Outcome::Answered { status, .. }, Some(tell)) = (outcome, self.on_wait) {
                        tell(wait, status.as_u16());
                    }
                    tokio::time::sleep(wait).await;
                }
                None => return result,
            }
            tries += 1;
        }
    }

    /// Sends a request once, whatever comes.
    pub(crate) async fn exchange_once(
        &self,
        builder: reqwest::RequestBuilder,
    ) -> Result<Answer, ClientError> {
        self.attempt(built(builder)?).await.0
    }

    async fn attempt(&self, request: Request) -> (Result<Answer, ClientError>, Outcome) {
        let url = request.url().clone();
        let response = match self.http.execute(request).await {
            Ok(response) => response,
            Err(error) => {
                let outcome = if error.is_connect() { Outcome::NotSent } else { Outcome::Broken };
                return (Err(unreachable(&url, &error)), outcome);
            }
        };
        let answered = Outcome::Answered {
            status: response.status(),
            retry_after: retry::retry_after(response.headers()),
        };
        match read(&url, response).await {
            Err(error @ ClientError::Unreachable { .. }) => (Err(error), Outcome::Broken),
            result => (result, answered),
        }
    }
}

impl Answer {
    /// The answer, if it is a success.
    pub(crate) fn success(self) -> Result<Self, ClientError> {
        if self.status.is_success() {
            return Ok(self);
        }
        match serde_json::from_slice::<ProblemDetails>(&self.body) {
            Ok(mut problem) => {
                problem.status = self.status.as_u16();
                problem.request_id = problem.request_id.or_else(|| self.request_id());
                Err(ClientError::Api(Box::new(problem)))
            }
            Err(_) => Err(self.unusable(format!("status {} without a problem document", self.status))),
        }
    }

    /// The body of a success, read as JSON.
    pub(crate) fn json<T: serde::de::DeserializeOwned>(self) -> Result<T, ClientError> {
        let answer = self.success()?;
        serde_json::from_slice(&answer.body).map_err(|error| answer.unusable(error.to_string()))
    }

    /// The body of a success, read as text.
    pub(crate) fn text(self) -> Result<String, ClientError> {
        let mut answer = self.success()?;
        String::from_utf8(std::mem::take(&mut answer.body))
            .map_err(|_| answer.unusable("its body is not UTF-8".to_owned()))
    }

    /// Whether its body says that it is a problem document (RFC 9457).
    pub(crate) fn is_problem(&self) -> bool {
        let kind = self.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let kind = kind.and_then(|kind| kind.split(';').next()).map(str::trim);
        kind.is_some_and(|kind| kind.eq_ignore_ascii_case("application/problem+json"))
    }

    fn unusable(&self, cause: String) -> ClientError {
        let (status, request_id) = (Some(self.status.as_u16()), self.request_id());
        ClientError::Protocol { url: self.url.clone(), status, cause, request_id }
    }

    fn request_id(&self) -> Option<RequestId> {
        self.headers.get(REQUEST_ID)?.to_str().ok()?.parse().ok()
    }
}

async fn read(url: &Url, mut response: Response) -> Result<Answer, ClientError> {
    let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
    let mut answer = Answer { url: url.to_string(), status, headers, body: Vec::new() };
    while let Some(chunk) = response.chunk().await.map_err(|error| unreachable(url, &error))? {
        if answer.body.len() + chunk.len() > BODY_OCTETS {
            return Err(answer.unusable(format!("its body is longer than {BODY_OCTETS} octets")));
        }
        answer.body.extend_from_slice(&chunk);
    }
    Ok(answer)
}

fn base_url(text: &str) -> Result<Url, ClientError> {
    const REMEDY: &str = "write it like https://certs.example.test";
    let bad = |why: &str| settings("the API's URL", why, REMEDY);
    let url = Url::parse(text).map_err(|error| bad(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(bad("it does not begin with http:// or https:// and a host"));
    }
    // A password would go to logs with the URL; a token has its own place.
    if !url.username().is_empty() || url.password().is_some() {
        return Err(bad("it holds a user name or a password"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(bad("it holds a query or a fragment"));
    }
    Ok(url)
}

fn bearer(token: &SecretString) -> Result<HeaderValue, ClientError> {
    let header = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret()));
    let mut header = header.map_err(|_| {
        settings(
            "the token",
            "it holds characters that no token has",
            "copy the token again, without white space",
        )
    })?;
    header.set_sensitive(true);
    Ok(header)
}

fn idempotency_key() -> Result<String, ClientError> {
    let mut bytes = [0_u8; IDEMPOTENCY_KEY_OCTETS];
    let drawn = CryptoProvider::get_default().map(|provider| provider.secure_random.fill(&mut bytes));
    if !matches!(drawn, Some(Ok(()))) {
        return Err(settings("the request", "the TLS backend has no random bytes", "report this bug"));
    }
    Ok(bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

fn built(builder: reqwest::RequestBuilder) -> Result<Request, ClientError> {
    builder.build().map_err(|error| settings("the request", &causes(&error), "report this bug"))
}

fn unreachable(url: &Url, error: &reqwest::Error) -> ClientError {
    let mut cause = causes(error);
    if error.is_timeout() {
        let limit = if error.is_connect() { CONNECT_TIMEOUT } else { REQUEST_TIMEOUT };
        cause = format!("no answer within {} s", limit.as_secs());
    }
    ClientError::Unreachable { url: url.origin().ascii_serialization(), cause }
}

/// The causes of an error; its outer words only say that a request failed.
fn causes(error: &reqwest::Error) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut next = error.source();
    while let Some(source) = next {
        let text = source.to_string();
        let is_news = words.last().is_none_or(|last| !last.contains(&text));
        // The HTTP library's own word for any connection that failed.
        if is_news && !text.starts_with("client error (") {
            words.push(text);
        }
        next = source.source();
    }
    if words.is_empty() { error.to_string() } else { words.join(": ") }
}

fn settings(what: &str, why: &str, remedy: &'static str) -> ClientError {
    ClientError::Settings { what: what.to_owned(), why: why.to_owned(), remedy }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(url: &str) -> Result<Client, ClientError> {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        Client::new(url, None, None)
    }

    #[test]
    fn only_plain_http_urls_are_taken() {
        assert!(client("http://127.0.0.1:8181").is_ok());
        assert!(client("http://gate.test/certs/").is_ok());
        for wrong in
            ["", "certs.test", "ftp://a.test", "http://u:p@a.test", "http://a.test/?x=1", "http://a.test/#f"]
        {
            assert!(matches!(client(wrong), Err(ClientError::Settings { .. })), "{wrong:?} was taken");
        }
    }

    #[test]
    fn a_segment_cannot_leave_its_place() {
        let client = client("http://gate.test/certs/").unwrap();
        let url = client.url(&["api", "v1", "projects", "a/../b?x#y"]).unwrap();
        assert_eq!(url.as_str(), "http://gate.test/certs/api/v1/projects/a%2F..%2Fb%3Fx%23y");
        for wrong in ["", ".", ".."] {
            let error = client.url(&["api", wrong]).unwrap_err();
            assert!(matches!(&error, ClientError::NoName { text } if text == wrong), "{wrong:?}: {error:?}");
        }
    }

    #[test]
    fn a_token_is_not_shown_and_a_broken_one_is_refused() {
        let token = SecretString::from("cap_api_secret");
        assert!(!format!("{:?}", bearer(&token).unwrap()).contains("secret"));
        client("http://a.test").unwrap();
        let bears = Client::new("http://a.test", Some(&token), None).unwrap();
        assert!(bears.has_token() && !format!("{bears:?}").contains("secret"));
        let cut = bearer(&SecretString::from("cap_api\nsecret")).unwrap_err();
        assert!(!cut.to_string().contains("secret"));
    }

    #[test]
    fn idempotency_keys_differ() {
        client("http://a.test").unwrap();
        let (one, two) = (idempotency_key().unwrap(), idempotency_key().unwrap());
        assert_eq!(one.len(), 2 * IDEMPOTENCY_KEY_OCTETS);
        assert_ne!(one, two);
    }
}
