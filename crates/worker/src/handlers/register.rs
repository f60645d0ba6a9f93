// SPDX-License-Identifier: Apache-2.0
//! Registers an issuer's account. Its key was stored when the issuer was made, so asking twice finds the same account.

use cap_core::audit::{Action, Draft, Origin};
use cap_core::clock::{later, until};
use cap_core::id::IssuerId;
use cap_core::job::{Claim, Settlement};
use cap_core::limits;
use cap_core::order::{CaError, Outcome, attempt_delay, transient_delay};
use cap_store::Registration;

use super::{Trouble, World};

pub(super) async fn run(world: &World, claim: &Claim, issuer: IssuerId) -> Result<Outcome, Trouble> {
    let Some(issuer) = world.store.issuer(claim.project, &issuer.to_string()).await? else {
        return Ok(Outcome::Settle(Settlement::Superseded));
    };
    let request = world.ca_request(&issuer).await?;
    let registered = world.ca.register(&request).await;
    let (now, entropy) = (world.clock.now(), world.entropy.as_ref());
    let failures = claim.failures.saturating_add(1);
    let (registration, draft) = match registered {
        Ok(url) => {
            let draft = Draft::new(Action::IssuerReady, Some(issuer.project), issuer.id)
                .detail("account_url", url.clone());
            (Registration::Ready(url), draft)
        }
        Err(error) => {
            let (problem, delay) = match error {
                CaError::Transient(problem) | CaError::OutOfStep(problem) => {
                    (problem, transient_delay(failures, entropy))
                }
                CaError::Later { problem, at } => {
                    (problem, until(now, at).clamp(limits::TRANSIENT_WAIT_FIRST, limits::RETRY_AFTER_MAX))
                }
                CaError::Refused(problem) | CaError::Gone(problem) => {
                    (problem, attempt_delay(failures, None, now, entropy))
                }
            };
            let draft = Draft::new(Action::IssuerFailed, Some(issuer.project), issuer.id)
                .failed()
                .detail("problem", problem.kind.clone());
            (Registration::Failing(problem, later(now, delay)), draft)
        }
    };
    let audit = world.auditor.row(&Origin::service("worker"), &draft).await?;
    world.store.settle_registration(claim, issuer.id, &registration, now, &audit).await?;
    Ok(match registration {
        Registration::Ready(_) => Outcome::Stored,
        Registration::Failing(problem, _) => Outcome::Failed(problem),
    })
}
