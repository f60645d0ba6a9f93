// SPDX-License-Identifier: Apache-2.0
//! Issues the next version of a certificate: finds the order in flight or begins one, and lets the engine drive it.

use std::time::Duration;

use cap_core::certificate::KeyMaterial;
use cap_core::clock::until;
use cap_core::envelope::KeyOwner;
use cap_core::fault;
use cap_core::id::{CertificateId, OrderId, VersionId};
use cap_core::job::{Claim, Mandate, Settlement};
use cap_core::limits;
use cap_core::order::{Engine, Fuse, Order, OrderKey, OrderState, Outcome, predecessor};
use cap_core::problem::{Class, Problem};
use cap_core::secret::ExposeSecret;
use cap_store::{CertificateRecord, IssuerRecord, OpenOrder, Opened};

use super::{Trouble, World};
use crate::place::{LeavingLedger, Place};

/// How long after an issuer's next attempt a certificate that waits for it looks again.
const ISSUER_LOOK: Duration = Duration::from_secs(1);

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
    let order = match in_flight {
        Some(order) => order,
        None => match begin(world, claim, &certificate, &issuer).await? {
            Opened::Order(order) => *order,
            Opened::Superseded => return superseded,
            Opened::Blown(again_at) => return Ok(Outcome::Settle(blown(world, again_at))),
            Opened::Busy => {
                let detail = "another certificate with the same names is being issued at the same account; this one follows";
                return Ok(Outcome::Settle(
                    world.again(claim, Problem::new(Class::Transient, "order-in-flight", detail)),
                ));
            }
        },
    };
    if let Err(outcome) = place.enter(mandate).await {
        return Ok(outcome);
    }
    let _writer = world.store.writer();
    let account = match world.account(claim, &issuer, &account_url).await? {
        Ok(account) => account,
        Err(settlement) => return Ok(Outcome::Settle(settlement)),
    };
    let engine = Engine {
        account: account.as_ref(),
        ledger: &LeavingLedger { store: &world.store, place },
        keyring: &world.keyring,
        auditor: &world.auditor,
        clock: world.clock.as_ref(),
        entropy: world.entropy.as_ref(),
        claim,
        mandate,
        expires: certificate.version.as_ref().map(|version| version.not_after),
        number: certificate.versions + 1,
    };
    Ok(engine.run(order).await)
}

/// Makes a key, seals it, and writes the order down: all that the CA is then told is stored before it is told.
async fn begin(
    world: &World,
    claim: &Claim,
    certificate: &CertificateRecord,
    issuer: &IssuerRecord,
) -> Result<Opened, Trouble> {
    let names = certificate.spec.names.clone();
    let material = KeyMaterial::generate(certificate.spec.key_type, names.identifiers())?;
    let id = OrderId::generate(world.clock.as_ref(), world.entropy.as_ref());
    let place = ("orders", &*id.to_string(), "key");
    let owner = KeyOwner::Project(certificate.project);
    let sealed = world.keyring.seal(owner, place, 1, material.pkcs8.expose_secret()).await?;
    // A CA that offers no renewal information is not told: the engine leaves it out.
    let replaces = certificate
        .version
        .as_ref()
        .and_then(|version| predecessor(version.issuer, version.ari_id.as_ref(), issuer.id));
    let order = Order {
        id,
        project: certificate.project,
        certificate: certificate.id,
        made_for: certificate.version.as_ref().map(|version| version.id),
        issuer: issuer.id,
        names,
        profile: certificate.spec.profile.clone(),
        key: OrderKey { sealed, csr: material.csr, spki_sha256: material.spki_sha256.to_vec() },
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

/// The same job again when the fuse lets it.
fn blown(world: &World, again_at: jiff::Timestamp) -> Settlement {
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
    let Some(problem) = &issuer.problem else {
        let detail = format!("issuer {name} is registering its account; the certificate follows");
        return world.again(claim, Problem::new(Class::Transient, "issuer-registering", detail));
    };
    let detail = format!("issuer {name} is failing: {}", problem.detail);
    let next = issuer.next_attempt_at.map(|next| until(world.clock.now(), next) + ISSUER_LOOK);
    let after = next.map_or(limits::TRANSIENT_WAIT_MAX, |wait| wait.min(limits::TRANSIENT_WAIT_MAX));
    // Why an issuer fails is known: that is shown at once.
    let problem = Some(Problem::new(problem.class, &problem.kind, detail));
    Settlement::Again { after, problem, setbacks: None }
}
