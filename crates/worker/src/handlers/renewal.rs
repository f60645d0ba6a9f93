// SPDX-License-Identifier: Apache-2.0
//! Asks an issuer's CA when it wants certificates renewed (RFC 9773), a page of certificates at a time, and writes down what
//! it said.

use cap_core::id::IssuerId;
use cap_core::job::{Claim, Mandate, Settlement};
use cap_core::limits::{ARI_FAULTS, ARI_LOOKS, ARI_PAGE, ARI_PAGES, PERSIST_WAIT};
use cap_core::order::{CaAccount, CaError, Outcome};
use cap_core::renewal_info::judge;
use cap_store::{DueLook, Looked, StoreError};
use futures_util::{StreamExt, stream};

use super::{Trouble, World};

pub(super) async fn run(
    world: &World,
    claim: &Claim,
    mandate: &Mandate,
    issuer: IssuerId,
) -> Result<Outcome, Trouble> {
    let superseded = Ok(Outcome::Settle(Settlement::Superseded));
    let Some(issuer) = world.store.issuer(claim.project, &issuer.to_string()).await? else {
        return superseded;
    };
    let Some(account_url) = &issuer.account_url else { return superseded };
    let request = world.ca_request(&issuer).await?;
    let account = match world.ca.account(&request, account_url).await {
        Ok(account) => account,
        Err(error) => return Ok(Outcome::Settle(world.passing(claim, error, None))),
    };
    for _ in 0..ARI_PAGES {
        let (due, is_full) = world.store.due_renewal_looks(issuer.id, world.clock.now(), ARI_PAGE).await?;
        let page = tokio::select! {
            page = looks(world, account.as_ref(), due) => page,
            outcome = world.ended(mandate) => return Ok(outcome),
        };
        tracing::debug!(issuer = %issuer.id, looks = page.found.len(), "asked when certificates are to be renewed");
        record(world, mandate, &page.found).await?;
        match page.broken {
            Some(error) => return Ok(Outcome::Settle(world.passing(claim, error, None))),
            None if is_full => {}
            None => return Ok(Outcome::Settle(Settlement::Succeeded)),
        }
    }
    // The next issuer has its turn first.
    let after = std::time::Duration::ZERO;
    Ok(Outcome::Settle(Settlement::after(after, None)))
}

/// What a page of looks found, and why the rest of it was left.
#[derive(Default)]
struct Page {
    found: Vec<(DueLook, Looked)>,
    broken: Option<CaError>,
}

/// Looks at each that is due, a few at once. A CA that asks to be left alone, or that fails several times in a row, is: what was
/// not looked at stays due.
async fn looks(world: &World, account: &dyn CaAccount, due: Vec<DueLook>) -> Page {
    let looks = due.into_iter().map(|due| look(world, account, due));
    let mut looks = stream::iter(looks).buffered(ARI_LOOKS);
    let (mut page, mut faults) = (Page::default(), 0);
    while let Some((due, looked, error)) = looks.next().await {
        page.found.push((due, looked));
        faults = match error {
            Some(error @ (CaError::Later { .. } | CaError::NeedsPerson(_))) => {
                page.broken = Some(error);
                break;
            }
            Some(error @ (CaError::Transient(_) | CaError::OutOfStep(_))) if faults + 1 >= ARI_FAULTS => {
                page.broken = Some(error);
                break;
            }
            Some(CaError::Transient(_) | CaError::OutOfStep(_)) => faults + 1,
            Some(CaError::Refused(_) | CaError::Gone(_) | CaError::Account(_)) | None => 0,
        };
    }
    page
}

/// One look: what was made of it, and what went wrong if something did.
async fn look(world: &World, account: &dyn CaAccount, due: DueLook) -> (DueLook, Looked, Option<CaError>) {
    let Some(id) = due.id.as_ref().filter(|_| due.watched.not_after > world.clock.now()) else {
        return (due, Looked::NeverAgain, None);
    };
    let said = account.renewal_info(id).await;
    let error = said.as_ref().err().cloned();
    let now = world.clock.now();
    let judged = judge(said, &due.watched, now, world.entropy.as_ref());
    let (certificate, version) = (due.certificate, due.version);
    match (&judged.suggestion, &judged.problem) {
        (Some(suggestion), _) if judged.is_new => {
            let (start, end) = (suggestion.window.start(), suggestion.window.end());
            let explanation_url = judged.explanation_url.as_deref().unwrap_or("none");
            tracing::info!(
                %certificate, %version, %start, %end, renew_at = %suggestion.renew_at, explanation_url,
                "the CA suggests when to renew"
            );
        }
        (_, Some(problem)) => {
            tracing::info!(%certificate, %version, %problem, "renewal information cannot be used")
        }
        _ => {}
    }
    (due, Looked::Judged(now, judged), error)
}

/// Writes it down, again and again while the database does not answer and the lease lasts.
async fn record(world: &World, mandate: &Mandate, found: &[(DueLook, Looked)]) -> Result<(), StoreError> {
    loop {
        match world.store.record_renewal_looks(found).await {
            Err(StoreError::Unavailable { .. }) if mandate.holds() => world.clock.sleep(PERSIST_WAIT).await,
            result => return result,
        }
    }
}
