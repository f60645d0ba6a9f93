// SPDX-License-Identifier: Apache-2.0
//! The engine: takes the steps of one order, one remote act at a time, and writes down one fact after each.

use std::time::Duration;

use secrecy::ExposeSecret;

use crate::audit::{Action, Auditor, CannotAudit, Draft, Origin};
use crate::certificate::{Issued, renewal_time};
use crate::challenge::ChallengeAnswer;
use crate::clock::{Clock, later, until};
use crate::entropy::Entropy;
use crate::envelope::{KeyOwner, Keyring, KeyringError};
use crate::fault;
use crate::id::VersionId;
use crate::job::{Claim, Mandate, Setbacks, Settlement};
use crate::limits;
use crate::order::{
    Authorization, CaAccount, CaError, Duty, FailedAttempt, IssuedVersion, Knowledge, Ledger, LedgerError,
    Order, OrderState, Placed, RemoteOrder, Step, attempt_delay, next_step, transient_delay,
};
use crate::problem::{Class, Problem};

/// The failpoints around each fact that the engine writes between two remote acts.
const ORDERED: (&str, &str) = ("record-ordered.before", "record-ordered.after");
const CHALLENGED: (&str, &str) = ("record-challenged.before", "record-challenged.after");
const READY: (&str, &str) = ("record-ready.before", "record-ready.after");

/// Drives the order of one claim.
pub struct Engine<'a> {
    /// The account that buys.
    pub account: &'a dyn CaAccount,
    /// Where facts are written down.
    pub ledger: &'a dyn Ledger,
    /// Opens and seals the key.
    pub keyring: &'a Keyring,
    /// Makes the audit entries.
    pub auditor: &'a Auditor,
    /// Time.
    pub clock: &'a dyn Clock,
    /// Luck.
    pub entropy: &'a dyn Entropy,
    /// The claim that this work is done under.
    pub claim: &'a Claim,
    /// Whether it may go on.
    pub mandate: &'a Mandate,
    /// When the certificate's current version expires, if there is one.
    pub expires: Option<jiff::Timestamp>,
    /// Which of the certificate's versions the next one is, counted from 1.
    pub number: i64,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The last fact settled the job: what it was for is stored.
    Stored,
    /// The last fact settled the job: the attempt failed, and the next one has its time.
    Failed(Problem),
    /// The job is still ours and must be settled like this.
    Settle(Settlement),
    /// The job is not ours any more, or may not be: nothing is written.
    Lost,
}

/// What one run remembers from step to step.
#[derive(Default)]
struct Run {
    known: Knowledge,
    remote: Option<Box<dyn RemoteOrder>>,
    progressed: bool,
    looks: u32,
    waited: Duration,
}

/// Why a step ended the run.
enum Halt {
    Ca(CaError),
    Ledger(LedgerError),
    Keyring(KeyringError),
    Done(Outcome),
}

