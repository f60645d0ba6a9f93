// SPDX-License-Identifier: Apache-2.0
//! What a refusal in the course of an issuance says of the account.

use std::time::Duration;

use async_trait::async_trait;
use cap_core::clock::later;
use cap_core::order::{CaError, CaRequest, Standing};
use cap_store::IssuerRecord;
use jiff::Timestamp;

use super::super::World;

/// How long after a rollover an order may be made by a run that began before it.
const REKEYED_WITHIN: Duration = Duration::from_secs(10 * 60);

/// The account of an issuance, as its run read it.
pub(in crate::handlers) struct IssuerStanding<'a> {
    pub(in crate::handlers) world: &'a World,
    pub(in crate::handlers) issuer: &'a IssuerRecord,
    pub(in crate::handlers) request: &'a CaRequest,
}

#[async_trait]
impl Standing for IssuerStanding<'_> {
    /// Somebody has it take another key, or it was registered anew, put on hold, or deleted, since the run began.
    async fn is_moving(&self) -> bool {
        let issuer = self.issuer;
        match self.world.store.issuer(issuer.project, &issuer.id.to_string()).await {
            Ok(Some(now)) => {
                let is_same = now.account_key == issuer.account_key && now.account_url == issuer.account_url;
                !is_same || now.is_rolling()
            }
            // A run that finds it gone says so itself; one that cannot look asks again.
            Ok(None) | Err(_) => true,
        }
    }

    fn is_rekeyed(&self, made_at: Timestamp) -> bool {
        self.issuer.rolled_at.is_some_and(|at| made_at < later(at, REKEYED_WITHIN))
    }

    async fn is_accepted(&self) -> Result<bool, CaError> {
        match self.world.ca.find(self.request).await {
            Ok(url) => Ok(url == self.issuer.account_url),
            Err(CaError::Account(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
