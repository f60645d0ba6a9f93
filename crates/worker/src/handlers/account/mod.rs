// SPDX-License-Identifier: Apache-2.0
//! Brings an issuer's account at its CA to what is written down of it: registered, its contacts told, its key rolled, found
//! again, deactivated. Every key is stored before the CA hears of it, so whoever resumes asks the CA and goes on.

mod deactivate;
mod find;
mod register;
mod roll;
mod standing;

use std::time::Duration;

use cap_core::audit::{Action, Draft, Origin};
use cap_core::clock::later;
use cap_core::entropy::{self, Entropy};
use cap_core::id::IssuerId;
use cap_core::issuer::{ACCOUNT_CLOSED, AccountStep, Hold};
use cap_core::job::{Cause, Claim, JobDraft, Mandate, Settlement, Work};
use cap_core::limits;
use cap_core::order::{CaError, Outcome, attempt_delay, deferred, postponed};
use cap_core::problem::{Class, Problem};
use cap_store::{IssuerRecord, Registration, StoreError};
use jiff::Timestamp;

use super::{Trouble, World};
use crate::place::Place;

pub(super) use standing::IssuerStanding;

/// The longest wait before a CA is asked again that was at fault for an hour and more.
const FAULTY_WAIT: Duration = Duration::from_secs(600);

/// What a refusal by a CA means that accepts the account, as it says when it is asked.
const ACCEPTED: &str =
    "the CA accepts the account and refuses what it was told of it: correct the contacts; its orders go on";

/// And by one that does not.
const NOT_ACCEPTED: &str = "the CA does not accept this account";

/// Steps of one run: a rollover, what was asked for meanwhile, and room for one more of each.
const STEPS: usize = 6;

/// One run: whose account, and under which claim.
struct Run<'a> {
    world: &'a World,
    claim: &'a Claim,
    mandate: &'a Mandate,
    issuer: IssuerRecord,
}

/// How a step ends the run; nothing where the next one follows.
type Step = Result<Option<Outcome>, Trouble>;

pub(super) async fn run(
    world: &World,
    claim: &Claim,
    mandate: &Mandate,
    place: &Place,
    issuer: IssuerId,
) -> Result<Outcome, Trouble> {
    if let Err(outcome) = place.enter(claim.project_lane(), mandate).await {
        return Ok(outcome);
    }
    let _writer = world.store.writer();
    for _ in 0..STEPS {
        // As it is now, and not as it was before the wait or the last step.
        let Some(issuer) = world.store.issuer(claim.project, &issuer.to_string()).await? else {
            return Ok(Outcome::Settle(Settlement::Superseded));
        };
        let run = Run { world, claim, mandate, issuer };
        let Some(step) = world.while_held(mandate, run.step()).await else { return Ok(Outcome::Lost) };
        if let Some(outcome) = step? {
            return Ok(outcome);
        }
        if mandate.is_stopping() {
            return Ok(Outcome::Settle(Settlement::HandedBack));
        }
    }
    let after = Duration::ZERO;
    Ok(Outcome::Settle(Settlement::after(after, None)))
}

/// Puts the account of `issuer` on hold, since its CA does not accept it: orders wait from now on, and a job asks the CA
/// whether it accepts it again.
pub(super) async fn halt(
    world: &World,
    issuer: &IssuerRecord,
    problem: &Problem,
) -> Result<Timestamp, Trouble> {
    let now = world.clock.now();
    let next = next_attempt(1, problem, now, world.entropy.as_ref());
    let work = Work::RegisterIssuer { issuer: issuer.id };
    let (clock, entropy) = (world.clock.as_ref(), world.entropy.as_ref());
    let mut job = JobDraft::now(issuer.project, work, issuer.fence, clock, entropy);
    job.after = cap_core::clock::until(now, next);
    let draft = Draft::new(Action::IssuerHalted, Some(issuer.project), issuer.id)
        .failed()
        .detail("problem", problem.kind.clone());
    let audit = world.auditor.row(&Origin::service("worker"), &draft).await?;
    world.store.halt_account(issuer, &halted(problem), next, &job, &audit).await?;
    tracing::warn!(issuer = %issuer.id, %problem, "the CA does not accept the account; it is not used for orders");
    Ok(next)
}

/// Whether the CA was at fault for so long that an order's attempt would count as failed.
fn was_faulty_for_long(claim: &Claim) -> bool {
    claim.setbacks.is_some_and(|setbacks| setbacks.faulty() > limits::TRANSIENT_SPAN_MAX)
}

/// What an issuer shows whose account its CA does not accept.
fn halted(problem: &Problem) -> Problem {
    if problem.kind == ACCOUNT_CLOSED {
        return problem.clone();
    }
    let detail = format!(
        "{}; no orders are placed with this account until the CA accepts it again, and it is asked now and then: ask the CA \
         why, or update the issuer to have its account registered anew",
        problem.detail
    );
    Problem::new(Class::Configuration, &problem.kind, detail)
}

