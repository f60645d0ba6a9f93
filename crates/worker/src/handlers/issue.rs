// SPDX-License-Identifier: Apache-2.0
//! Issues the next version of a certificate: finds the order in flight or begins one, and lets the engine drive it.

use std::sync::Arc;
use std::time::Duration;

use cap_core::clock::{later, until};
use cap_core::envelope::Slot;
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
use super::{Stop, Trouble, World, unreached};
use crate::place::{LeavingLedger, Place};

/// How long after an issuer's next attempt a certificate that waits for it looks again.
const ISSUER_LOOK: Duration = Duration::from_secs(1);
/// How long a certificate waits that an issuer is to issue which will never issue again: it is shown what it needs, and looks
/// now and then all the same, as every certificate does.
const DEACTIVATED_LOOK: Duration = Duration::from_secs(3_600);

/// What an issuance is about, as it was when its run began.
struct Ground {
    certificate: CertificateRecord,
    issuer: IssuerRecord,
    account_url: String,
}

pub(super) async fn run(
    world: &World,
    claim: &Claim,
    mandate: &Mandate,
    place: &Place,
    certificate: CertificateId,
    made_for: Option<VersionId>,
) -> Result<Outcome, Stop> {
    let ground = ground(world, claim, certificate, made_for).await?;
    let in_flight = in_flight(world, claim, &ground).await?;
    let before = in_flight.as_ref().map(|order| order.id);
    let aside = Aside { world, claim, mandate, certificate: &ground.certificate };
    let reviewed = aside.review(&ground.issuer, &ground.account_url, in_flight).await?;
    let Reviewed { in_flight, urls: watched, is_watching } = reviewed;
    if claim.is_last {
        end_last(world, claim, in_flight.as_ref(), is_watching).await?;
    }
    let order = order(world, claim, mandate, &ground, in_flight).await?;
    // What was in the way of one order says nothing of another, which the CA has issued for after all.
    let is_another = before.is_some_and(|before| before != order.id);
    let claim = &Claim { setbacks: claim.setbacks.filter(|_| !is_another), ..claim.clone() };
    place.enter(claim.project_lane(), mandate).await.map_err(Stop::end)?;
    let _writer = world.store.writer();
    Ok(drive(world, claim, mandate, place, &ground, order, &watched).await?)
}

/// The certificate and whoever issues it, unless there is nothing to issue, or nobody who can.
async fn ground(
    world: &World,
    claim: &Claim,
    certificate: CertificateId,
    made_for: Option<VersionId>,
) -> Result<Ground, Stop> {
    let superseded = || Stop::settled(Settlement::Superseded);
    let found = world.store.certificate(claim.project, certificate).await?;
    let certificate = found.ok_or_else(superseded)?;
    if certificate.version.as_ref().map(|version| version.id) != made_for {
        return Err(superseded());
    }
    let Some(issuer) = world.store.issuer(claim.project, &certificate.issuer.to_string()).await? else {
        let detail =
            format!("issuer {} is gone; request the certificate again from another one", certificate.issuer);
        let problem = Problem::new(Class::Configuration, "issuer-missing", detail);
        return Err(Stop::settled(world.again(claim, problem)));
    };
    // An account that was registered once serves while its contacts are being changed, and when they are refused.
    let account_url = issuer.account_url.clone();
    let account_url = account_url.ok_or_else(|| Stop::settled(wait_for(world, claim, &issuer)))?;
    Ok(Ground { certificate, issuer, account_url })
}

/// The order in flight, if there is one, which the certificate names: without that there is nothing to take over. Each order keeps the
/// limits that it met itself.
async fn in_flight(world: &World, claim: &Claim, ground: &Ground) -> Result<Option<Order>, Stop> {
    if ground.certificate.order.is_none() {
        return Ok(None);
    }
    let order = world.store.take_order(ground.certificate.id, claim.fence).await?;
    if let Some(order) = &order {
        let own = [Bucket::Order(order.id)];
        world.parked(claim, ground.issuer.id, &own, |_| false).await?.map_or(Ok(()), stop_for)?;
    }
    Ok(order)
}

