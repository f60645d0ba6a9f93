// SPDX-License-Identifier: Apache-2.0
//! Issues the next version of a certificate: finds the order in flight or begins one, and lets the engine drive it.

use std::sync::Arc;
use std::time::Duration;

use cap_core::clock::{later, until};
use cap_core::envelope::KeyOwner;
use cap_core::fault::{self, Mutant};
use cap_core::id::{CertificateId, OrderId, VersionId};
use cap_core::issuer::IssuerStatus;
use cap_core::job::{Claim, Mandate, Settlement};
use cap_core::limits;
use cap_core::name::Label;
use cap_core::order::{
    Bucket, Engine, Fuse, Order, OrderKey, OrderState, Outcome, buckets, is_doubted, may_issue, predecessor,
};
use cap_core::problem::{Class, Problem};
use cap_core::secret::ExposeSecret;
use cap_store::{CertificateRecord, IssuerRecord, OpenOrder, Opened};
use jiff::Timestamp;

use super::account::{self, IssuerStanding};
use super::aside::{Aside, Reviewed};
use super::key::{self, Made};
use super::{Trouble, World, unreached};
use crate::place::{LeavingLedger, Place};

/// How long after an issuer's next attempt a certificate that waits for it looks again.
const ISSUER_LOOK: Duration = Duration::from_secs(1);
/// How long a certificate waits that an issuer is to issue which will never issue again: it is shown what it needs, and looks
/// now and then all the same, as every certificate does.
const DEACTIVATED_LOOK: Duration = Duration::from_secs(3_600);

pub(super) async fn run(
    world: &World,
    claim: &Claim,
    mandate: &Mandate,
    place: &Place,
    certificate: CertificateId,
    made_for: Option<VersionId>,
) -> Result<Outcome, Trouble> {
    let superseded = Ok(Outcome::Settle(Settlement::Superseded));
    let Some(certificate) = world.store.certificate(claim.project, certificate).await? else {
        return superseded;
    };
    if certificate.version.as_ref().map(|version| version.id) != made_for {
        return superseded;
    }
    let Some(issuer) = world.store.issuer(claim.project, &certificate.issuer.to_string()).await? else {
        let detail =
            format!("issuer {} is gone; request the certificate again from another one", certificate.issuer);
        return Ok(Outcome::Settle(
            world.again(claim, Problem::new(Class::Configuration, "issuer-missing", detail)),
        ));
    };
    // An account that was registered once serves while its contacts are being changed, and when they are refused.
    let Some(account_url) = issuer.account_url.clone() else {
        return Ok(Outcome::Settle(wait_for(world, claim, &issuer)));
    };
    // The certificate names the order in flight: without one there is nothing to take over.
    let in_flight = match certificate.order {
        Some(_) => world.store.take_order(certificate.id, claim.fence).await?,
        None => None,
    };
    // Each order keeps the limits that it met itself, and what would be placed those that others met.
    if let Some(order) = &in_flight
        && let Some(settlement) =
            world.parked(claim, issuer.id, &[Bucket::Order(order.id)], |_| false).await?
    {
        return Ok(Outcome::Settle(settlement));
    }
    let before = in_flight.as_ref().map(|order| order.id);
    let aside = Aside { world, claim, mandate, certificate: &certificate };
    let Reviewed { in_flight, urls: watched, is_watching } =
        match aside.review(&issuer, &account_url, in_flight).await? {
            Ok(reviewed) => reviewed,
            Err(outcome) => return Ok(outcome),
        };
    if claim.is_last
        && let Some(settlement) = end_last(world, claim, in_flight.as_ref(), is_watching).await?
    {
        return Ok(Outcome::Settle(settlement));
    }
    let is_placed = in_flight.as_ref().is_some_and(|order| order.state.placed().is_some());
    // One that the CA refused for what it replaces is an order like any other.
    let is_doubted = is_doubted(claim.failures, certificate.problem.as_ref());
    let replaces = in_flight.as_ref().map_or(!is_doubted, |order| order.state.replaces().is_some());
    let goes_past = |until| certificate.goes_past_limit(until, world.clock.now(), replaces);
    if !is_placed
        && let Some(settlement) =
            world.parked(claim, issuer.id, &buckets(&certificate.spec.names), goes_past).await?
    {
        return Ok(Outcome::Settle(settlement));
    }
    let order = match in_flight {
        Some(order) if fault::is(Mutant::LateKey) => {
            let made = key::make(world, &certificate).await?;
            Order { key: seal(world, &certificate, order.id, made).await?, ..order }
        }
        Some(order) => order,
        None => {
            let made = tokio::select! {
                made = key::make(world, &certificate) => made?,
                outcome = world.ended(mandate) => return Ok(outcome),
            };
            match begin(world, claim, &certificate, &issuer, made).await? {
                Opened::Order(order) => *order,
                Opened::Superseded => return superseded,
                Opened::Blown(again_at) => return Ok(Outcome::Settle(blown(world, again_at))),
                Opened::Busy(holder) => return Ok(Outcome::Settle(busy(world, claim, holder))),
            }
        }
    };
    // What was in the way of one order says nothing of another, which the CA has issued for after all.
    let is_another = before.is_some_and(|before| before != order.id);
    let claim = &Claim { setbacks: claim.setbacks.filter(|_| !is_another), ..claim.clone() };
    if let Err(outcome) = place.enter(claim.project_lane(), mandate).await {
        return Ok(outcome);
    }
    let _writer = world.store.writer();
    let request = world.ca_request(&issuer).await?;
    // Where the CA cannot be reached each act fails like that, and what then becomes of the order is said in one place.
    let account = match world.account(&request, &account_url).await {
        Ok(account) => account,
        Err(error) => Arc::new(unreached::Account::new(error)),
    };
    let engine = Engine {
        account: account.as_ref(),
        standing: &IssuerStanding { world, issuer: &issuer, request: &request },
        ledger: &LeavingLedger { store: &world.store, place },
        keyring: &world.keyring,
        auditor: &world.auditor,
        clock: world.clock.as_ref(),
        entropy: world.entropy.as_ref(),
        claim,
        mandate,
        expires: certificate.version.as_ref().map(|version| version.not_after),
        in_use: certificate.version.as_ref().map(|version| &*version.fingerprint_sha256),
        number: certificate.versions + 1,
        preferred_chain: certificate.spec.preferred_chain.as_ref(),
        watched: &watched,
    };
    if order.key.kept && certificate.new_key && !may_issue(&order.state, world.clock.surely()) {
        return Ok(engine.refuse_key(&order).await);
    }
    Ok(match engine.run(order).await {
        Outcome::Halted(problem) => {
            let next = account::halt(world, &issuer, &problem).await?;
            Outcome::Settle(held_up(world, &issuer.name, &problem, Some(next)))
        }
        outcome => {
            show_on_issuer(world, &issuer, &outcome).await;
            outcome
        }
    })
}

