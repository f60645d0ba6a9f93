// SPDX-License-Identifier: Apache-2.0
//! Rolls an account's key (RFC 8555, 7.3.5). The next key was stored before; which of the two the CA knows it is asked before
//! it is told anything, so a rollover that was cut short at any moment goes on from where it was.

use std::sync::Arc;

use cap_core::audit::{Action, Draft, Origin};
use cap_core::envelope::Slot;
use cap_core::fault;
use cap_core::issuer::{ACCOUNT_CLOSED, Hold, KEY_IN_USE};
use cap_core::order::{CaError, CaRequest};
use cap_core::problem::{Class, Problem};
use cap_store::{Rolled, RolloverRecord};

use super::{Run, Step, Trouble};

/// Which of our accounts the CA knows by the next key.
enum Known {
    /// This one.
    Ours,
    /// Another one, or one of which it does not say where it is.
    Another,
    /// None.
    No,
}

impl Run<'_> {
    pub(super) async fn roll(&self) -> Step {
        let Some(rollover) = &self.issuer.rollover else { return Ok(None) };
        let with_next = self.with_next(rollover).await?;
        match self.known(&with_next).await {
            Ok(Known::Ours) => return self.record(rollover, Rolled::Over).await,
            Ok(Known::Another) => return self.record(rollover, Rolled::GivenUp(in_use())).await,
            Ok(Known::No) => {}
            Err(error) => return self.not_known(error).await,
        }
        let Some(url) = self.issuer.known_url() else {
            return self.record(rollover, Rolled::GivenUp(unregistered())).await;
        };
        let request = self.world.ca_request(&self.issuer).await?;
        fault::point("roll-key.before");
        let changed = self.world.ca.change_key(&request, url, &with_next.account_key).await;
        fault::point("roll-key.after");
        match changed {
            // There are CAs that say so and have not done it: the key that the account has is not given away for a word.
            Ok(()) => self.decided(rollover, &with_next, not_taken()).await,
            Err(
                CaError::Refused(problem)
                | CaError::Gone(problem)
                | CaError::NeedsPerson(problem)
                | CaError::Account(problem),
            ) => self.decided(rollover, &with_next, problem).await,
            // Meanwhile nobody knows which key the account has, and refusals of its orders count for nothing.
            Err(
                CaError::Transient(problem) | CaError::OutOfStep(problem) | CaError::Later { problem, .. },
            ) if super::was_faulty_for_long(self.claim) => {
                self.decided(rollover, &with_next, not_changed(&problem)).await
            }
            Err(error @ (CaError::Transient(_) | CaError::OutOfStep(_) | CaError::Later { .. })) => {
                self.failed(error).await
            }
        }
    }

    /// What the CA has made of it, which it is asked whatever it answered: a refusal may be of an old key that is none any more,
    /// since somebody else was heard before. `problem` is why it has the old key still, if it has.
    async fn decided(&self, rollover: &RolloverRecord, with_next: &CaRequest, problem: Problem) -> Step {
        match self.known(with_next).await {
            Ok(Known::Ours) => self.record(rollover, Rolled::Over).await,
            Ok(Known::Another) => self.record(rollover, Rolled::GivenUp(in_use())).await,
            Ok(Known::No) => self.record(rollover, Rolled::GivenUp(problem)).await,
            Err(error) => self.failed(error).await,
        }
    }

    /// Takes up a rollover that was given up, where the CA has taken the key after all: a request that was under way for long
    /// may arrive when nobody expects it any more. Nothing where there is none to take up.
    pub(super) async fn known_by_next_key(&self) -> Result<Option<Step>, Trouble> {
        let Some(rollover) = &self.issuer.rollover else { return Ok(None) };
        if rollover.problem.as_ref().is_some_and(|problem| problem.kind == KEY_IN_USE) {
            return Ok(None);
        }
        let with_next = self.with_next(rollover).await?;
        Ok(match self.known(&with_next).await {
            Ok(Known::Ours) => Some(self.record(rollover, Rolled::Over).await),
            Ok(Known::Another | Known::No) => None,
            Err(error) => Some(self.not_known(error).await),
        })
    }

    /// How the run ends where the CA does not say whether it knows the next key. That it has closed the account of it is all that is
    /// wanted of one that is to be deactivated.
    async fn not_known(&self, error: CaError) -> Step {
        match error {
            CaError::Account(problem)
                if problem.kind == ACCOUNT_CLOSED && self.issuer.why_held() == Some(Hold::Deactivating) =>
            {
                self.over().await
            }
            error => self.failed(error).await,
        }
    }

    async fn with_next(&self, rollover: &RolloverRecord) -> Result<CaRequest, Trouble> {
        let issuer = &self.issuer;
        let slot = Slot::account_key(issuer.project, issuer.id);
        let key = self.world.keyring.open(&slot, &rollover.key).await?;
        let request = self.world.ca_request(issuer).await?;
        Ok(CaRequest { account_key: Arc::new(key), ..request })
    }

    async fn known(&self, with_next: &CaRequest) -> Result<Known, CaError> {
        let ours = self.issuer.known_url();
        match self.world.ca.find(with_next).await {
            Ok(Some(url)) if ours.is_none_or(|ours| ours == url) => Ok(Known::Ours),
            Ok(Some(_)) => Ok(Known::Another),
            Ok(None) => Ok(Known::No),
            // What a CA says of a key that it does not know is no word on the account; that it has closed one is.
            Err(CaError::Account(problem)) if problem.kind != ACCOUNT_CLOSED => Ok(Known::No),
            // Nor is its refusal of the question, unless it is how it is asked that is at fault.
            Err(CaError::Refused(problem)) if problem.class != Class::Configuration => Ok(Known::No),
            Err(error) => Err(error),
        }
    }

    /// Writes down what became of it. The next step follows: the CA is told the contacts with the key that it knows.
    async fn record(&self, rollover: &RolloverRecord, rolled: Rolled) -> Step {
        let issuer = &self.issuer;
        let draft = match &rolled {
            Rolled::Over => Draft::new(Action::IssuerKeyRolled, Some(issuer.project), issuer.id)
                .sealed("account_key", &rollover.key),
            Rolled::GivenUp(problem) => {
                Draft::new(Action::IssuerKeyRollFailed, Some(issuer.project), issuer.id)
                    .failed()
                    .detail("problem", problem.kind.clone())
            }
        };
        let audit = self.world.auditor.row(&Origin::service("worker"), &draft).await?;
        let (store, key) = (&self.world.store, &rollover.key);
        let write = || store.record_rollover(self.claim, issuer.id, key, &rolled, &audit);
        fault::point("record-rolled.before");
        self.persisted(write).await?;
        fault::point("record-rolled.after");
        match &rolled {
            Rolled::Over => tracing::info!(issuer = %issuer.id, "the account has its next key"),
            Rolled::GivenUp(problem) => {
                tracing::warn!(issuer = %issuer.id, %problem, "the account keeps its key");
            }
        }
        Ok(None)
    }
}

fn in_use() -> Problem {
    let detail = "another account at the CA has this key, so this one keeps the key that it has; ask for a rollover again, and \
                  another key is made";
    Problem::new(Class::Protocol, KEY_IN_USE, detail)
}

fn not_taken() -> Problem {
    let detail = "the CA says that it changed the account's key, and does not know the account by it; the account keeps the key \
                  that it has";
    Problem::new(Class::Protocol, "account-key-not-taken", detail)
}

fn not_changed(last: &Problem) -> Problem {
    let detail = format!(
        "for more than an hour the CA did not change the account's key (its last answer: {}), so the account keeps the key that it \
         has; ask again when the CA is well",
        last.kind
    );
    Problem::new(Class::Protocol, "account-key-not-changed", detail)
}

fn unregistered() -> Problem {
    let detail =
        "the account is not registered, so it has no key to roll; ask again when the issuer is ready";
    Problem::new(Class::Configuration, "account-unregistered", detail)
}
