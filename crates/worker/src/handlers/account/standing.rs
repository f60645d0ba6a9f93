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
        is_rekeyed(self.issuer.rolled_at, made_at)
    }

    async fn is_accepted(&self) -> Result<bool, CaError> {
        match self.world.ca.find(self.request).await {
            Ok(url) => Ok(url == self.issuer.account_url),
            Err(CaError::Account(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn is_rekeyed(rolled_at: Option<Timestamp>, made_at: Timestamp) -> bool {
    rolled_at.is_some_and(|at| made_at < later(at, REKEYED_WITHIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_of_before_a_rollover_and_from_a_while_after_it_may_have_the_old_key_in_their_answers() {
        let rolled_at = Timestamp::from_second(1_790_000_000).unwrap();
        let after = |seconds| later(rolled_at, Duration::from_secs(seconds));
        let before = rolled_at - Duration::from_secs(7 * 86_400);
        for (made_at, expected) in
            [(before, true), (rolled_at, true), (after(599), true), (after(600), false)]
        {
            assert_eq!(is_rekeyed(Some(rolled_at), made_at), expected, "{made_at}");
        }
        assert!(!is_rekeyed(None, before), "the key is its first");
    }
}