/// What the CA says against how it is asked, by any certificate, is shown on the issuer until an order goes through: whoever looks after
/// the issuer knows what its CA offers and wants. The job is settled by now, so a fault here changes nothing.
async fn show_on_issuer(world: &World, issuer: &IssuerRecord, outcome: &Outcome) {
    let problem = match outcome {
        Outcome::Failed(problem) if problem.class != Class::Configuration => return,
        Outcome::Failed(problem) => Some(problem),
        Outcome::Stored => None,
        _ => return,
    };
    if let Err(error) = world.store.show_on_issuer(issuer, problem).await {
        tracing::warn!(issuer = %issuer.id, %error, "what the CA says of the issuer could not be shown on it");
    }
}

/// Seals the key and writes the order down: all that the CA is then told is stored before it is told.
async fn begin(
    world: &World,
    claim: &Claim,
    certificate: &CertificateRecord,
    issuer: &IssuerRecord,
    made: Made,
) -> Result<Opened, Trouble> {
    let id = OrderId::generate(world.clock.as_ref(), world.entropy.as_ref());
    let key = seal(world, certificate, id, made).await?;
    // A CA that offers no renewal information is not told: the engine leaves it out.
    let replaces = certificate
        .version
        .as_ref()
        .filter(|_| !is_doubted(claim.failures, certificate.problem.as_ref()))
        .and_then(|version| predecessor(version.issuer, version.ari_id.as_ref(), issuer.id));
    let order = Order {
        id,
        project: certificate.project,
        certificate: certificate.id,
        made_for: certificate.version.as_ref().map(|version| version.id),
        issuer: issuer.id,
        names: certificate.spec.names.clone(),
        profile: certificate.spec.profile.clone(),
        key,
        fence: claim.fence,
        revision: 0,
        state: OrderState::Keyed { replaces },
    };
    fault::point("open.before");
    let life = certificate.version.as_ref().map(|version| until(version.not_before, version.not_after));
    let fuse = Fuse::new(world.fuse, life);
    let opened = world.store.open_order(&OpenOrder { order, fuse, at: world.clock.now() }).await?;
    fault::point("open.after");
    Ok(opened)
}

