// SPDX-License-Identifier: Apache-2.0
//! The engine: takes the steps of one order, one remote act at a time, and writes down one fact after each.
//!
//! Here are the run and the acts that lead to the challenges; `finish` has those behind them, `bound` how long an act may take,
//! `chains` which chain is taken, `writes` how facts are written down, and `ends` what becomes of a run that cannot go on.

mod bound;
mod chains;
mod ends;
mod finish;
#[cfg(test)]
mod tests;
mod writes;

use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{join, try_join};

use crate::audit::Auditor;
use crate::certificate::ChainName;
use crate::challenge::ChallengeAnswer;
use crate::clock::{Clock, later, until};
use crate::entropy::Entropy;
use crate::envelope::{Keyring, KeyringError};
use crate::fault;
use crate::job::{Claim, Mandate, Setbacks, Settlement, Sort};
use crate::limits;
use crate::order::replaces::{goes_without, stumbles};
use crate::order::{
    Authorization, CaAccount, CaError, Duty, Knowledge, Ledger, LedgerError, Order, OrderState, Park, Placed,
    RemoteOrder, Reply, Seen, Standing, Step, next_step,
};
use crate::problem::Problem;

/// The failpoints around each fact that the engine writes between two remote acts.
const ORDERED: (&str, &str) = ("record-ordered.before", "record-ordered.after");
const CHALLENGED: (&str, &str) = ("record-challenged.before", "record-challenged.after");
const READY: (&str, &str) = ("record-ready.before", "record-ready.after");

/// Drives the order of one claim.
pub struct Engine<'a> {
    /// The account that buys.
    pub account: &'a dyn CaAccount,
    /// What a refusal says of the account.
    pub standing: &'a dyn Standing,
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
    /// SHA-256 of the current version's leaf, hex: a CA that gives it again has not renewed it.
    pub in_use: Option<&'a str>,
    /// Which of the certificate's versions the next one is, counted from 1.
    pub number: i64,
    /// The chain that is taken where the CA offers it.
    pub preferred_chain: Option<&'a ChainName>,
    /// The URLs of orders for the same version that were set aside: what the CA issues for one of them is not bought again.
    pub set_aside: &'a [String],
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The last fact settled the job: what it was for is stored.
    Stored,
    /// The last fact settled the job: the attempt failed, and the next one has its time.
    Failed(Problem),
    /// The CA does not accept the account. Nothing is written, and the job is still ours: the order waits for the account.
    Halted(Problem),
    /// The last fact settled the job: the attempt is over, and nothing more is tried before a person has done something.
    Buried(Problem),
    /// The job is still ours and must be settled like this.
    Settle(Settlement),
    /// The same, with a rate limit to be kept by all.
    Parked(Settlement, Box<Park>),
    /// The job is not ours any more, or may not be: nothing is written.
    Lost,
}

impl Outcome {
    /// The same, with the last fault counted as one of this sort, after those `before`.
    fn of(mut self, sort: Sort, before: Option<Setbacks>) -> Self {
        if let Self::Settle(Settlement::Again { setbacks: Some(setbacks), .. }) = &mut self {
            *setbacks = setbacks.of(sort, before);
        }
        self
    }
}

/// What one run remembers from step to step.
#[derive(Default)]
struct Run {
    known: Knowledge,
    remote: Option<Box<dyn RemoteOrder>>,
    /// What the CA wants to have proven, where it said so while the order's URL was written down.
    authorizations: Option<Result<Reply<Vec<Authorization>>, Halt>>,
    /// Whether it has answered the challenges itself.
    answered: bool,
    progressed: bool,
    /// What the fault that ends it is of, where that is counted by itself.
    fault: Option<Sort>,
    looks: u32,
    waited: Duration,
}

/// Why a step ended the run.
enum Halt {
    /// An act that changes something at the CA did not succeed.
    Ca(CaError),
    /// An act that only asks did not succeed.
    Asked(CaError),
    Ledger(LedgerError),
    Keyring(KeyringError),
    Done(Outcome),
}