impl Engine<'_> {
    /// Takes steps until the order is over, the CA lets us wait, or the claim ends.
    pub async fn run(&self, mut order: Order) -> Outcome {
        let mut run = Run::default();
        loop {
            if !self.mandate.holds() {
                return Outcome::Lost;
            }
            if self.mandate.is_stopping() {
                return Outcome::Settle(Settlement::HandedBack);
            }
            let step = next_step(&order.state, &run.known, self.clock.now());
            if let Err(halt) = self.take(step, &mut order, &mut run).await {
                return self.end(halt, &order, run.progressed).await;
            }
        }
    }

    async fn take(&self, step: Step, order: &mut Order, run: &mut Run) -> Result<(), Halt> {
        match step {
            Step::Place => self.place(order, run).await,
            Step::Prepare => self.prepare(order, run).await,
            Step::Look => self.look(order, run).await,
            Step::Submit => self.submit(order, run).await,
            Step::MarkReady => self.mark_ready(order, run).await,
            Step::Finalize => self.finalize(order, run).await,
            Step::Download => self.download(order, run).await,
            Step::Wait => self.wait(run).await,
            Step::Fail(problem) => Err(Halt::Done(self.fail(order, problem, None).await?)),
            Step::Done => Err(Halt::Done(Outcome::Settle(Settlement::Succeeded))),
        }
    }

    async fn place(&self, order: &mut Order, run: &mut Run) -> Result<(), Halt> {
        fault::point("new-order.before");
        let placed = self.account.place(order.names.identifiers(), order.profile.as_ref()).await;
        fault::point("new-order.after");
        let (placed, seen, remote) = placed?;
        run.remote = Some(remote);
        self.record(ORDERED, order, run, OrderState::Ordered { placed }, &[]).await?;
        run.known.seen = Some(seen);
        Ok(())
    }

    async fn prepare(&self, order: &mut Order, run: &mut Run) -> Result<(), Halt> {
        let placed = placed(order)?;
        let remote = self.remote(&placed, run).await?;
        fault::point("authorizations.before");
        let authorizations = remote.authorizations().await;
        fault::point("authorizations.after");
        let (mut duties, mut answers) = (Vec::new(), Vec::new());
        let kept_until = later(
            placed.expires.unwrap_or_else(|| later(self.clock.now(), limits::CHALLENGE_LIFE_DEFAULT)),
            limits::CHALLENGE_KEPT,
        );
        for authorization in authorizations? {
            match authorization {
                Authorization::Valid => {}
                Authorization::Unusable(problem) => {
                    return Err(Halt::Done(self.fail(order, problem, None).await?));
                }
                Authorization::Pending { url, token, key_authorization } => {
                    duties.push(Duty { authorization_url: url, token: token.clone() });
                    let (project, order) = (order.project, order.id);
                    answers.push(ChallengeAnswer {
                        token,
                        key_authorization,
                        project,
                        order,
                        expires_at: kept_until,
                    });
                }
            }
        }
        self.record(CHALLENGED, order, run, OrderState::Challenged { placed, duties }, &answers).await
    }

    async fn look(&self, order: &Order, run: &mut Run) -> Result<(), Halt> {
        let placed = placed(order)?;
        fault::point("poll.before");
        let seen = match run.remote.as_mut() {
            Some(remote) => remote.look().await,
            None => self.account.resume(&placed.url).await.map(|(seen, remote)| {
                run.remote = Some(remote);
                seen
            }),
        };
        fault::point("poll.after");
        run.known.seen = Some(seen?);
        Ok(())
    }

    async fn submit(&self, order: &Order, run: &mut Run) -> Result<(), Halt> {
        let placed = placed(order)?;
        let remote = self.remote(&placed, run).await?;
        fault::point("submit.before");
        let submitted = remote.submit().await;
        fault::point("submit.after");
        submitted?;
        run.known = Knowledge { seen: None, submitted: true };
        Ok(())
    }

    async fn mark_ready(&self, order: &mut Order, run: &mut Run) -> Result<(), Halt> {
        let (placed, since) = (placed(order)?, self.clock.now());
        self.record(READY, order, run, OrderState::Ready { placed, since }, &[]).await
    }

    async fn finalize(&self, order: &Order, run: &mut Run) -> Result<(), Halt> {
        let placed = placed(order)?;
        let remote = self.remote(&placed, run).await?;
        fault::point("finalize.before");
        let seen = remote.finalize(&order.key.csr).await;
        fault::point("finalize.after");
        run.known.seen = Some(seen?);
        run.looks = 0;
        Ok(())
    }

    async fn download(&self, order: &Order, run: &mut Run) -> Result<(), Halt> {
        let placed = placed(order)?;
        let remote = self.remote(&placed, run).await?;
        fault::point("download.before");
        let chain = remote.certificate().await;
        fault::point("download.after");
        let spki = <[u8; 32]>::try_from(order.key.spki_sha256.as_slice());
        let spki = spki
            .map_err(|_| LedgerError::Corrupt(format!("order {}: spki_sha256 is not 32 bytes", order.id)))?;
        // The CA said that there is a certificate: a refusal to hand it out passes, and buying another would be worse.
        let chain = chain.map_err(|error| match error {
            CaError::Refused(problem) => CaError::Transient(problem),
            error => error,
        })?;
        let now = self.clock.now();
        let accepted = match Issued::accept(chain, &spki, order.names.identifiers()) {
            Ok(issued) if issued.not_after <= now => {
                Err("the CA issued a certificate that has expired".to_owned())
            }
            Ok(issued) => Ok(issued),
            Err(bad) => Err(bad.to_string()),
        };
        let issued = match accepted {
            Ok(issued) => issued,
            Err(bad) => {
                let problem = Problem::new(Class::Protocol, "wrong-certificate", bad);
                return Err(Halt::Done(self.fail(order, problem, None).await?));
            }
        };
        let id = VersionId::generate(self.clock, self.entropy);
        // Whatever the CA's clock says, not at once: a quarter of what is left is a floor.
        let floor = later(now, until(now, issued.not_after) / 4);
        let renew_at = renewal_time(issued.not_before, issued.not_after, self.entropy).max(floor);
        let key = self.reseal(order, id).await?;
        let version = IssuedVersion { id, number: self.number, key, renew_at, issued };
        let draft = Draft::new(Action::CertificateIssued, Some(order.project), order.certificate)
            .names(&order.names)
            .detail("version", id.to_string())
            .detail("order_url", placed.url)
            .detail("serial", version.issued.serial.clone())
            .detail("not_after", version.issued.not_after.to_string())
            .sealed("key", &version.key);
        let audit = self.audit(&draft).await?;
        fault::point("record-issued.before");
        loop {
            let written = self.ledger.store(self.claim, order, &version, &audit).await;
            if let Some(result) = self.persisted(written).await {
                break result?;
            }
        }
        fault::point("record-issued.after");
        Err(Halt::Done(Outcome::Stored))
    }

    /// The key leaves its place in the order for its place in the version.
    async fn reseal(
        &self,
        order: &Order,
        version: VersionId,
    ) -> Result<crate::envelope::Sealed, KeyringError> {
        let owner = KeyOwner::Project(order.project);
        let old = ("orders", &*order.id.to_string(), "key");
        let key = self.keyring.open(owner, old, 1, &order.key.sealed).await?;
        let new = ("certificate_versions", &*version.to_string(), "key");
        self.keyring.seal(owner, new, 1, key.expose_secret()).await
    }

    /// Waits a little in place; a wait that grows long gives the worker's place to another job.
    async fn wait(&self, run: &mut Run) -> Result<(), Halt> {
        let wait = (limits::POLL_WAIT_FIRST * 2_u32.pow(run.looks.min(16))).min(limits::POLL_WAIT_MAX);
        run.looks += 1;
        if run.waited + wait > limits::INLINE_WAIT {
            let settlement =
                Settlement::Again { after: limits::POLL_WAIT_MAX, problem: None, setbacks: None };
            return Err(Halt::Done(Outcome::Settle(settlement)));
        }
        run.waited += wait;
        self.clock.sleep(wait).await;
        run.known.seen = None;
        Ok(())
    }

    async fn fail(
        &self,
        order: &Order,
        problem: Problem,
        at: Option<jiff::Timestamp>,
    ) -> Result<Outcome, Halt> {
        let now = self.clock.now();
        let delay = attempt_delay(self.claim.failures.saturating_add(1), self.expires, now, self.entropy);
        let next_attempt_at = at.unwrap_or_else(|| later(now, delay));
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

    /// What becomes of a run that a step ended.
    async fn end(&self, halt: Halt, order: &Order, progressed: bool) -> Outcome {
        match halt {
            Halt::Done(outcome) => outcome,
            Halt::Ledger(LedgerError::Fenced) => Outcome::Lost,
            Halt::Ledger(error) => {
                let problem = Problem::new(Class::Transient, "database-unavailable", error.to_string());
                Outcome::Settle(self.postponed(progressed, problem))
            }
            Halt::Keyring(error) => {
                let problem = Problem::new(Class::Transient, "kek-unavailable", error.to_string());
                Outcome::Settle(self.postponed(progressed, problem))
            }
            Halt::Ca(CaError::Transient(problem) | CaError::OutOfStep(problem)) => {
                self.setback(order, progressed, problem).await
            }
            Halt::Ca(CaError::Later { problem, at }) => {
                let after =
                    until(self.clock.now(), at).clamp(limits::TRANSIENT_WAIT_FIRST, limits::RETRY_AFTER_MAX);
                Outcome::Settle(Settlement::Again { after, problem: Some(problem), setbacks: None })
            }
            Halt::Ca(CaError::Refused(problem)) => self.give_up(order, progressed, problem).await,
        }
    }

    /// A passing fault of the CA: the same step again, later; after an hour of them the attempt counts as failed,
    /// unless the CA may still issue.
    async fn setback(&self, order: &Order, progressed: bool, problem: Problem) -> Outcome {
        let since = self.setbacks(progressed).map_or_else(|| self.clock.now(), |earlier| earlier.since);
        let may_still_issue = matches!(order.state, OrderState::Ready { .. });
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
        match self.fail(order, problem.clone(), None).await {
            Ok(outcome) | Err(Halt::Done(outcome)) => outcome,
            Err(Halt::Ledger(LedgerError::Fenced)) => Outcome::Lost,
            Err(Halt::Ca(_) | Halt::Ledger(_) | Halt::Keyring(_)) => {
                Outcome::Settle(self.postponed(progressed, problem))
            }
        }
    }

    async fn remote<'r>(
        &self,
        placed: &Placed,
        run: &'r mut Run,
    ) -> Result<&'r mut Box<dyn RemoteOrder>, Halt> {
        if run.remote.is_none() {
            let (seen, remote) = self.account.resume(&placed.url).await?;
            run.known.seen = Some(seen);
            run.remote = Some(remote);
        }
        run.remote.as_mut().ok_or(Halt::Done(Outcome::Lost))
    }

    async fn record(
        &self,
        (before, after): (&'static str, &'static str),
        order: &mut Order,
        run: &mut Run,
        next: OrderState,
        answers: &[ChallengeAnswer],
    ) -> Result<(), Halt> {
        fault::point(before);
        *order = loop {
            let written = self.ledger.advance(order, next.clone(), answers).await;
            if let Some(result) = self.persisted(written).await {
                break result?;
            }
        };
        fault::point(after);
        run.progressed = true;
        Ok(())
    }

    /// The end of a write; nothing when its outcome is unknown and the lease still lets us write it again.
    async fn persisted<T>(&self, written: Result<T, LedgerError>) -> Option<Result<T, LedgerError>> {
        match written {
            Err(LedgerError::Unavailable(_)) if self.mandate.holds() => {
                self.clock.sleep(limits::PERSIST_WAIT).await;
                None
            }
            written => Some(written),
        }
    }

    async fn audit(&self, draft: &Draft) -> Result<crate::audit::Row, Halt> {
        match self.auditor.row(&Origin::service("worker"), draft).await {
            Ok(row) => Ok(row),
            Err(CannotAudit::Key(error)) => Err(Halt::Keyring(error)),
            Err(too_large @ CannotAudit::TooLarge(_)) => {
                Err(Halt::Ledger(LedgerError::Corrupt(too_large.to_string())))
            }
        }
    }
}

fn placed(order: &Order) -> Result<Placed, LedgerError> {
    let missing = || LedgerError::Corrupt(format!("order {} has no URL in a state that needs one", order.id));
    order.state.placed().cloned().ok_or_else(missing)
}

impl From<CaError> for Halt {
    fn from(error: CaError) -> Self {
        Self::Ca(error)
    }
}

impl From<LedgerError> for Halt {
    fn from(error: LedgerError) -> Self {
        Self::Ledger(error)
    }
}

impl From<KeyringError> for Halt {
    fn from(error: KeyringError) -> Self {
        Self::Keyring(error)
    }
}
