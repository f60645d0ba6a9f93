// SPDX-License-Identifier: Apache-2.0
//! What a refusal says of the account in whose name was asked.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::order::CaError;

/// The account of a run, as it is by now: a CA that refuses a request may mean the account, or the key that it was signed
/// with, and then it has said nothing of the order.
#[async_trait]
pub trait Standing: Send + Sync {
    /// Whether the account is not what the run began with, or is being changed in this moment: its key above all. Yes where
    /// that cannot be told.
    async fn is_moving(&self) -> bool;

    /// Whether the account may have taken another key since an order was made: what an earlier run answered its challenges with has
    /// the old one in it then (RFC 8555, 8.1).
    fn is_rekeyed(&self, made_at: Timestamp) -> bool;

    /// Whether the CA accepts the account.
    ///
    /// # Errors
    /// When the CA does not say.
    async fn is_accepted(&self) -> Result<bool, CaError>;
}

/// An account that nobody changes, and that its CA accepts.
#[derive(Debug, Clone, Copy)]
pub struct Steady;

#[async_trait]
impl Standing for Steady {
    async fn is_moving(&self) -> bool {
        false
    }

    fn is_rekeyed(&self, _made_at: Timestamp) -> bool {
        false
    }

    async fn is_accepted(&self) -> Result<bool, CaError> {
        Ok(true)
    }
}
