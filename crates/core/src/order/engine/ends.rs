// SPDX-License-Identifier: Apache-2.0
//! How runs end: a passing fault is waited out, a refusal ends the attempt, and while the CA may still issue only its
//! own word on the order does.

use crate::audit::{Action, Draft};
use crate::clock::{later, until};
use crate::envelope::{KekError, KeyringError};
use crate::fault::{self, Mutant};
use crate::job::{Setbacks, Settlement};
use crate::limits;
use crate::order::{
    CaError, FailedAttempt, LedgerError, Order, OrderState, attempt_delay, deferred, may_issue,
    transient_delay,
};
use crate::problem::{Class, Problem};

use super::{Engine, Halt, Outcome};

impl Engine<'_> {
    /// What becomes of a run that a step ended.
    pub(super) async fn end(&self, halt: Halt, order: &Order, progressed: bool) -> Outcome {
        match halt {
            Halt::Done(outcome) => outcome,
            Halt::Ledger(LedgerError::Fenced) => Outcome::Lost,
            Halt::Ledger(error) => {
                let problem = Problem::new(Class::Transient, "database-unavailable", error.to_string());
                Outcome::Settle(self.postponed(progressed, problem))
            }
            Halt::Keyring(error) => {
                tracing::warn!(order = %order.id, %error, "a key could not be opened or sealed");
                let problem = Problem::new(Class::Transient, "kek-unavailable", shown(&error));
                Outcome::Settle(self.postponed(progressed, problem))
            }
            Halt::Asked(CaError::Refused(problem)) if self.is_watched(order) => {
                Outcome::Settle(self.postponed(progressed, problem))
            }
            Halt::Ca(error) | Halt::Asked(error) => self.end_by_ca(error, order, progressed).await,
        }
    }

    async fn end_by_ca(&self, error: CaError, order: &Order, progressed: bool) -> Outcome {
        match error {
            CaError::Transient(problem) | CaError::OutOfStep(problem) => {
                self.setback(order, progressed, problem).await
            }
            CaError::Later { problem, at } => {
                let before = self.setbacks(progressed);
                Outcome::Settle(deferred(before, problem, at, self.clock.now(), self.entropy))
            }
            // The order stays, for whoever goes on when the person has done it.
            CaError::NeedsPerson(problem) if self.is_watched(order) => {
                Outcome::Settle(self.postponed(progressed, problem))
            }
            CaError::NeedsPerson(problem) => Outcome::Settle(Settlement::Dead(problem)),
            CaError::Refused(problem) | CaError::Gone(problem) => {
                self.give_up(order, progressed, problem).await
            }
        }
    }

    /// Whether nothing but the CA's own word ends the order, since it may have been finalized.
    fn is_watched(&self, order: &Order) -> bool {
        may_issue(&order.state, self.clock.surely()) && !fault::is(Mutant::NoWatch)
    }

    /// A passing fault of the CA: the same step again, later; after an hour of them the attempt counts as failed,
    /// unless the CA may still issue.
    async fn setback(&self, order: &Order, progressed: bool, problem: Problem) -> Outcome {
        let since = self.setbacks(progressed).map_or_else(|| self.clock.now(), |earlier| earlier.since);
        let may_still_issue = matches!(order.state, OrderState::Ready { .. }) && !fault::is(Mutant::NoWatch);
        if until(since, self.clock.now()) > limits::TRANSIENT_SPAN_MAX && !may_still_issue {
            return self.give_up(order, progressed, problem).await;
        }
        Outcome::Settle(self.postponed(progressed, problem))
    }

    /// The same step again, later, however often: nothing failed but what we lean on.
    fn postponed(&self, progressed: bool, problem: Problem) -> Settlement {
        let before = self.setbacks(progressed);
        let count = before.map_or(0, |earlier| earlier.count).saturating_add(1);
        let since = before.map_or_else(|| self.clock.now(), |earlier| earlier.since);
        let after = transient_delay(count, self.entropy);
        Settlement::Again { after, problem: Some(problem), setbacks: Some(Setbacks { count, since }) }
    }

    /// The passing faults in a row before this run, none when it made progress.
    fn setbacks(&self, progressed: bool) -> Option<Setbacks> {
        self.claim.setbacks.filter(|_| !progressed)
    }

    async fn give_up(&self, order: &Order, progressed: bool, problem: Problem) -> Outcome {
        match self.fail(order, problem.clone()).await {
            Ok(outcome) | Err(Halt::Done(outcome)) => outcome,
            Err(Halt::Ledger(LedgerError::Fenced)) => Outcome::Lost,
            Err(Halt::Ca(_) | Halt::Asked(_) | Halt::Ledger(_) | Halt::Keyring(_)) => {
                Outcome::Settle(self.postponed(progressed, problem))
            }
        }
    }

    /// Writes down that the attempt failed, and when the next one starts.
    pub(super) async fn fail(&self, order: &Order, problem: Problem) -> Result<Outcome, Halt> {
        let now = self.clock.now();
        let delay = attempt_delay(self.claim.failures.saturating_add(1), self.expires, now, self.entropy);
        let next_attempt_at = later(now, delay);
        let draft = Draft::new(Action::CertificateAttemptFailed, Some(order.project), order.certificate)
            .failed()
            .names(&order.names)
            .detail("problem", problem.kind.clone())
            .detail("next_attempt_at", next_attempt_at.to_string());
        let audit = self.audit(&draft).await?;
        let failed = FailedAttempt { problem, next_attempt_at };
        loop {
            let written = self.ledger.fail(self.claim, order, &failed, &audit).await;
            if let Some(result) = self.persisted(written).await {
                return Ok(result.map(|()| Outcome::Failed(failed.problem))?);
            }
        }
    }
}

/// What whoever looks at the certificate is told: what a provider or a database says may name hosts and files.
fn shown(error: &KeyringError) -> String {
    match error {
        KeyringError::Kek(KekError::Unavailable(_)) => {
            "the KEK provider cannot be used now; the worker's log and its /readyz say why".into()
        }
        KeyringError::Store(_) => "the keys could not be read: the database did not answer".into(),
        KeyringError::Kek(KekError::UnknownVersion(_) | KekError::Wrong(_))
        | KeyringError::Missing { .. }
        | KeyringError::CannotOpen(_) => error.to_string(),
    }
}