impl Engine<'_> {
    /// Takes steps until the order is over, the CA lets us wait, or the claim ends.
    pub async fn run(&self, mut order: Order) -> Outcome {
        let known = Knowledge { expires: self.expires, ..Knowledge::default() };
        let mut run = Run { known, ..Run::default() };
        for _ in 0..limits::RUN_STEPS {
            if !self.mandate.holds() {
                return Outcome::Lost;
            }
            if self.mandate.is_stopping() {
                return Outcome::Settle(Settlement::HandedBack);
            }
            let step = next_step(&order.state, &run.known, self.clock.surely());
            if let Err(halt) = self.take(step, &mut order, &mut run).await {
                let outcome = self.end(halt, &order, run.progressed).await;
                return match run.fault {
                    Some(sort) => outcome.of(sort, self.setbacks(run.progressed)),
                    None => outcome,
                };
            }
        }
        self.in_circles(&order)
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
            Step::Withdraw => self.withdraw(order, run).await,
            Step::Wait => self.wait(order, run).await,
            Step::Fail(problem) => Err(Halt::Done(self.fail(order, problem).await?)),
            Step::Done => Err(Halt::Done(Outcome::Settle(Settlement::Succeeded))),
        }
    }

    async fn place(&self, order: &mut Order, run: &mut Run) -> Result<(), Halt> {
        fault::point("new-order.before");
        let replaces = order.state.replaces().filter(|_| self.account.offers_renewal_info());
        let place = self.account.place(order.names.identifiers(), order.profile.as_ref(), replaces);
        let placed = self.act(order, place).await;
        fault::point("new-order.after");
        let (mut placed, heard) = match placed {
            Err(Halt::Ca(error))
                if replaces.is_some()
                    && goes_without(&error, self.setbacks(run.progressed))
                    && !self.is_of_a_moving_account(&error).await =>
            {
                // Written down before it is sent again, so that whoever resumes does not begin with the same refusal.
                tracing::info!(order = %order.id, %error, "the order is sent again as one that replaces nothing");
                return self.record(ORDERED, order, run, OrderState::Keyed { replaces: None }, &[]).await;
            }
            placed => {
                let is_stumble = matches!(&placed, Err(Halt::Ca(error)) if stumbles(error));
                run.fault = Some(Sort::Replacement).filter(|_| replaces.is_some() && is_stumble);
                placed?
            }
        };
        // What a CA says of its order keeps a key and a job for no longer than this; that a new one is over is no word at all.
        let now = self.clock.now();
        let most = later(now, limits::ORDER_LIFE_MAX);
        placed.expires = placed.expires.filter(|expires| *expires > now).map(|expires| expires.min(most));
        let ordered = OrderState::Ordered { placed };
        // Where the CA gave no more than the URL, that is written down before anything else is asked.
        let Some((reply, mut remote)) = heard else {
            return self.record(ORDERED, order, run, ordered, &[]).await;
        };
        // What it wants to have proven is asked meanwhile: a question changes nothing there.
        let writing = self.written(ORDERED, order, ordered, &[]);
        let asking = self.authorizations(order, remote.as_mut()).map(Ok);
        let (written, asked) = try_join(writing, asking).await?;
        *order = written;
        run.progressed = true;
        run.known.hear(reply);
        run.remote = Some(remote);
        // A replica that lags may not know the order yet: a refusal counts when it is asked again.
        run.authorizations = match asked {
            Err(Halt::Asked(CaError::Refused(_) | CaError::Gone(_) | CaError::Account(_))) => None,
            asked => Some(asked),
        };
        Ok(())
    }

    async fn prepare(&self, order: &mut Order, run: &mut Run) -> Result<(), Halt> {
        let placed = placed(order)?;
        let authorizations = match run.authorizations.take() {
            Some(asked) => asked,
            None => {
                let remote = self.remote(order, &placed, run).await?;
                self.authorizations(order, remote.as_mut()).await
            }
        };
        let authorizations = authorizations?;
        run.known.not_before(authorizations.retry_at);
        let (duties, answers, unusable) = self.asked_for(order, &placed, authorizations.said);
        if let Some(problem) = unusable {
            return Err(Halt::Done(self.fail(order, problem).await?));
        }
        run.answered = true;
        self.record(CHALLENGED, order, run, OrderState::Challenged { placed, duties }, &answers).await
    }

    /// Writes the answers down once more of an order that may have been finalized: those of an earlier run have another key in them. What
    /// the CA says of its authorizations says nothing of the order.
    async fn answer_anew(&self, order: &mut Order, run: &mut Run) -> Result<(), Halt> {
        let placed = placed(order)?;
        let remote = self.remote(order, &placed, run).await?;
        let authorizations = self.authorizations(order, remote.as_mut()).await?;
        run.known.not_before(authorizations.retry_at);
        let (_, answers, _) = self.asked_for(order, &placed, authorizations.said);
        run.answered = true;
        *order = self.written(READY, order, order.state.clone(), &answers).await?;
        Ok(())
    }

    /// What is to be proven and with which answers; and why an order cannot be fulfilled, if it cannot.
    fn asked_for(
        &self,
        order: &Order,
        placed: &Placed,
        authorizations: Vec<Authorization>,
    ) -> (Vec<Duty>, Vec<ChallengeAnswer>, Option<Problem>) {
        let (mut duties, mut answers, mut unusable) = (Vec::new(), Vec::new(), None);
        let default = || later(self.clock.now(), limits::CHALLENGE_LIFE_DEFAULT);
        let expires_at = later(placed.expires.unwrap_or_else(default), limits::CHALLENGE_KEPT);
        for authorization in authorizations {
            match authorization {
                Authorization::Valid => {}
                Authorization::Unusable(problem) => unusable = unusable.or(Some(problem)),
                Authorization::Pending { token, key_authorization } => {
                    duties.push(Duty { token: token.clone() });
                    let (project, order) = (order.project, order.id);
                    answers.push(ChallengeAnswer { token, key_authorization, project, order, expires_at });
                }
            }
        }
        (duties, answers, unusable)
    }

    /// What the CA wants to have proven.
    async fn authorizations(
        &self,
        order: &Order,
        remote: &mut dyn RemoteOrder,
    ) -> Result<Reply<Vec<Authorization>>, Halt> {
        fault::point("authorizations.before");
        let authorizations = self.ask(order, remote.authorizations()).await;
        fault::point("authorizations.after");
        authorizations
    }

    async fn look(&self, order: &Order, run: &mut Run) -> Result<(), Halt> {
        let reply = self.seen(order, &placed(order)?, &mut run.remote).await?;
        run.known.hear(reply);
        Ok(())
    }

    /// What the CA says of the order.
    async fn seen(
        &self,
        order: &Order,
        placed: &Placed,
        remote: &mut Option<Box<dyn RemoteOrder>>,
    ) -> Result<Reply<Seen>, Halt> {
        fault::point("poll.before");
        let seen = match remote.as_mut() {
            Some(remote) => self.ask(order, remote.look()).await,
            None => self.ask(order, self.account.resume(&placed.url)).await.map(|(seen, resumed)| {
                *remote = Some(resumed);
                seen
            }),
        };
        fault::point("poll.after");
        seen
    }

    async fn submit(&self, order: &mut Order, run: &mut Run) -> Result<(), Halt> {
        if !run.answered && self.standing.is_rekeyed(order.id.made_at()) {
            match order.state {
                OrderState::Ready { .. } => self.answer_anew(order, run).await?,
                OrderState::Keyed { .. }
                | OrderState::Ordered { .. }
                | OrderState::Challenged { .. }
                | OrderState::Stored { .. }
                | OrderState::Failed { .. } => {
                    // The same answers, with another key in them: it is as far as it was.
                    let progressed = run.progressed;
                    let prepared = self.prepare(order, run).await;
                    run.progressed = progressed;
                    return prepared;
                }
            }
        }
        let placed = placed(order)?;
        let remote = self.remote(order, &placed, run).await?;
        fault::point("submit.before");
        let submitted = self.act(order, remote.submit()).await;
        fault::point("submit.after");
        let submitted = submitted.map_err(|halt| match halt {
            // What a CA says of a challenge says nothing of an order that may have been finalized by an earlier run.
            Halt::Ca(CaError::Refused(problem) | CaError::Gone(problem))
                if matches!(order.state, OrderState::Ready { .. }) =>
            {
                Halt::Asked(CaError::Refused(problem))
            }
            halt => halt,
        })?;
        run.known.not_before(submitted.retry_at);
        (run.known.seen, run.known.submitted) = (None, true);
        Ok(())
    }

    /// Writes down that finalize is next. Where the CA has not said yet that it may be, it is asked meanwhile, unless it asked for time.
    async fn mark_ready(&self, order: &mut Order, run: &mut Run) -> Result<(), Halt> {
        self.look_back(order, run.progressed).await?;
        // One that the CA issues for already is stored, and replaced at once.
        let may_be_ended = matches!(run.known.seen, None | Some(Seen::Ready));
        if may_be_ended && order.key.kept && !self.ledger.may_keep_key(order).await? {
            return Err(Halt::Done(self.give_key_up(order).await?));
        }
        let (placed, since) = (placed(order)?, self.clock.now());
        let writing = self.written(READY, order, OrderState::Ready { placed: placed.clone(), since }, &[]);
        let (written, heard) = if run.known.seen.is_some() || run.known.is_left_alone(since) {
            (writing.await, None)
        } else {
            let (written, heard) = join(writing, self.seen(order, &placed, &mut run.remote)).await;
            (written, Some(heard))
        };
        *order = written?;
        run.progressed = true;
        if let Some(heard) = heard {
            run.known.hear(heard?);
        }
        Ok(())
    }

    /// Ends the run where the CA has issued for an order that was set aside: the next run takes that one. A CA that does not
    /// say is asked again some times, and then keeps nobody from going on.
    async fn look_back(&self, order: &Order, progressed: bool) -> Result<(), Halt> {
        for url in self.set_aside {
            match self.ask(order, self.account.resume(url)).await {
                Ok((reply, _)) if reply.said == Seen::Valid => {
                    let again = Settlement::after(Duration::ZERO, None);
                    return Err(Halt::Done(Outcome::Settle(again)));
                }
                Ok(_) => {}
                Err(Halt::Asked(error)) => {
                    if let Some(again) = self.awaiting_elder(error, progressed) {
                        return Err(Halt::Done(again));
                    }
                }
                Err(halt) => return Err(halt),
            }
        }
        Ok(())
    }

    /// Waits a moment in place for a CA that is quick; any longer wait gives the worker's place to another job.
    async fn wait(&self, order: &Order, run: &mut Run) -> Result<(), Halt> {
        let asked = run.known.retry_at.map_or(Duration::ZERO, |at| until(self.clock.now(), at));
        let wait = limits::INLINE_WAIT_FIRST * 2_u32.pow(run.looks.min(16));
        let wait = wait.min(limits::INLINE_WAIT.saturating_sub(run.waited));
        run.looks += 1;
        if wait.is_zero() || asked > wait {
            // One that has not heard of what it was sent is not busy.
            let is_stuck = run.known.finalized && run.known.seen == Some(Seen::Ready);
            run.fault = Some(Sort::Stuck).filter(|_| is_stuck);
            let again = self.waiting(order, run.progressed, asked);
            return Err(Halt::Done(Outcome::Settle(again)));
        }
        run.waited += wait;
        self.clock.sleep(wait).await;
        run.known.seen = None;
        Ok(())
    }

    async fn remote<'r>(
        &self,
        order: &Order,
        placed: &Placed,
        run: &'r mut Run,
    ) -> Result<&'r mut Box<dyn RemoteOrder>, Halt> {
        if run.remote.is_none() {
            let (reply, remote) = self.ask(order, self.account.resume(&placed.url)).await?;
            run.known.hear(reply);
            run.remote = Some(remote);
        }
        run.remote.as_mut().ok_or(Halt::Done(Outcome::Lost))
    }
}

fn placed(order: &Order) -> Result<Placed, LedgerError> {
    let missing = || LedgerError::Corrupt(format!("order {} has no URL in a state that needs one", order.id));
    order.state.placed().cloned().ok_or_else(missing)
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
