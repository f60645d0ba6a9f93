// SPDX-License-Identifier: Apache-2.0
//! The port to a CA: one remote act a call (RFC 8555).

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use secrecy::SecretSlice;

use crate::certificate::Profile;
use crate::challenge::ChallengeToken;
use crate::id::IssuerId;
use crate::issuer::IssuerSpec;
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
}

/// CAs in general.
#[async_trait]
pub trait CertificateAuthority: Send + Sync {
    /// Registers the account, or finds the one that has this key, and sets its contacts; answers its URL.
    async fn register(&self, request: &CaRequest) -> Result<String, CaError>;

    /// The account at `account_url`.
    async fn account(&self, request: &CaRequest, account_url: &str) -> Result<Arc<dyn CaAccount>, CaError>;
}

/// One account at one CA.
#[async_trait]
pub trait CaAccount: Send + Sync {
    /// Places an order; as one that replaces an earlier certificate (RFC 9773, 5) if given, and only at a CA that offers renewal
    /// information.
    async fn place(
        &self,
        names: &[Identifier],
        profile: Option<&Profile>,
        replaces: Option<&AriId>,
    ) -> Result<(Placed, Seen, Box<dyn RemoteOrder>), CaError>;

    /// Finds an order that was placed earlier.
    async fn resume(&self, url: &str) -> Result<(Seen, Box<dyn RemoteOrder>), CaError>;

    /// Whether the CA's directory offers renewal information (RFC 9773, 3). A CA that does not is not asked for any.
    fn offers_renewal_info(&self) -> bool;

    /// Asks when the CA wants a certificate renewed (RFC 9773, 4).
    async fn renewal_info(&self, certificate: &AriId) -> Result<RenewalInfo, CaError>;
}

/// An order at the CA. An act may be given up at any moment; the handle is not used again then.
#[async_trait]
pub trait RemoteOrder: Send {
    /// Asks how it is.
    async fn look(&mut self) -> Result<Seen, CaError>;

    /// Reads its authorizations.
    async fn authorizations(&mut self) -> Result<Vec<Authorization>, CaError>;

    /// Tells the CA that its pending challenges are answered; those that it is already looking at are left alone.
    async fn submit(&mut self) -> Result<(), CaError>;

    /// Sends the signing request.
    async fn finalize(&mut self, csr: &[u8]) -> Result<Seen, CaError>;

    /// Fetches the chain, PEM, leaf first.
    async fn certificate(&mut self) -> Result<String, CaError>;
}
