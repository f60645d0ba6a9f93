// SPDX-License-Identifier: Apache-2.0
//! The port to a CA: one remote act a call (RFC 8555).

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use secrecy::SecretSlice;

use crate::certificate::{Profile, RevocationReason};
use crate::challenge::ChallengeToken;
use crate::id::IssuerId;
use crate::issuer::{ExternalAccount, IssuerSpec};
use crate::name::Identifier;
use crate::order::Placed;
use crate::problem::Problem;
use crate::renewal_info::{AriId, RenewalInfo};

/// What the CA says of an order (RFC 8555, 7.1.6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Challenges are open.
    Pending,
    /// It waits to be finalized.
    Ready,
    /// It is being issued.
    Processing,
    /// Its certificate can be fetched.
    Valid,
    /// It is over, and why.
    Invalid(Problem),
}

/// An answer of the CA's, and before when it does not want to be asked again (`Retry-After`: RFC 8555, 7.4 and 7.5.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply<T> {
    /// What it said.
    pub said: T,
    /// When it wants to be asked next, where it said so.
    pub retry_at: Option<Timestamp>,
}

impl<T> From<T> for Reply<T> {
    fn from(said: T) -> Self {
        Self { said, retry_at: None }
    }
}

/// An authorization of an order (RFC 8555, 7.1.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authorization {
    /// Nothing to do: it is valid already.
    Valid,
    /// The CA waits for this HTTP-01 challenge.
    Pending {
        /// The challenge's token.
        token: ChallengeToken,
        /// The key authorization to answer with.
        key_authorization: String,
    },
    /// It cannot be completed, and why.
    Unusable(Problem),
}

/// A certificate as the CA gives it (RFC 8555, 7.4.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// The default chain, PEM, leaf first.
    pub pem: String,
    /// Where other chains of the same certificate are, in the order of the CA.
    pub alternates: Vec<String>,
}

/// Why a remote act did not succeed, by what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CaError {
    /// A passing fault: the same act is tried again, and costs no attempt.
    #[error("{0}")]
    Transient(Problem),
    /// The CA asked us to come back later.
    #[error("{problem}")]
    Later {
        /// What it said.
        problem: Problem,
        /// When to come back.
        at: Timestamp,
    },
    /// The order is not in the state that the act needs: look at it again.
    #[error("{0}")]
    OutOfStep(Problem),
    /// The CA will not do it: this attempt is over, unless the act only asked and the CA may still issue.
    #[error("{0}")]
    Refused(Problem),
    /// The CA does not accept the account, or the key that it was asked with: it says nothing of what was asked.
    #[error("{0}")]
    Account(Problem),
    /// The CA will not do it before a person has done something: trying again by ourselves would only be in its way.
    #[error("{0}")]
    NeedsPerson(Problem),
    /// The CA itself says that it has no such order: nothing will come of it any more.
    #[error("{0}")]
    Gone(Problem),
}

/// Which CA, which account, with which key.
#[derive(Debug, Clone)]
pub struct CaRequest {
    /// The issuer, whose connections and nonces are kept together.
    pub issuer: IssuerId,
    /// How to reach it.
    pub spec: IssuerSpec,
    /// The account's key, PKCS #8 DER.
    pub account_key: Arc<SecretSlice<u8>>,
    /// What a registration is bound to, where the CA wants that (RFC 8555, 7.3.4).
    pub external: Option<ExternalAccount>,
}

/// CAs in general.
#[async_trait]
pub trait CertificateAuthority: Send + Sync {
    /// Registers the account, or finds the one that has this key, and sets its contacts; answers its URL.
    async fn register(&self, request: &CaRequest) -> Result<String, CaError>;

    /// Sets the contacts of the account at `account_url` (RFC 8555, 7.3.2).
    async fn tell_contacts(&self, request: &CaRequest, account_url: &str) -> Result<(), CaError>;

    /// The URL of the account that has this key, if the CA knows one (RFC 8555, 7.3.1); none is made.
    async fn find(&self, request: &CaRequest) -> Result<Option<String>, CaError>;

    /// Has the account at `account_url` take `new_key` in the place of its own (RFC 8555, 7.3.5).
    async fn change_key(
        &self,
        request: &CaRequest,
        account_url: &str,
        new_key: &Arc<SecretSlice<u8>>,
    ) -> Result<(), CaError>;

    /// Deactivates the account at `account_url`, for ever (RFC 8555, 7.3.6).
    async fn deactivate(&self, request: &CaRequest, account_url: &str) -> Result<(), CaError>;

    /// Asks the CA to revoke `certificate` (DER) with a request that its own private key signs (`key`, PKCS #8 DER), and no account
    /// (RFC 8555, 7.6). It is done as well when it was done before.
    async fn revoke_by_key(
        &self,
        request: &CaRequest,
        certificate: &[u8],
        key: &SecretSlice<u8>,
        reason: RevocationReason,
    ) -> Result<(), CaError>;

    /// The account at `account_url`.
    async fn account(&self, request: &CaRequest, account_url: &str) -> Result<Arc<dyn CaAccount>, CaError>;
}

/// An order at the CA, and what it said of it.
pub type Found = (Reply<Seen>, Box<dyn RemoteOrder>);

/// One account at one CA.
#[async_trait]
pub trait CaAccount: Send + Sync {
    /// Places an order; as one that replaces an earlier certificate (RFC 9773, 5) if given, and only at a CA that offers renewal
    /// information. One request: as soon as the order's URL is known it is answered, with what else the same answer said, if
    /// that can be used.
    async fn place(
        &self,
        names: &[Identifier],
        profile: Option<&Profile>,
        replaces: Option<&AriId>,
    ) -> Result<(Placed, Option<Found>), CaError>;

    /// Finds an order that was placed earlier.
    async fn resume(&self, url: &str) -> Result<Found, CaError>;

    /// Whether the CA's directory offers renewal information (RFC 9773, 3). A CA that does not is not asked for any.
    fn offers_renewal_info(&self) -> bool;

    /// Asks when the CA wants a certificate renewed (RFC 9773, 4).
    async fn renewal_info(&self, certificate: &AriId) -> Result<RenewalInfo, CaError>;

    /// Has a certificate revoked, DER, by the account's word (RFC 8555, 7.6). It is done as well when it was done before.
    async fn revoke(&self, certificate: &[u8], reason: RevocationReason) -> Result<(), CaError>;
}

/// An order at the CA. An act may be given up at any moment; the handle is not used again then.
#[async_trait]
pub trait RemoteOrder: Send {
    /// Asks how it is.
    async fn look(&mut self) -> Result<Reply<Seen>, CaError>;

    /// Reads its authorizations.
    async fn authorizations(&mut self) -> Result<Reply<Vec<Authorization>>, CaError>;

    /// Tells the CA that its pending challenges are answered; those that it is already looking at are left alone.
    async fn submit(&mut self) -> Result<Reply<()>, CaError>;

    /// Deactivates the authorizations that are still pending (RFC 8555, 7.5.2), which makes the order invalid; answers how many.
    async fn withdraw(&mut self) -> Result<usize, CaError>;

    /// Sends the signing request.
    async fn finalize(&mut self, csr: &[u8]) -> Result<Reply<Seen>, CaError>;

    /// Fetches the CA's default chain.
    async fn certificate(&mut self) -> Result<Chain, CaError>;

    /// Fetches another chain of the same certificate, PEM, leaf first, from where [`Self::certificate`] said that it is.
    async fn alternate(&mut self, url: &str) -> Result<String, CaError>;
}
