// SPDX-License-Identifier: Apache-2.0
//! How runs end: a passing fault is waited out, a refusal ends the attempt, and while the CA may still issue only its
//! own word on the order does.

use std::time::Duration;

use jiff::Timestamp;

use crate::audit::{Action, Draft};
use crate::clock::{later, until};
use crate::envelope::{KekError, KeyringError};
use crate::fault::{self, Mutant};
use crate::job::{Cause, Setbacks, Settlement, Sort, count_of};
use crate::limits;
use crate::order::retry::needs_new_key;
use crate::order::{
    CaError, FailedAttempt, LedgerError, Order, OrderState, Park, asked_wait_max, attempt_delay, deferred,
    limit_wait_max, may_issue, overdue_at, poll_delay, postponed,
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
                let (class, kind) = match &error {
                    LedgerError::Corrupt(_) => (Class::Protocol, "record-unreadable"),
                    LedgerError::Fenced | LedgerError::Unavailable(_) => {
                        (Class::Transient, "database-unavailable")
                    }
                };
                let problem = Problem::new(class, kind, error.to_string());
                Outcome::Settle(self.postponed(progressed, Cause::Other, problem))
            }
            Halt::Keyring(error) => {
                tracing::warn!(order = %order.id, %error, "a key could not be opened or sealed");
                let problem = Problem::new(Class::Transient, "kek-unavailable", shown(&error));
                Outcome::Settle(self.postponed(progressed, Cause::Other, problem))
            }
            Halt::Ca(error) | Halt::Asked(error) if self.is_of_a_moving_account(&error).await => {
                let problem = Problem::new(Class::Transient, "account-changing", error.to_string());
                Outcome::Settle(self.postponed(progressed, Cause::Other, problem))
            }
            Halt::Asked(CaError::Refused(problem)) if self.ends_by_the_ca_alone(order) => {
                Outcome::Settle(self.postponed(progressed, Cause::Ca, problem))
            }
            // A replica that lags does not know it yet: that counts when it is said again.
            Halt::Asked(CaError::Gone(problem))
                if self.ends_by_the_ca_alone(order)
                    && count_of(self.setbacks(progressed), Sort::Gone) == 0 =>
            {
                let again = self.postponed(progressed, Cause::Ca, problem);
                Outcome::Settle(again).of(Sort::Gone, self.setbacks(progressed))
            }
            Halt::Ca(error) | Halt::Asked(error) => self.end_by_ca(error, order, progressed).await,
        }
    }

    /// What becomes of a run that came to no end: another begins anew, later.
    pub(super) fn in_circles(&self, order: &Order) -> Outcome {
        tracing::error!(order = %order.id, steps = limits::RUN_STEPS, "a run of an order came to no end; this is a bug");
        let detail =
            "a worker went in circles with the order, and begins anew with it; its log names the order";
        let problem = Problem::new(Class::Protocol, "order-in-circles", detail);
        Outcome::Settle(self.postponed(false, Cause::Other, problem))
    }

    async fn end_by_ca(&self, error: CaError, order: &Order, progressed: bool) -> Outcome {
        match error {
            CaError::Transient(problem) | CaError::OutOfStep(problem) => {
                let settlement = self.postponed(progressed, Cause::Ca, problem.clone());
                self.setback(order, settlement, problem, None).await
            }
            CaError::Later { problem, at } => {
                let (before, now) = (self.setbacks(progressed), self.clock.now());
                if problem.class == Class::RateLimited {
                    return self.limited(order, progressed, problem, until(now, at));
                }
                let at = self.in_time(at, now);
                let settlement = deferred(before, problem.clone(), at, now, self.entropy);
                self.setback(order, settlement, problem, Some(at)).await
            }
            CaError::NeedsPerson(problem) if self.ends_by_the_ca_alone(order) => {
                Outcome::Settle(self.postponed(progressed, Cause::Ca, problem))
            }
            // The CA has no such order, so there is nothing for anybody to go on with; and its lock would keep others waiting.
            CaError::NeedsPerson(problem) if matches!(order.state, OrderState::Keyed { .. }) => {
                let again = self.postponed(progressed, Cause::Other, problem.clone());
                ended(self.bury(order, problem).await, again)
            }
            // The order stays, for whoever goes on when the person has done it.
            CaError::NeedsPerson(problem) => Outcome::Settle(Settlement::Dead(problem)),
            CaError::Refused(problem) | CaError::Gone(problem) => {
                let again = self.postponed(progressed, Cause::Other, problem.clone());
                ended(self.fail(order, problem).await, again)
            }
            CaError::Account(problem) => self.end_by_account(order, progressed, problem).await,
        }
    }

    /// A rate limit of the CA's, which is kept whoever asks for what: where it is on orders, by whoever would place another one.
    /// The order itself waits for no more at once than a part of the life that is left of the version in use: some CAs ask for
    /// longer than a certificate lives.
    fn limited(&self, order: &Order, progressed: bool, problem: Problem, asked: Duration) -> Outcome {
        let (before, now) = (self.setbacks(progressed), self.clock.now());
        let own = asked.min(limit_wait_max(self.expires, now));
        let settlement = deferred(before, problem.clone(), later(now, own), now, self.entropy);
        match asked.is_zero() {
            true => Outcome::Settle(settlement),
            false => Outcome::Parked(settlement, Box::new(Park::new(order, problem, asked, own))),
        }
    }

    /// The time that a CA asks for, but no later than after a part of the life that is left.
    fn in_time(&self, at: Timestamp, now: Timestamp) -> Timestamp {
        at.min(later(now, limit_wait_max(self.expires, now)))
    }

    /// Whether a refusal may be of an account that somebody changes in this moment, and not of what was asked.
    pub(super) async fn is_of_a_moving_account(&self, error: &CaError) -> bool {
        match error {
            CaError::Refused(_) | CaError::Gone(_) | CaError::Account(_) => self.standing.is_moving().await,
            CaError::Transient(_)
            | CaError::Later { .. }
            | CaError::OutOfStep(_)
            | CaError::NeedsPerson(_) => false,
        }
    }

    /// CAs say of an account that it may not, and mean at times that it may not have this name: the account is asked for
    /// before every order of it is held up.
    async fn end_by_account(&self, order: &Order, progressed: bool, problem: Problem) -> Outcome {
        let standing = self.standing.is_accepted().await;
        let problem = match standing {
            Ok(true) => Problem { class: Class::Validation, ..problem.advised(ACCEPTED_ALL_THE_SAME) },
            Ok(false) | Err(_) => problem,
        };
        match standing {
            Ok(false) => Outcome::Halted(problem.advised("the CA does not accept this account")),
            Ok(true) if self.ends_by_the_ca_alone(order) => {
                Outcome::Settle(self.postponed(progressed, Cause::Ca, problem))
            }
            Ok(true) => {
                let again = self.postponed(progressed, Cause::Other, problem.clone());
                ended(self.fail(order, problem).await, again)
            }
            Err(CaError::Later { at, .. }) => {
                let (before, now) = (self.setbacks(progressed), self.clock.now());
                let at = self.in_time(problem.retry_at.map_or(at, |said| said.max(at)), now);
                Outcome::Settle(deferred(before, problem, at, now, self.entropy))
            }
            Err(_) => Outcome::Settle(self.postponed(progressed, Cause::Ca, problem)),
        }
    }

    /// Whether nothing but the CA's own word ends the order, since it may have been finalized.
    fn ends_by_the_ca_alone(&self, order: &Order) -> bool {
        may_issue(&order.state, self.clock.surely()) && !fault::is(Mutant::NoWatch)
    }

    /// A passing fault of the CA: the same step again, later; after an hour of them, or when the order has expired, the attempt counts
    /// as failed, unless the CA may still issue. The next one is not `before` the time that the CA asked for.
    async fn setback(
        &self,
        order: &Order,
        settlement: Settlement,
        problem: Problem,
        before: Option<Timestamp>,
    ) -> Outcome {
        let expires = order.state.placed().and_then(|placed| placed.expires);
        let is_over = expires.is_some_and(|expires| expires <= self.clock.surely())
            || lasting(&settlement, Setbacks::faulty) > limits::TRANSIENT_SPAN_MAX;
        if !is_over || self.ends_by_the_ca_alone(order) {
            return Outcome::Settle(settlement);
        }
        let failure = Failure { not_before: before, ..Failure::of(problem) };
        ended(self.failed(order, failure, |draft| draft).await, settlement)
    }

    /// Whether a CA that said each time that the act would do was at fault too often, for an order that is overdue.
    pub(super) fn is_stuck(&self, order: &Order, progressed: bool) -> bool {
        let OrderState::Ready { since, .. } = &order.state else { return false };
        let faults = count_of(self.setbacks(progressed), Sort::Stuck);
        faults >= limits::STUCK_FAULTS && overdue_at(*since, self.expires) <= self.clock.surely()
    }

    /// Ends an order that the CA says can be finalized, and that cannot.
    pub(super) async fn stuck_with(&self, order: &Order) -> Result<Outcome, Halt> {
        let detail = format!(
            "the CA says that the order can be finalized, and {} times it did not finalize it; another one is placed",
            limits::STUCK_FAULTS
        );
        self.fail(order, Problem::new(Class::Protocol, "order-stuck", detail)).await
    }

    /// Whether an act is kept from being done by what will not end by itself, or by anybody's doing. What a CA says of an account that it
    /// accepts is said of the order.
    pub(super) async fn is_in_the_way(&self, error: &CaError) -> bool {
        match error {
            CaError::Account(_) => {
                !self.standing.is_moving().await && self.standing.is_accepted().await == Ok(true)
            }
            error => in_the_way(error).is_some(),
        }
    }

    /// The CA says that it has issued, and does not hand the certificate out: it is fetched again, and another one is bought when that
    /// does not end.
    pub(super) async fn not_handed_out(
        &self,
        order: &Order,
        progressed: bool,
        is_in_the_way: bool,
        error: CaError,
    ) -> Result<Outcome, Halt> {
        match in_the_way(&error) {
            Some(problem) if is_in_the_way && self.is_stuck(order, progressed) => {
                let failure = Failure { is_issued: true, ..Failure::of(problem.clone()) };
                self.failed(order, failure, |draft| draft).await
            }
            _ => Err(Halt::Asked(error)),
        }
    }

    /// The CA has issued, and what it answers is not the certificate that was asked for: its mix-up may pass, so it is
    /// fetched again. Another certificate is bought when an hour of that changed nothing; the CA has counted this one.
    pub(super) async fn wrong_certificate(
        &self,
        order: &Order,
        progressed: bool,
        problem: Problem,
        more: impl FnOnce(Draft) -> Draft,
    ) -> Result<Outcome, Halt> {
        let before = self.setbacks(progressed);
        let settlement = self.postponed(progressed, Cause::Ca, problem.clone());
        if lasting(&settlement, Setbacks::mixed_up) > limits::TRANSIENT_SPAN_MAX {
            return self.failed(order, Failure { is_issued: true, ..Failure::of(problem) }, more).await;
        }
        if count_of(before, Sort::MixUp) < limits::MIX_UPS_NOTED {
            let draft = Draft::new(Action::CertificateRefused, Some(order.project), order.certificate);
            let draft = draft.failed().names(&order.names).detail("problem", problem.kind);
            let audit = self.audit(&more(draft)).await?;
            while self.persisted(self.ledger.note(order, &audit).await).await.transpose()?.is_none() {}
        }
        Ok(Outcome::Settle(settlement).of(Sort::MixUp, before))
    }

    /// How long a younger order is kept from being finalized by a CA that does not say what became of one that was set aside; not
    /// after many faults of that, nor for one that will not say soon. It is no fault of the younger one's.
    pub(super) fn awaiting_elder(&self, error: CaError, progressed: bool) -> Option<Outcome> {
        let (asked, problem) = match error {
            // A refusal to be asked may be a gateway's, or of an account that is being changed.
            CaError::Transient(problem)
            | CaError::OutOfStep(problem)
            | CaError::Refused(problem)
            | CaError::Account(problem) => (problem.retry_at, problem),
            CaError::Later { problem, at } => (Some(at), problem),
            CaError::NeedsPerson(_) | CaError::Gone(_) => return None,
        };
        let asked = asked.map_or(Duration::ZERO, |at| until(self.clock.now(), at));
        let before = self.setbacks(progressed);
        if count_of(before, Sort::Elder) >= limits::ELDER_FAULTS || asked > limits::ELDER_WAIT {
            return None;
        }
        let mut again = self.postponed(progressed, Cause::Other, problem);
        if let Settlement::Again { after, .. } = &mut again {
            *after = asked.max(*after);
        }
        Some(Outcome::Settle(again).of(Sort::Elder, before))
    }

    /// The same step again, later, however often: nothing failed but what we lean on.
    fn postponed(&self, progressed: bool, cause: Cause, problem: Problem) -> Settlement {
        let (before, now) = (self.setbacks(progressed), self.clock.now());
        match problem.retry_at {
            Some(at) if cause == Cause::Ca => {
                deferred(before, problem, self.in_time(at, now), now, self.entropy)
            }
            _ => postponed(before, cause, problem, now, self.entropy),
        }
    }

    /// The CA is busy with the order: it is asked again when it wants to be, and less and less often.
    pub(super) fn waiting(&self, order: &Order, progressed: bool, asked: Duration) -> Settlement {
        let (before, now) = (self.setbacks(progressed), self.clock.now());
        let order_ends = order.state.placed().and_then(|placed| placed.expires);
        let waits = before.map_or(0, |before| before.waits);
        let own = poll_delay(waits, [order_ends, self.expires], now, self.entropy);
        let after =
            own.max(asked.min(asked_wait_max(until(order.id.made_at(), now), order_ends, self.expires, now)));
        let problem = Problem::waiting(later(now, after));
        Settlement::Again { after, problem: Some(problem), setbacks: Some(Setbacks::waited(before, now)) }
    }

    /// The passing faults in a row before this run, none when it made progress.
    pub(super) fn setbacks(&self, progressed: bool) -> Option<Setbacks> {
        self.claim.setbacks.filter(|_| !progressed)
    }

    /// Ends an order that was to keep a key which no other version may have now, and that the CA cannot have issued for:
    /// another one follows at once, with a new key.
    pub async fn refuse_key(&self, order: &Order) -> Outcome {
        let again = self.postponed(false, Cause::Other, key_not_kept());
        ended(self.give_key_up(order).await, again)
    }

    pub(super) async fn give_key_up(&self, order: &Order) -> Result<Outcome, Halt> {
        let failure = Failure { is_at_once: true, ..Failure::of(key_not_kept()) };
        self.failed(order, failure, |draft| draft).await
    }

    /// Writes down that the attempt failed, and when the next one starts.
    pub(super) async fn fail(&self, order: &Order, problem: Problem) -> Result<Outcome, Halt> {
        self.failed(order, Failure::of(problem), |draft| draft).await
    }

    /// The same, with `more` in its audit entry.
    async fn failed(
        &self,
        order: &Order,
        failure: Failure,
        more: impl FnOnce(Draft) -> Draft,
    ) -> Result<Outcome, Halt> {
        let Failure { problem, not_before, is_issued, is_at_once } = failure;
        let now = self.clock.now();
        let delay = match is_at_once || self.claim.is_last {
            // Nothing is begun any more, so nothing is waited for.
            true => Duration::ZERO,
            false => {
                let own =
                    attempt_delay(self.claim.failures.saturating_add(1), self.expires, now, self.entropy);
                let asked = not_before.max(problem.retry_at).map(|at| until(now, self.in_time(at, now)));
                own.max(asked.unwrap_or_default().min(limits::RETRY_AFTER_MAX))
            }
        };
        let next_attempt_at = later(now, delay);
        let draft = drafted(order, &problem).detail("next_attempt_at", next_attempt_at.to_string());
        let audit = self.audit(&more(draft)).await?;
        let needs_new_key = needs_new_key(&problem);
        let failed = FailedAttempt { problem, next_attempt_at, needs_new_key, is_issued };
        fault::point("record-failed.before");
        loop {
            let written = self.ledger.fail(self.claim, order, &failed, &audit).await;
            if let Some(result) = self.persisted(written).await {
                fault::point("record-failed.after");
                return Ok(result.map(|()| Outcome::Failed(failed.problem))?);
            }
        }
    }

    /// Writes down that the attempt is over and needs a person.
    async fn bury(&self, order: &Order, problem: Problem) -> Result<Outcome, Halt> {
        let audit = self.audit(&drafted(order, &problem)).await?;
        loop {
            let written = self.ledger.bury(self.claim, order, &problem, &audit).await;
            if let Some(result) = self.persisted(written).await {
                return Ok(result.map(|()| Outcome::Buried(problem))?);
            }
        }
    }
}

