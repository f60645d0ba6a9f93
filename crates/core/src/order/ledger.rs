// SPDX-License-Identifier: Apache-2.0
//! The port to where orders are written down: one atomic fact a call, each under the fence of its claim.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::audit::Row;
use crate::certificate::Issued;
use crate::challenge::ChallengeAnswer;
use crate::envelope::Sealed;
use crate::id::{IssuerId, VersionId};
use crate::job::Claim;
use crate::order::{Order, OrderState};
use crate::problem::Problem;

/// Why a fact was not written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// The claim is over: a peer has the job. Nothing may be written any more.
    #[error("the claim was taken over by a peer, or the certificate moved on")]
    Fenced,
    /// The database did not answer; whether the fact was written is unknown. Writing it again is safe.
    #[error("the database did not answer: {0}")]
    Unavailable(String),
    /// A record cannot be read, or the database refuses it; somebody must look at it.
    #[error("a record cannot be used: {0}; the worker's log says more")]
    Corrupt(String),
}

/// A version to be stored.
#[derive(Debug, Clone)]
pub struct IssuedVersion {
    /// Its id.
    pub id: VersionId,
    /// Which of the certificate's versions it is, counted from 1; refused when that one exists.
    pub number: i64,
    /// Who issued it.
    pub issuer: IssuerId,
    /// The certificate as issued.
    pub issued: Issued,
    /// Its private key, sealed for its place in the version.
    pub key: Sealed,
    /// When it is due to be renewed.
    pub renew_at: Timestamp,
    /// When its renewal information is looked at first; never at a CA that offers none.
    pub renewal_info_at: Option<Timestamp>,
}

/// An attempt that ended without a certificate.
#[derive(Debug, Clone)]
pub struct FailedAttempt {
    /// Why.
    pub problem: Problem,
    /// When the next one starts.
    pub next_attempt_at: Timestamp,
    /// Whether it was for the key, so that the next one has a key of its own, whatever the certificate's settings say.
    pub needs_new_key: bool,
    /// Whether the CA issued something all the same, and so has counted it.
    pub is_issued: bool,
}

/// Where orders are written down. Every method may be called again with the same arguments when its outcome is unknown.
#[async_trait]
pub trait Ledger: Send + Sync {
    /// Moves an order to its next state, with the answers to its challenges.
    async fn advance(
        &self,
        order: &Order,
        next: OrderState,
        answers: &[ChallengeAnswer],
    ) -> Result<Order, LedgerError>;

    /// Whether an order may still be finalized whose key is that of the version before: not once that one is revoked for its key,
    /// or is to be replaced.
    async fn may_keep_key(&self, order: &Order) -> Result<bool, LedgerError>;

    /// Writes down that what the CA gave for an order was not taken: an audit entry alone.
    async fn note(&self, order: &Order, audit: &Row) -> Result<(), LedgerError>;

    /// Stores the certificate: version, certificate, order, job and audit entry together.
    async fn store(
        &self,
        claim: &Claim,
        order: &Order,
        version: &IssuedVersion,
        audit: &Row,
    ) -> Result<(), LedgerError>;

    /// Ends the attempt: order, certificate, job and audit entry together.
    async fn fail(
        &self,
        claim: &Claim,
        order: &Order,
        failed: &FailedAttempt,
        audit: &Row,
    ) -> Result<(), LedgerError>;

    /// Ends an attempt whose order was never placed, and the job, which needs a person: order, certificate, job and audit entry
    /// together.
    async fn bury(
        &self,
        claim: &Claim,
        order: &Order,
        problem: &Problem,
        audit: &Row,
    ) -> Result<(), LedgerError>;
}