impl Run<'_> {
    async fn step(&self) -> Step {
        match self.issuer.account_step() {
            AccountStep::Roll => self.roll().await,
            AccountStep::Deactivate => self.deactivate().await,
            AccountStep::Find => self.find().await,
            AccountStep::Register => self.register().await,
            AccountStep::Rest => Ok(Some(Outcome::Settle(Settlement::Superseded))),
        }
    }

    /// How the run ends after a failure that refused nothing, or that ends the attempt.
    async fn failed(&self, error: CaError) -> Step {
        self.failed_of(error, None).await
    }

    /// The same where the CA has `said` already whether it has the account, and where.
    async fn failed_of(&self, error: CaError, said: Option<Result<Option<String>, CaError>>) -> Step {
        let (world, now) = (self.world, self.world.clock.now());
        let (problem, next, is_of_account) = match judge(error, self.claim, now, world.entropy.as_ref()) {
            Verdict::Passing(settlement) => return Ok(Some(Outcome::Settle(settlement))),
            Verdict::Failed(problem, next) => (problem, next, false),
            Verdict::NotAccepted(problem, next) => (problem, next, true),
        };
        let known = self.issuer.known_url();
        // The account may be good, or be there although nobody knows where: then only what the CA was told of it is refused.
        let is_in_question =
            self.issuer.why_held() != Some(Hold::Deactivating) && (is_of_account || known.is_none());
        let found = match said {
            None if is_in_question => Some(world.ca.find(&world.ca_request(&self.issuer).await?).await),
            said => said.filter(|_| is_in_question),
        };
        let is_advised = is_of_account && problem.kind != ACCOUNT_CLOSED;
        let advised = |advice| if is_advised { problem.clone().advised(advice) } else { problem.clone() };
        let (registration, problem) = match found {
            Some(Ok(Some(url))) if known.is_none_or(|known| known == url) => {
                let problem = advised(ACCEPTED);
                (Registration::Accepted(url, problem.clone(), next), problem)
            }
            Some(Ok(_) | Err(CaError::Account(_))) if known.is_some() => {
                let problem = halted(&advised(NOT_ACCEPTED));
                (Registration::Refused(problem.clone(), next), problem)
            }
            // Nobody knows whether it is good; where the CA refuses to say, that is a failed attempt and changes nothing else.
            Some(Err(error)) if known.is_some() => {
                match judge(error, self.claim, now, world.entropy.as_ref()) {
                    Verdict::Passing(settlement) => return Ok(Some(Outcome::Settle(settlement))),
                    Verdict::Failed(..) | Verdict::NotAccepted(..) => {
                        (Registration::Failing(problem.clone(), next), problem)
                    }
                }
            }
            Some(_) | None => {
                let problem = advised(NOT_ACCEPTED);
                (Registration::Failing(problem.clone(), next), problem)
            }
        };
        let draft = Draft::new(Action::IssuerFailed, Some(self.issuer.project), self.issuer.id)
            .failed()
            .detail("problem", problem.kind.clone());
        self.settled(&registration, &draft).await?;
        Ok(Some(Outcome::Failed(problem)))
    }

    async fn ready(&self, url: String) -> Step {
        let draft = Draft::new(Action::IssuerReady, Some(self.issuer.project), self.issuer.id)
            .detail("account_url", url.clone());
        self.settled(&Registration::Ready(url), &draft).await?;
        Ok(Some(Outcome::Stored))
    }

    async fn settled(&self, registration: &Registration, draft: &Draft) -> Result<(), Trouble> {
        let audit = self.world.auditor.row(&Origin::service("worker"), draft).await?;
        let (store, issuer, now) = (&self.world.store, &self.issuer, self.world.clock.now());
        let write = || store.settle_registration(self.claim, issuer, registration, now, &audit);
        Ok(self.persisted(write).await?)
    }

    /// Writes a fact, again and again while the database does not answer and the lease lasts. A try before that was carried
    /// out after all is no fault.
    async fn persisted<F: Future<Output = Result<(), StoreError>>>(
        &self,
        write: impl Fn() -> F,
    ) -> Result<(), StoreError> {
        self.world.persisted(self.mandate, write).await
    }
}

/// What a request about an account that did not succeed means for its job.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Nothing was refused: the job runs again, and no attempt is counted.
    Passing(Settlement),
    /// The attempt failed, and the next one starts then.
    Failed(Problem, Timestamp),
    /// The CA does not accept the account, and is asked again then.
    NotAccepted(Problem, Timestamp),
}

/// When a CA that refused for the `failures`-th time in a row is asked again: not before it wants to be.
fn next_attempt(failures: u32, problem: &Problem, now: Timestamp, entropy: &dyn Entropy) -> Timestamp {
    let (own, most) =
        (later(now, attempt_delay(failures, None, now, entropy)), later(now, limits::RETRY_AFTER_MAX));
    own.max(problem.retry_at.map_or(own, |at| at.min(most)))
}