/// The key, sealed for its place in the order.
async fn seal(
    world: &World,
    certificate: &CertificateRecord,
    order: OrderId,
    Made { material, kept }: Made,
) -> Result<OrderKey, Trouble> {
    let place = ("orders", &*order.to_string(), "key");
    let owner = KeyOwner::Project(certificate.project);
    let sealed = world.keyring.seal(owner, place, 1, material.pkcs8.expose_secret()).await?;
    Ok(OrderKey { sealed, csr: material.csr, spki_sha256: material.spki_sha256.to_vec(), kept })
}

/// The same job again when another certificate's order is over.
fn busy(world: &World, claim: &Claim, holder: Option<CertificateId>) -> Settlement {
    let holder = holder.map_or_else(|| "another certificate".to_owned(), |id| format!("certificate {id}"));
    let detail = format!(
        "{holder} has an order in flight for the same names at the same account; this certificate follows when it is over"
    );
    world.again(claim, Problem::new(Class::Transient, "order-in-flight", detail))
}

/// Ends a renewal that is to begin nothing more, and its order; not where the CA may have issued for that. What was set aside is
/// waited for.
async fn end_last(
    world: &World,
    claim: &Claim,
    in_flight: Option<&Order>,
    is_watching: bool,
) -> Result<Option<Settlement>, Trouble> {
    if let Some(order) = in_flight {
        if order.state.may_be_finalized() {
            return Ok(None);
        }
        if !world.store.end_unwanted(claim, order, world.clock.now()).await? {
            // Somebody wants it again.
            return Ok(Some(Settlement::HandedBack));
        }
    }
    if !is_watching {
        return Ok(Some(Settlement::Superseded));
    }
    let after = limits::POLL_WAIT_MAX;
    let problem = Some(Problem::waiting(later(world.clock.now(), after)));
    Ok(Some(Settlement::Again { after, problem, setbacks: None }))
}

/// The same job again when the fuse lets it.
fn blown(world: &World, again_at: Timestamp) -> Settlement {
    let detail = format!(
        "{} orders for these names were begun lately, and no more are before {again_at}: something asks for them again and \
         again; find what deletes, makes or renews certificates for these names in this project, or raise \
         CAP_ISSUANCE_FUSE of the workers if that is meant",
        world.fuse
    );
    let problem = Some(Problem::new(Class::Configuration, "issuance-fuse", detail));
    Settlement::Again { after: until(world.clock.now(), again_at), problem, setbacks: None }
}

/// The same job again: after a moment while the issuer registers, and soon after its next attempt where it fails.
fn wait_for(world: &World, claim: &Claim, issuer: &IssuerRecord) -> Settlement {
    let name = &issuer.name;
    if matches!(issuer.shown_status(), IssuerStatus::Deactivating | IssuerStatus::Deactivated) {
        let detail = format!(
            "issuer {name} is deactivated and issues no more; request the certificate again from another issuer"
        );
        let problem = Some(Problem::new(Class::Configuration, "issuer-deactivated", detail));
        return Settlement::Again { after: DEACTIVATED_LOOK, problem, setbacks: None };
    }
    let Some(problem) = &issuer.problem else {
        let detail = format!("issuer {name} is registering its account; the certificate follows");
        return world.again(claim, Problem::new(Class::Transient, "issuer-registering", detail));
    };
    held_up(world, name, problem, issuer.next_attempt_at)
}

/// The same job again, soon after the next attempt of an issuer that is failing.
fn held_up(world: &World, name: &Label, problem: &Problem, next: Option<Timestamp>) -> Settlement {
    let detail = format!("issuer {name} is failing: {}", problem.detail);
    let next = next.map(|next| until(world.clock.now(), next) + ISSUER_LOOK);
    let after = next.map_or(limits::TRANSIENT_WAIT_MAX, |wait| wait.min(limits::TRANSIENT_WAIT_MAX));
    // Why an issuer fails is known: that is shown at once.
    let problem = Some(Problem::new(problem.class, &problem.kind, detail));
    Settlement::Again { after, problem, setbacks: None }
}
