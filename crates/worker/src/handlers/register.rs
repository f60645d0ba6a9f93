// SPDX-License-Identifier: Apache-2.0
//! Registers an issuer's account. Its key was stored when the issuer was made, so asking twice finds the same account.

use cap_core::audit::{Action, Draft, Origin};
use cap_core::clock::later;
use cap_core::entropy::Entropy;
use cap_core::id::IssuerId;
use cap_core::job::{Claim, Mandate, Setbacks, Settlement};
use cap_core::order::{CaError, Outcome, attempt_delay, deferred, transient_delay};
use cap_core::problem::Problem;
use cap_store::Registration;
use jiff::Timestamp;

use super::{Trouble, World};
use crate::place::Place;

pub(super) async fn run(
    world: &World,
    claim: &Claim,
    mandate: &Mandate,
    place: &Place,
    issuer: IssuerId,
) -> Result<Outcome, Trouble> {
    if let Err(outcome) = place.enter(mandate).await {
        return Ok(outcome);
    }
    // As it is now, and not as it was before the wait.
    let Some(issuer) = world.store.issuer(claim.project, &issuer.to_string()).await? else {
        return Ok(Outcome::Settle(Settlement::Superseded));
    };
    let request = world.ca_request(&issuer).await?;
    let registered = world.ca.register(&request).await;
    let now = world.clock.now();
    let (registration, draft) = match registered {
        Ok(url) => {
            let draft = Draft::new(Action::IssuerReady, Some(issuer.project), issuer.id)
                .detail("account_url", url.clone());
            (Registration::Ready(url), draft)
        }
        Err(error) => match judge(error, claim, now, world.entropy.as_ref()) {
            Verdict::Passing(settlement) => return Ok(Outcome::Settle(settlement)),
            Verdict::Failed(problem, next_attempt_at) => {
                let draft = Draft::new(Action::IssuerFailed, Some(issuer.project), issuer.id)
                    .failed()
                    .detail("problem", problem.kind.clone());
                (Registration::Failing(problem, next_attempt_at), draft)
            }
        },
    };
    let audit = world.auditor.row(&Origin::service("worker"), &draft).await?;
    world.store.settle_registration(claim, issuer.id, &registration, now, &audit).await?;
    Ok(match registration {
        Registration::Ready(_) => Outcome::Stored,
        Registration::Failing(problem, _) => Outcome::Failed(problem),
    })
}

/// What a registration that did not succeed means for its job.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Nothing was refused: the job runs again, and no attempt is counted.
    Passing(Settlement),
    /// The attempt failed, and the next one starts then.
    Failed(Problem, Timestamp),
}

/// Only what the CA refused is a failed attempt: an outage, however long, must not make the first refusal after it
/// wait like the tenth.
fn judge(error: CaError, claim: &Claim, now: Timestamp, entropy: &dyn Entropy) -> Verdict {
    match error {
        CaError::Transient(problem) | CaError::OutOfStep(problem) => {
            let count = claim.setbacks.map_or(0, |earlier| earlier.count).saturating_add(1);
            let since = claim.setbacks.map_or(now, |earlier| earlier.since);
            let after = transient_delay(count, entropy);
            let setbacks = Some(Setbacks { count, since });
            Verdict::Passing(Settlement::Again { after, problem: Some(problem), setbacks })
        }
        CaError::Later { problem, at } => {
            Verdict::Passing(deferred(claim.setbacks, problem, at, now, entropy))
        }
        CaError::Refused(problem) | CaError::Gone(problem) | CaError::NeedsPerson(problem) => {
            let delay = attempt_delay(claim.failures.saturating_add(1), None, now, entropy);
            Verdict::Failed(problem, later(now, delay))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cap_core::clock::{Clock, until};
    use cap_core::id::{ClaimId, JobId, ProjectId};
    use cap_core::job::Work;
    use cap_core::problem::Class;
    use cap_runtime::clock::SystemClock;
    use cap_runtime::entropy::OsEntropy;

    use super::*;

    fn claim() -> Claim {
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
        let refused = judge(CaError::Refused(problem()), &claim, now, &OsEntropy);
        let Verdict::Failed(_, next) = refused else { panic!("{refused:?}") };
        assert!(until(now, next) <= Duration::from_secs(60), "{next}");
    }

    #[test]
    fn refusals_in_a_row_wait_longer_and_longer() {
        let (claim, now) = (Claim { failures: 1, ..claim() }, SystemClock.now());
        let refused = judge(CaError::Refused(problem()), &claim, now, &OsEntropy);
        let Verdict::Failed(_, next) = refused else { panic!("{refused:?}") };
        assert!(until(now, next) >= Duration::from_secs(540), "{next}");
    }
}