/// Only what the CA refused is a failed attempt: an outage, however long, must not make the first refusal after it
/// wait like the tenth. One that lasts is asked about less often.
fn judge(error: CaError, claim: &Claim, now: Timestamp, entropy: &dyn Entropy) -> Verdict {
    let next = |problem: &Problem| next_attempt(claim.failures.saturating_add(1), problem, now, entropy);
    match error {
        CaError::Transient(problem) | CaError::OutOfStep(problem) if was_faulty_for_long(claim) => {
            let at = later(now, entropy::between(entropy, FAULTY_WAIT / 2, FAULTY_WAIT));
            Verdict::Passing(deferred(claim.setbacks, problem, at, now, entropy))
        }
        CaError::Transient(problem) | CaError::OutOfStep(problem) => {
            Verdict::Passing(postponed(claim.setbacks, Cause::Ca, problem, now, entropy))
        }
        CaError::Later { problem, at } => {
            Verdict::Passing(deferred(claim.setbacks, problem, at, now, entropy))
        }
        CaError::Refused(problem) | CaError::Gone(problem) | CaError::NeedsPerson(problem) => {
            let next = next(&problem);
            Verdict::Failed(problem, next)
        }
        CaError::Account(problem) => {
            let next = next(&problem);
            Verdict::NotAccepted(problem, next)
        }
    }
}

#[cfg(test)]
mod tests {
    use cap_core::clock::{Clock, until};
    use cap_core::id::{ClaimId, JobId, ProjectId};
    use cap_core::job::Work;
    use cap_core::problem::Class;
    use cap_runtime::clock::SystemClock;
    use cap_runtime::entropy::OsEntropy;

    use super::*;

    pub(super) fn claim() -> Claim {
        let (clock, entropy) = (&SystemClock, &OsEntropy);
        Claim {
            job: JobId::generate(clock, entropy),
            project: ProjectId::generate(clock, entropy),
            work: Work::RegisterIssuer { issuer: IssuerId::generate(clock, entropy) },
            token: ClaimId::generate(clock, entropy),
            attempt: 1,
            fence: 1,
            failures: 0,
            setbacks: None,
            lane: cap_core::job::Lane::Main,
            lost: 0,
            is_last: false,
        }
    }

    fn problem() -> Problem {
        Problem::new(Class::Transient, "ca-unreachable", "connection refused")
    }

    #[test]
    fn an_outage_does_not_make_the_first_refusal_after_it_wait_longer() {
        let (mut claim, now) = (claim(), SystemClock.now());
        for round in 1..=50 {
            let error = match round % 3 {
                0 => CaError::Transient(problem()),
                1 => CaError::OutOfStep(problem()),
                _ => CaError::Later { problem: problem(), at: now },
            };
            let verdict = judge(error, &claim, now, &OsEntropy);
            let Verdict::Passing(Settlement::Again { setbacks, .. }) = verdict else {
                panic!("{verdict:?} is a failed attempt");
            };
            assert_eq!(setbacks.map(|setbacks| setbacks.count), Some(round));
            claim.setbacks = setbacks;
        }
        let asked = later(now, Duration::from_secs(7_200));
        let told = judge(CaError::Refused(problem().not_before(Some(asked))), &claim, now, &OsEntropy);
        assert!(matches!(told, Verdict::Failed(_, at) if at == asked), "{told:?}");
        let refused = judge(CaError::Refused(problem()), &claim, now, &OsEntropy);
        let Verdict::Failed(_, next) = refused else { panic!("{refused:?}") };
        assert!(until(now, next) <= Duration::from_secs(60), "{next}");
    }

    #[test]
    fn a_ca_that_is_at_fault_for_more_than_an_hour_is_asked_less_often() {
        let (mut claim, mut now) = (claim(), SystemClock.now());
        let started = now;
        let mut asked = 0;
        while until(started, now) < Duration::from_secs(10 * 3_600) {
            let Verdict::Passing(Settlement::Again { after, setbacks, .. }) =
                judge(CaError::Transient(problem()), &claim, now, &OsEntropy)
            else {
                panic!("an outage is no failed attempt");
            };
            assert!(after <= FAULTY_WAIT, "{after:?}");
            (claim.setbacks, now, asked) = (setbacks, later(now, after), asked + 1);
        }
        assert!((100..260).contains(&asked), "asked {asked} times in ten hours");
    }

    #[test]
    fn refusals_in_a_row_wait_longer_and_longer() {
        let (claim, now) = (Claim { failures: 1, ..claim() }, SystemClock.now());
        let refused = judge(CaError::Refused(problem()), &claim, now, &OsEntropy);
        let Verdict::Failed(_, next) = refused else { panic!("{refused:?}") };
        assert!(until(now, next) >= Duration::from_secs(540), "{next}");
    }

    #[test]
    fn an_account_that_is_not_accepted_is_told_from_what_is_refused() {
        let (claim, now) = (claim(), SystemClock.now());
        let refused = judge(CaError::Refused(problem()), &claim, now, &OsEntropy);
        assert!(matches!(refused, Verdict::Failed(..)), "{refused:?}");
        let closed = judge(CaError::Account(problem()), &claim, now, &OsEntropy);
        let Verdict::NotAccepted(_, next) = closed else { panic!("{closed:?}") };
        assert!(next > now);
    }
}
