// SPDX-License-Identifier: Apache-2.0
//! Asks the CA whether it accepts an account again that it has refused. Its orders go on then, whatever the CA says of the contacts, which
//! may have changed meanwhile: it is told them next.

use cap_core::audit::{Action, Draft, Origin};
use cap_core::order::CaError;
use cap_core::problem::{Class, Problem};

use super::{Run, Step};

impl Run<'_> {
    pub(super) async fn find(&self) -> Step {
        if let Some(known) = self.known_by_next_key().await? {
            return known;
        }
        let request = self.world.ca_request(&self.issuer).await?;
        match self.world.ca.find(&request).await {
            Ok(Some(url)) => self.accepted_again(&url).await,
            Ok(None) => self.failed_of(CaError::Account(unknown()), Some(Ok(None))).await,
            Err(error @ CaError::Account(_)) => self.failed_of(error, Some(Ok(None))).await,
            Err(error) => self.failed(error).await,
        }
    }

    async fn accepted_again(&self, url: &str) -> Step {
        let (store, issuer) = (&self.world.store, &self.issuer);
        let draft =
            Draft::new(Action::IssuerReady, Some(issuer.project), issuer.id).detail("account_url", url);
        let audit = self.world.auditor.row(&Origin::service("worker"), &draft).await?;
        self.persisted(|| store.lift_hold(self.claim, issuer.id, url, &audit)).await?;
        tracing::info!(issuer = %issuer.id, "the CA accepts the account again");
        Ok(None)
    }
}

fn unknown() -> Problem {
    let kind = "urn:ietf:params:acme:error:accountDoesNotExist";
    Problem::new(Class::Configuration, kind, "the CA does not know this account any more")
}
