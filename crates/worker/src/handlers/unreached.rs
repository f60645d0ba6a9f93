// SPDX-License-Identifier: Apache-2.0
//! The account at a CA that could not be reached.

use async_trait::async_trait;
use cap_core::certificate::{Profile, RevocationReason};
use cap_core::name::Identifier;
use cap_core::order::{CaAccount, CaError, Found, Placed};
use cap_core::renewal_info::{AriId, RenewalInfo};

/// Fails in each act as reaching the CA did.
pub(super) struct Account(CaError);

impl Account {
    /// What a CA's directory refuses says nothing of an order: to one in flight it is a fault that may pass.
    pub(super) fn new(error: CaError) -> Self {
        Self(match error {
            CaError::Refused(problem)
            | CaError::Gone(problem)
            | CaError::Account(problem)
            | CaError::NeedsPerson(problem) => CaError::Transient(problem),
            error @ (CaError::Transient(_) | CaError::OutOfStep(_) | CaError::Later { .. }) => error,
        })
    }
}

#[async_trait]
impl CaAccount for Account {
    async fn place(
        &self,
        _names: &[Identifier],
        _profile: Option<&Profile>,
        _replaces: Option<&AriId>,
    ) -> Result<(Placed, Option<Found>), CaError> {
        Err(self.0.clone())
    }

    async fn resume(&self, _url: &str) -> Result<Found, CaError> {
        Err(self.0.clone())
    }

    fn offers_renewal_info(&self) -> bool {
        false
    }

    async fn renewal_info(&self, _certificate: &AriId) -> Result<RenewalInfo, CaError> {
        Err(self.0.clone())
    }

    async fn revoke(&self, _certificate: &[u8], _reason: RevocationReason) -> Result<(), CaError> {
        Err(self.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cap_core::problem::{Class, Problem};

    #[tokio::test]
    async fn a_directory_that_refuses_ends_no_order() {
        let problem = Problem::new(Class::Configuration, "ca-error", "no directory there");
        for error in [
            CaError::Refused(problem.clone()),
            CaError::Gone(problem.clone()),
            CaError::Account(problem.clone()),
            CaError::NeedsPerson(problem.clone()),
        ] {
            let account = Account::new(error);
            let found = account.resume("https://ca.example.test/order/1").await;
            assert_eq!(found.err(), Some(CaError::Transient(problem.clone())));
        }
        let later = CaError::Later { problem, at: jiff::Timestamp::UNIX_EPOCH };
        let placed = Account::new(later.clone()).place(&[], None, None).await;
        assert_eq!(placed.err(), Some(later));
    }
}