/// The order to go on with: the one in flight, or one that is begun now. What is not placed yet keeps the limits that others met.
async fn order(
    world: &World,
    claim: &Claim,
    mandate: &Mandate,
    ground: &Ground,
    in_flight: Option<Order>,
) -> Result<Order, Stop> {
    let Ground { certificate, issuer, .. } = ground;
    if in_flight.as_ref().is_none_or(|order| order.state.placed().is_none()) {
        // One that the CA refused for what it replaces is an order like any other.
        let is_doubted = is_doubted(claim.failures, certificate.problem.as_ref());
        let replaces = in_flight.as_ref().map_or(!is_doubted, |order| order.state.replaces().is_some());
        let goes_past = |until| certificate.goes_past_limit(until, world.clock.now(), replaces);
        let buckets = buckets(&certificate.spec.names);
        world.parked(claim, issuer.id, &buckets, goes_past).await?.map_or(Ok(()), stop_for)?;
    }
    match in_flight {
        Some(order) if fault::is(Mutant::LateKey) => {
            let made = key::make(world, certificate).await?;
            return Ok(Order { key: seal(world, certificate, order.id, made).await?, ..order });
        }
        Some(order) => return Ok(order),
        None => {}
    }
    let made = tokio::select! {
        made = key::make(world, certificate) => made?,
        outcome = world.ended(mandate) => return Err(Stop::end(outcome)),
    };
    Err(Stop::settled(match begin(world, claim, certificate, issuer, made).await? {
        Opened::Order(order) => return Ok(*order),
        Opened::Superseded => Settlement::Superseded,
        Opened::Blown(again_at) => blown(world, again_at),
        Opened::Busy(holder) => busy(world, claim, holder),
    }))
}

/// Ends the run: a limit is kept.
fn stop_for(limit: Settlement) -> Result<(), Stop> {
    Err(Stop::settled(limit))
}

/// Has the engine drive the order as far as it goes now.
async fn drive(
    world: &World,
    claim: &Claim,
    mandate: &Mandate,
    place: &Place,
    Ground { certificate, issuer, account_url }: &Ground,
    order: Order,
    watched: &[String],
) -> Result<Outcome, Trouble> {
    let request = world.ca_request(issuer).await?;
    // Where the CA cannot be reached each act fails like that, and what then becomes of the order is said in one place.
    let account = match world.ca.account(&request, account_url).await {
        Ok(account) => account,
        Err(error) => Arc::new(unreached::Account::new(error)),
    };
    let engine = Engine {
        account: account.as_ref(),
        standing: &IssuerStanding { world, issuer, request: &request },
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
        set_aside: watched,
    };
    if order.key.kept && certificate.new_key && !may_issue(&order.state, world.clock.surely()) {
        return Ok(engine.refuse_key(&order).await);
    }
    Ok(match engine.run(order).await {
        Outcome::Halted(problem) => {
            let next = account::halt(world, issuer, &problem).await?;
            Outcome::Settle(held_up(world, &issuer.name, &problem, Some(next)))
        }
        outcome => {
            show_on_issuer(world, issuer, &outcome).await;
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
        Outcome::Settle(_)
        | Outcome::Parked(..)
        | Outcome::Halted(_)
        | Outcome::Buried(_)
        | Outcome::Lost => {
            return;
        }
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
    let slot = Slot::order_key(certificate.project, order);
    let sealed = world.keyring.seal(&slot, material.pkcs8.expose_secret()).await?;
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
) -> Result<(), Stop> {
    if let Some(order) = in_flight {
        if order.state.may_be_finalized() {
            return Ok(());
        }
        if !world.store.end_unwanted(claim, order, world.clock.now()).await? {
            // Somebody wants it again.
            return Err(Stop::settled(Settlement::HandedBack));
        }
    }
    if !is_watching {
        return Err(Stop::settled(Settlement::Superseded));
    }
    let after = limits::POLL_WAIT_MAX;
    let problem = Problem::waiting(later(world.clock.now(), after));
    Err(Stop::settled(Settlement::after(after, Some(problem))))
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
    Settlement::after(until(world.clock.now(), again_at), problem)
}

/// The same job again: after a moment while the issuer registers, and soon after its next attempt where it fails.
fn wait_for(world: &World, claim: &Claim, issuer: &IssuerRecord) -> Settlement {
    let name = &issuer.name;
    if matches!(issuer.shown_status(), IssuerStatus::Deactivating | IssuerStatus::Deactivated) {
        let detail = format!(
            "issuer {name} is deactivated and issues no more; request the certificate again from another issuer"
        );
        let problem = Some(Problem::new(Class::Configuration, "issuer-deactivated", detail));
        return Settlement::after(DEACTIVATED_LOOK, problem);
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
    Settlement::after(after, problem)
}
