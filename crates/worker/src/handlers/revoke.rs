// SPDX-License-Identifier: Apache-2.0
//! Has a version revoked by the CA that issued it (RFC 8555, 7.6). What was asked for is written down already; killed
//! anywhere, whoever comes next asks the CA again, which says that it is done if it is.

use cap_core::audit::{Action, Draft, Origin};
use cap_core::certificate::leaf_der;
use cap_core::fault;
use cap_core::id::{CertificateId, JobId, VersionId};
use cap_core::issuer::Hold;
use cap_core::job::{Claim, Mandate, Settlement};
use cap_core::limits;
use cap_core::order::{CaError, Outcome, Standing, deferred};
use cap_core::problem::{Class, Problem};
use cap_store::{IssuedChain, IssuerRecord, Revoked, StoreError};

use super::account::{self, IssuerStanding};
use super::{Trouble, World};

pub(super) async fn run(
    world: &World,
    claim: &Claim,
    mandate: &Mandate,
    certificate: CertificateId,
    version: VersionId,
) -> Result<Outcome, Trouble> {
    let superseded = Ok(Outcome::Settle(Settlement::Superseded));
    let Some(found) = world.store.certificate(claim.project, certificate).await? else { return superseded };
    let Some(issued) = world.store.issued_chain(certificate, version).await? else { return superseded };
    let IssuedChain { version: record, chain_pem } = issued;
    let Some(wanted) = record.revocation.as_ref().filter(|wanted| wanted.revoked_at.is_none()) else {
        return superseded;
    };
    let issuer = record.issuer.unwrap_or(found.issuer);
    let Some(issuer) = world.store.issuer(claim.project, &issuer.to_string()).await? else {
        return Ok(Outcome::Settle(Settlement::Dead(no_account())));
    };
    let Some(account_url) = issuer.account_url.clone() else {
        return Ok(Outcome::Settle(without_account(world, claim, &issuer)));
    };
    let Ok(leaf) = leaf_der(&chain_pem) else { return Ok(Outcome::Settle(Settlement::Dead(unreadable()))) };
    let request = world.ca_request(&issuer).await?;
    let account = match world.account(&request, &account_url).await {
        Ok(account) => account,
        Err(error) => return Ok(Outcome::Settle(world.passing(claim, error, None))),
    };
    fault::point("revoke.before");
    let done = world.while_held(mandate, account.revoke(&leaf, wanted.reason)).await;
    fault::point("revoke.after");
    let standing = IssuerStanding { world, issuer: &issuer, request: &request };
    match done {
        None => return Ok(Outcome::Lost),
        Some(Ok(())) => {}
        Some(Err(CaError::Account(problem))) => {
            return Ok(Outcome::Settle(not_accepted(&standing, claim, problem).await?));
        }
        // A CA that was told of the next key already does not know the one that this was signed with.
        Some(Err(CaError::Refused(problem) | CaError::Gone(problem))) if standing.is_moving().await => {
            return Ok(Outcome::Settle(world.again(claim, problem)));
        }
        Some(Err(error)) => return Ok(Outcome::Settle(not_done(world, claim, error))),
    }
    let (clock, entropy) = (world.clock.as_ref(), world.entropy.as_ref());
    let revoked =
        Revoked { certificate, version, at: clock.now(), replacement: JobId::generate(clock, entropy) };
    let draft = Draft::new(Action::CertificateRevoked, Some(claim.project), certificate)
        .names(&found.spec.names)
        .detail("version", version.to_string())
        .detail("serial", record.serial.clone())
        .detail("reason", wanted.reason.as_str());
    record_it(world, claim, mandate, &revoked, &draft).await
}

/// What becomes of the job when the CA did not do it. What it refused it would refuse again: that is for a person.
fn not_done(world: &World, claim: &Claim, error: CaError) -> Settlement {
    match error {
        CaError::Transient(problem) | CaError::OutOfStep(problem) => world.again(claim, problem),
        CaError::Later { problem, at } => {
            deferred(claim.setbacks, problem, at, world.clock.now(), world.entropy.as_ref())
        }
        CaError::Account(problem)
        | CaError::Refused(problem)
        | CaError::NeedsPerson(problem)
        | CaError::Gone(problem) => Settlement::Dead(problem),
    }
}

/// What becomes of it when the CA says that the account may not. One that it does not accept at all is put on hold, and the
/// revocation waits for it; one whose key is being changed is asked again.
async fn not_accepted(
    standing: &IssuerStanding<'_>,
    claim: &Claim,
    problem: Problem,
) -> Result<Settlement, Trouble> {
    let world = standing.world;
    if standing.is_moving().await {
        return Ok(world.again(claim, problem));
    }
    Ok(match standing.is_accepted().await {
        Ok(true) => Settlement::Dead(problem),
        Ok(false) => {
            account::halt(world, standing.issuer, &problem).await?;
            world.again(claim, problem)
        }
        Err(CaError::Later { at, .. }) => {
            deferred(claim.setbacks, problem, at, world.clock.now(), world.entropy.as_ref())
        }
        Err(_) => world.again(claim, problem),
    })
}

/// Writes it down, again and again while the database does not answer and the lease lasts.
async fn record_it(
    world: &World,
    claim: &Claim,
    mandate: &Mandate,
    revoked: &Revoked,
    draft: &Draft,
) -> Result<Outcome, Trouble> {
    let audit = world.auditor.row(&Origin::service("worker"), draft).await?;
    fault::point("record-revoked.before");
    let mut unknown = false;
    loop {
        match world.store.record_revoked(claim, revoked, &audit).await {
            Ok(()) => break,
            // The try before this one was carried out after all, or a peer has the job, to which the CA says that it is done.
            Err(StoreError::Fenced | StoreError::Conflict { .. }) if unknown => break,
            Err(StoreError::Unavailable { .. }) if mandate.holds() => {
                unknown = true;
                world.clock.sleep(limits::PERSIST_WAIT).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
    fault::point("record-revoked.after");
    Ok(Outcome::Stored)
}

/// What becomes of the job while the issuer's account is of no use: one that the CA may accept again is waited for.
fn without_account(world: &World, claim: &Claim, issuer: &IssuerRecord) -> Settlement {
    if matches!(issuer.why_held(), Some(Hold::Deactivating | Hold::Deactivated)) {
        return Settlement::Dead(no_account());
    }
    let why = issuer.problem.as_ref().map_or("it registers its account anew", |problem| &problem.detail);
    let detail = format!("issuer {} cannot revoke now, and is asked again: {why}", issuer.name);
    let class = issuer.problem.as_ref().map_or(Class::Transient, |problem| problem.class);
    world.again(claim, Problem::new(class, "issuer-not-ready", detail))
}

fn no_account() -> Problem {
    let detail = "the issuer that issued this version is gone, or its account is deactivated, so the CA cannot be asked by its \
                  account; revoke it at the CA with the certificate's own key";
    Problem::new(Class::Configuration, "issuer-missing", detail)
}

fn unreadable() -> Problem {
    let detail = "the stored chain cannot be read, so there is nothing to tell the CA; the database was changed by hand";
    Problem::new(Class::Protocol, "chain-unreadable", detail)
}