/// What keeps an act from being done that will not end by itself, or by anybody's doing, as far as the error says.
fn in_the_way(error: &CaError) -> Option<&Problem> {
    match error {
        CaError::Refused(problem)
        | CaError::Account(problem)
        | CaError::Transient(problem)
        | CaError::OutOfStep(problem) => Some(problem),
        CaError::Later { problem, .. } => Some(problem).filter(|problem| problem.class == Class::Transient),
        CaError::NeedsPerson(_) | CaError::Gone(_) => None,
    }
}

/// What is to be done about a refusal by a CA that accepts the account, as it says when it is asked.
const ACCEPTED_ALL_THE_SAME: &str = "the CA accepts the account, but not for this: ask it why";

/// Why an attempt ends.
struct Failure {
    problem: Problem,
    /// Before when the CA does not want to be asked again.
    not_before: Option<Timestamp>,
    /// Whether the CA issued something all the same, and so has counted it.
    is_issued: bool,
    /// Whether nothing has to pass before the next one.
    is_at_once: bool,
}

impl Failure {
    fn of(problem: Problem) -> Self {
        Self { problem, not_before: None, is_issued: false, is_at_once: false }
    }
}

fn key_not_kept() -> Problem {
    let detail = "the key that the order was to keep was revoked or refused meanwhile; another order is placed with a new one";
    Problem::new(Class::Protocol, "key-not-kept", detail)
}

/// For how long something has been so by `measure` when a job runs again.
fn lasting(settlement: &Settlement, measure: impl Fn(&Setbacks) -> Duration) -> Duration {
    match settlement {
        Settlement::Again { setbacks: Some(setbacks), .. } => measure(setbacks),
        Settlement::Again { setbacks: None, .. }
        | Settlement::Succeeded
        | Settlement::Dead(_)
        | Settlement::Superseded
        | Settlement::HandedBack => Duration::ZERO,
    }
}

/// How a run ends whose attempt was to be ended; where that could not be written down, the job runs again.
fn ended(end: Result<Outcome, Halt>, again: Settlement) -> Outcome {
    match end {
        Ok(outcome) | Err(Halt::Done(outcome)) => outcome,
        Err(Halt::Ledger(LedgerError::Fenced)) => Outcome::Lost,
        Err(Halt::Ca(_) | Halt::Asked(_) | Halt::Ledger(_) | Halt::Keyring(_)) => Outcome::Settle(again),
    }
}

fn drafted(order: &Order, problem: &Problem) -> Draft {
    Draft::new(Action::CertificateAttemptFailed, Some(order.project), order.certificate)
        .failed()
        .names(&order.names)
        .detail("problem", problem.kind.clone())
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
