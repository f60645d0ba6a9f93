// SPDX-License-Identifier: Apache-2.0
//! The CA port over `instant-acme` (RFC 8555), and the only crate that names it.
//!
//! This crate never waits for a CA to finish something, never repeats an act of its own accord, and never decides
//! what comes next: it does one act, says what the CA said, and how a failure is to be met. It stores nothing, writes
//! no problem document into the log, and keeps account keys only inside the accounts that sign with them.
//!
//! `instant-acme` signs and parses; the HTTP client below it is ours, because it hides what the engine needs: status,
//! `Retry-After`, the order's expiry. Ours adds time-outs, bounds, trust roots, metrics and a pool of nonces.
//!
//! - [`Acme`] is the port; one connection pool an issuer, one restored account an issuer.
//! - `http`, `connect`, `nonces`, `call` carry requests and keep what was seen.
//! - `signed`, `key`, `directory` and `link` make the requests that `instant-acme` cannot; `status` has it read what it would not.
//! - `register`, `rollover`, `account`, `order`, `renewal` and `revocation` are the acts.
//! - `fault`, `document` and `unreachable` turn failures into what to do and what to tell people.

mod account;
mod call;
mod connect;
mod directory;
mod document;
mod fault;
mod http;
mod issuers;
mod key;
mod link;
mod metrics;
mod nonces;
mod order;
mod register;
mod renewal;
mod revocation;
mod rollover;
mod signed;
mod status;
mod unreachable;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cap_core::certificate::RevocationReason;
use cap_core::clock::Clock;
use cap_core::limits;
use cap_core::order::{CaAccount, CaError, CaRequest, CertificateAuthority};
use cap_core::secret::SecretSlice;
use prometheus::Registry;

use crate::account::AcmeAccount;
use crate::directory::Directory;
use crate::http::Http;
use crate::issuers::Issuers;
use crate::metrics::Metrics;

/// Every CA that speaks ACME.
pub struct Acme {
    clock: Arc<dyn Clock>,
    request_timeout: Duration,
    metrics: Metrics,
    issuers: Issuers,
}

impl Acme {
    /// A client whose requests take at most `request_timeout`, and never more than [`limits::CA_REQUEST`]: each from
    /// connecting, over the nonce that is fetched for it and its repetitions after badNonce, to the last octet of the
    /// answer. A worker gives at most a third of its job lease, so that a request cannot outlive the lease that it is
    /// made under.
    ///
    /// An act may be several requests: registering makes two, and acts on orders one or two a name. Those are
    /// bounded by whoever asks for them, who may drop them at any moment.
    ///
    /// # Errors
    /// When `registry` has metrics of these names already.
    pub fn new(
        clock: Arc<dyn Clock>,
        request_timeout: Duration,
        registry: &Registry,
    ) -> Result<Self, prometheus::Error> {
        Ok(Self {
            clock,
            request_timeout: request_timeout.min(limits::CA_REQUEST),
            metrics: Metrics::register(registry)?,
            issuers: Issuers::default(),
        })
    }

    fn http(&self, request: &CaRequest) -> Result<Arc<Http>, CaError> {
        self.issuers.http(request, || {
            Http::new(&request.spec, self.clock.clone(), self.request_timeout, &self.metrics)
        })
    }
}

#[async_trait]
impl CertificateAuthority for Acme {
    /// RFC 8555, 7.3: the same key always gives the same account, so this can be repeated. Where the account was there
    /// already, its contacts are set by a second request (7.3.2).
    async fn register(&self, request: &CaRequest) -> Result<String, CaError> {
        register::register(&self.http(request)?, request).await
    }

    async fn tell_contacts(&self, request: &CaRequest, account_url: &str) -> Result<(), CaError> {
        let http = self.http(request)?;
        let directory = Directory::fetch(&http).await?;
        register::tell_contacts(&http, directory, request, account_url).await
    }

    async fn find(&self, request: &CaRequest) -> Result<Option<String>, CaError> {
        register::find(&self.http(request)?, request).await
    }

    async fn change_key(
        &self,
        request: &CaRequest,
        account_url: &str,
        new_key: &Arc<SecretSlice<u8>>,
    ) -> Result<(), CaError> {
        rollover::change_key(&self.http(request)?, request, account_url, new_key).await
    }

    async fn deactivate(&self, request: &CaRequest, account_url: &str) -> Result<(), CaError> {
        rollover::deactivate(&self.http(request)?, request, account_url).await
    }

    async fn revoke_by_key(
        &self,
        request: &CaRequest,
        certificate: &[u8],
        key: &SecretSlice<u8>,
        reason: RevocationReason,
    ) -> Result<(), CaError> {
        revocation::by_key(&self.http(request)?, certificate, key, reason).await
    }

    async fn account(&self, request: &CaRequest, account_url: &str) -> Result<Arc<dyn CaAccount>, CaError> {
        let http = self.http(request)?;
        let now = self.clock.boottime();
        if let Some(account) = self.issuers.account(request, account_url, now) {
            return Ok(account);
        }
        // Claims that come together restore it more than once rather than wait behind a slow CA one after the other.
        let account = Arc::new(AcmeAccount::restore(http, request, account_url).await?);
        self.issuers.keep(request, account_url, now, account.clone());
        Ok(account)
    }
}
