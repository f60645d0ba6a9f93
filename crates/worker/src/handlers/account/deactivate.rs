// SPDX-License-Identifier: Apache-2.0
//! Deactivates an account (RFC 8555, 7.3.6). A CA that does not accept the account any more has heard an earlier run.

use cap_core::audit::{Action, Draft, Origin};
use cap_core::order::{CaError, Outcome};
use cap_core::problem::{Class, Problem};

use super::{Run, Step};

impl Run<'_> {
    pub(super) async fn deactivate(&self) -> Step {
        if let Some(known) = self.known_by_next_key().await? {
            return known;
        }
        let request = self.world.ca_request(&self.issuer).await?;
        let url = match self.issuer.known_url() {
            Some(url) => url.to_owned(),
            // Its registration may have been heard although nobody knows the answer.
            None => match self.world.ca.find(&request).await {
                Ok(Some(url)) => url,
                Ok(None) | Err(CaError::Account(_)) => return self.over().await,
                Err(error) => return self.failed(error).await,
            },
        };
        match self.world.ca.deactivate(&request, &url).await {
            Ok(()) => self.over().await,
            // A CA says that of accounts which are deactivated already, and at times of others.
            Err(CaError::Account(problem)) => match self.world.ca.find(&request).await {
                Ok(Some(_)) => self.failed(CaError::Refused(problem)).await,
                Ok(None) | Err(CaError::Account(_)) => self.over().await,
                Err(error) => self.failed(error).await,
            },
            Err(error) => self.failed(error).await,
        }
    }

    pub(super) async fn over(&self) -> Step {
        let issuer = &self.issuer;
        let mut draft = Draft::new(Action::IssuerDeactivated, Some(issuer.project), issuer.id);
        if let Some(url) = issuer.known_url() {
            draft = draft.detail("account_url", url);
        }
        let audit = self.world.auditor.row(&Origin::service("worker"), &draft).await?;
        let (store, problem) = (&self.world.store, deactivated());
        let write = || store.record_deactivation(self.claim, issuer.id, &problem, &audit);
        self.persisted(write).await?;
        Ok(Some(Outcome::Stored))
    }
}

fn deactivated() -> Problem {
    let detail = "the issuer's account is deactivated at the CA for ever, so it issues no more; make another issuer, and \
                  request the certificates from that one";
    Problem::new(Class::Configuration, "issuer-deactivated", detail)
}
