// SPDX-License-Identifier: Apache-2.0
//! Requests that we sign ourselves (RFC 8555, 6.2): those that `instant-acme` cannot make with a key that was stored before,
//! and those whose answer it hides.
//!
//! They go the way of all others: the same connections, the same pool of nonces, the same deadline, and failures are met by
//! `fault` in the same way.

use std::sync::Arc;

use bytes::Bytes;
use cap_core::issuer::ExternalAccount;
use cap_core::order::{CaError, CaRequest};
use http::{HeaderValue, Request, StatusCode, header};
use instant_acme::{BodyWrapper, Error, HttpClient};
use serde::Serialize;

use crate::call::{Action, Answer};
use crate::directory::Directory;
use crate::document;
use crate::fault;
use crate::http::{Handle, Http, REPLAY_NONCE};
use crate::key::{self, Jwk, Jws, Signer, SigningKey};

/// How often a request is sent when its nonces are refused: as often as `instant-acme` sends one.
const TRIES: u32 = 3;
const JOSE: HeaderValue = HeaderValue::from_static("application/jose+json");

/// Who signs: an account, or a key that the CA may not know.
pub(crate) struct Signing {
    http: Arc<Http>,
    pub(crate) directory: Directory,
    key: SigningKey,
    jwk: Jwk,
    /// The account's URL; nothing for a key by itself.
    account: Option<String>,
}

impl Signing {
    /// Signs with the request's key, for `account` if it is known.
    ///
    /// # Errors
    /// When the key cannot be used.
    pub(crate) fn new(
        http: Arc<Http>,
        directory: Directory,
        request: &CaRequest,
        account: Option<String>,
    ) -> Result<Self, CaError> {
        Ok(Self::with(http, directory, SigningKey::of_account(&request.account_key)?, account))
    }

    /// Signs with `key`, for `account` if it is known.
    pub(crate) fn with(
        http: Arc<Http>,
        directory: Directory,
        key: SigningKey,
        account: Option<String>,
    ) -> Self {
        Self { http, directory, jwk: key.jwk(), key, account }
    }

    /// The public key.
    pub(crate) fn jwk(&self) -> &Jwk {
        &self.jwk
    }

    /// The key, signed for with that of an external account, as a registration carries it (RFC 8555, 7.3.4).
    pub(crate) fn bound_to(&self, external: &ExternalAccount) -> Result<Jws, CaError> {
        let signed = serde_json::to_vec(&self.jwk).map_err(Error::from);
        let signed = signed.and_then(|jwk| key::sign_externally(external, &self.directory.new_account, &jwk));
        signed.map_err(|_| fault::unusable_key())
    }

    /// Sends `payload` to `url`; answers what came back, whose status says that it succeeded.
    ///
    /// # Errors
    /// Whatever else came back, or nothing, by what to do about it.
    pub(crate) async fn post(
        &self,
        action: Action,
        url: &str,
        payload: &impl Serialize,
    ) -> Result<Answer, CaError> {
        let (sent, answer) = self.answered(action, url, payload).await;
        sent.map(|()| answer)
    }

    /// The same, with what came back although it says that it did not succeed.
    pub(crate) async fn answered(
        &self,
        action: Action,
        url: &str,
        payload: &impl Serialize,
    ) -> (Result<(), CaError>, Answer) {
        let post = async { self.exchange(url, &serde_json::to_vec(payload)?).await };
        self.http.answered(action, post).await
    }

    /// Asks for what is at `url` (POST-as-GET, RFC 8555, 6.3): its body, and where the alternates of it are.
    ///
    /// # Errors
    /// As [`Self::post`].
    pub(crate) async fn post_as_get(&self, action: Action, url: &str) -> Result<Answer, CaError> {
        Ok(self.http.call(action, self.exchange(url, b"")).await?.1)
    }

    /// Sends it, again with another nonce where the CA wants another one (RFC 8555, 6.5).
    async fn exchange(&self, url: &str, payload: &[u8]) -> Result<(), Error> {
        for _ in 0..TRIES {
            let nonce = self.nonce().await?;
            let jws = self.key.sign(self.signer(), Some(&nonce), url, payload)?;
            let body = BodyWrapper::<Bytes>::from(serde_json::to_vec(&jws)?);
            let request = Request::post(url).header(header::CONTENT_TYPE, JOSE).body(body)?;
            let mut answer = Handle(self.http.clone()).request(request).await?;
            let body = answer.body.into_bytes().await.map_err(Error::Other)?;
            if answer.parts.status.is_success() {
                return Ok(());
            }
            if !document::is_bad_nonce(answer.parts.status, &body) {
                break;
            }
        }
        // What it is, is read from what was seen.
        Err(Error::Str("the CA did not do it"))
    }

    fn signer(&self) -> Signer<'_> {
        match &self.account {
            Some(url) => Signer::Kid(url),
            None => Signer::Jwk(&self.jwk),
        }
    }

    /// A nonce, out of the pool while there are any (RFC 8555, 7.2).
    async fn nonce(&self) -> Result<String, Error> {
        let request = Request::head(&self.directory.new_nonce).body(BodyWrapper::<Bytes>::default())?;
        let answer = Handle(self.http.clone()).request(request).await?;
        if answer.parts.status != StatusCode::OK {
            return Err(Error::Str("no nonce was to be had"));
        }
        let nonce = answer.parts.headers.get(REPLAY_NONCE).and_then(|nonce| nonce.to_str().ok());
        nonce.map(str::to_owned).ok_or(Error::Str("newNonce was answered without a nonce"))
    }
}
