// SPDX-License-Identifier: Apache-2.0
//! Has a version revoked by the CA that issued it (RFC 8555, 7.6). What was asked for is written down already; killed
//! anywhere, whoever comes next asks the CA again, which says that it is done if it is.

use std::time::Duration;

use cap_core::audit::{Action, Draft, Origin};
use cap_core::certificate::{RevocationReason, leaf_der, may_ask_by_key};
use cap_core::clock::later;
use cap_core::envelope::Slot;
use cap_core::fault;
use cap_core::id::{CertificateId, JobId, VersionId};
use cap_core::issuer::Hold;
use cap_core::job::{Claim, Mandate, Settlement};
use cap_core::limits;
use cap_core::order::{CaError, CaRequest, Order, Outcome, Standing, deferred, may_issue};
use cap_core::problem::{Class, Problem};
use cap_store::{IssuedChain, IssuerRecord, Revoked, StoreError, VersionRecord};

use super::account::{self, IssuerStanding};
use super::{Stop, Trouble, World};

/// How long a revocation waits whose key the CA has refused, or may not be asked by now, where that may pass.
const KEY_AGAIN: Duration = Duration::from_secs(3_600);

/// One run: what is to be revoked, and under which claim.
struct Run<'a> {
    world: &'a World,
    claim: &'a Claim,
    mandate: &'a Mandate,
    issuer: IssuerRecord,
    certificate: CertificateId,
    version: &'a VersionRecord,
    reason: RevocationReason,
    /// DER.
    leaf: Vec<u8>,
}

/// What else has the key of the version that is to be revoked.
enum Besides {
    /// The version in use, which is another one.
    Version,
    /// An order that the CA may have issued for.
    Order,
}

/// Who asks the CA.
#[derive(Debug, Clone, Copy)]
enum By {
    Account,
    Key,
}

pub(super) async fn run(
    world: &World,
    claim: &Claim,
    mandate: &Mandate,
    certificate: CertificateId,
    version: VersionId,
) -> Result<Outcome, Stop> {
    let superseded = Ok(Outcome::Settle(Settlement::Superseded));
    let Some(found) = world.store.certificate(claim.project, certificate).await? else { return superseded };
    let Some(issued) = world.store.issued_chain(certificate, version).await? else { return superseded };
    let IssuedChain { version: record, chain_pem } = issued;
    let Some(wanted) = record.revocation.as_ref().filter(|wanted| wanted.revoked_at.is_none()) else {
        return superseded;
    };
    let issuer = record.issuer.unwrap_or(found.issuer);
    let Some(issuer) = world.store.issuer(claim.project, &issuer.to_string()).await? else {
        return Ok(Outcome::Settle(Settlement::Dead(no_issuer())));
    };
    let Ok(leaf) = leaf_der(&chain_pem) else { return Ok(Outcome::Settle(Settlement::Dead(unreadable()))) };
    let reason = wanted.reason;
    let run = Run { world, claim, mandate, issuer, certificate, version: &record, reason, leaf };
    let by = run.ask().await?;
    let (clock, entropy) = (world.clock.as_ref(), world.entropy.as_ref());
    let revoked =
        Revoked { certificate, version, at: clock.now(), replacement: JobId::generate(clock, entropy) };
    let draft = Draft::new(Action::CertificateRevoked, Some(claim.project), certificate)
        .names(&found.spec.names)
        .detail("version", version.to_string())
        .detail("serial", record.serial.clone())
        .detail("reason", reason.as_str())
        .detail("by", by.as_str());
    Ok(record_it(world, claim, mandate, &revoked, &draft).await?)
}

impl Run<'_> {
    /// Asks by the account, and by the version's own key where no account can.
    async fn ask(&self) -> Result<By, Stop> {
        let request = self.world.ca_request(&self.issuer).await?;
        match (&self.issuer.account_url, self.issuer.why_held()) {
            (Some(url), _) => self.by_account(&request, url).await,
            (None, Some(Hold::Deactivating | Hold::Deactivated)) => self.by_key(&request, None, dead).await,
            // The account may be accepted again, but such a key does not wait for that.
            (None, Some(Hold::Refused)) if self.reason.is_about_key() => {
                self.by_key(&request, None, |problem| self.later(problem)).await
            }
            (None, Some(Hold::Refused) | None) => settled(self.without_account()),
        }
    }

    async fn by_account(&self, request: &CaRequest, url: &str) -> Result<By, Stop> {
        let (world, issuer) = (self.world, &self.issuer);
        let account = match world.ca.account(request, url).await {
            Ok(account) => account,
            Err(error) => return settled(world.passing(self.claim, error, None)),
        };
        let standing = IssuerStanding { world, issuer, request };
        match self.told(account.revoke(&self.leaf, self.reason)).await {
            None => Err(Stop::end(Outcome::Lost)),
            Some(Ok(())) => Ok(By::Account),
            Some(Err(CaError::Account(problem))) => self.not_accepted(&standing, problem).await,
            // A CA that was told of the next key already does not know the one that this was signed with.
            Some(Err(CaError::Refused(problem) | CaError::Gone(problem))) if standing.is_moving().await => {
                settled(world.again(self.claim, problem))
            }
            Some(Err(error)) => settled(not_done(world, self.claim, error)),
        }
    }

    /// What becomes of it when the CA says that the account may not. One that it does not accept at all is put on hold, and the
    /// revocation waits for it; one whose key is being changed is asked again; where it is accepted, the key itself may do.
    async fn not_accepted(&self, standing: &IssuerStanding<'_>, problem: Problem) -> Result<By, Stop> {
        let (world, claim) = (self.world, self.claim);
        if standing.is_moving().await {
            return settled(world.again(claim, problem));
        }
        match standing.is_accepted().await {
            Ok(true) => self.by_key(standing.request, Some(&problem), dead).await,
            Ok(false) => {
                account::halt(world, standing.issuer, &problem).await?;
                settled(world.again(claim, problem))
            }
            Err(CaError::Later { at, .. }) => {
                settled(deferred(claim.setbacks, problem, at, world.clock.now(), world.entropy.as_ref()))
            }
            Err(_) => settled(world.again(claim, problem)),
        }
    }

    /// Asks by the version's own key; where that is refused, `instead` says what becomes of the job. `said` is why the CA refused the
    /// account, if that was asked.
    async fn by_key(
        &self,
        request: &CaRequest,
        said: Option<&Problem>,
        instead: impl FnOnce(Problem) -> Settlement,
    ) -> Result<By, Stop> {
        let world = self.world;
        match self.has_key_besides().await? {
            None => {}
            Some(Besides::Version) => return settled(Settlement::Dead(key_in_use(said))),
            Some(Besides::Order) => return settled(self.later(key_in_flight())),
        }
        let Some((_, sealed)) = world.store.version_material(self.version.id).await? else {
            return settled(Settlement::Superseded);
        };
        let slot = Slot::version_key(self.claim.project, self.version.id);
        let key = world.keyring.open(&slot, &sealed).await?;
        match self.told(world.ca.revoke_by_key(request, &self.leaf, &key, self.reason)).await {
            None => Err(Stop::end(Outcome::Lost)),
            Some(Ok(())) => Ok(By::Key),
            Some(Err(CaError::Account(problem))) => settled(instead(problem.advised(NEITHER))),
            Some(Err(CaError::Refused(problem) | CaError::NeedsPerson(problem) | CaError::Gone(problem))) => {
                settled(instead(problem))
            }
            Some(Err(error)) => settled(not_done(world, self.claim, error)),
        }
    }

    /// What has the version's key besides, that would be revoked with it, as it is now. An order that the CA cannot have issued for gets
    /// another key.
    async fn has_key_besides(&self) -> Result<Option<Besides>, StoreError> {
        let World { store, clock, .. } = self.world;
        let Some(now) = store.certificate(self.claim.project, self.certificate).await? else {
            return Ok(None);
        };
        let affected = now.version.as_ref().map(|current| self.version.beside(current)).unwrap_or_default();
        if !may_ask_by_key(self.reason, affected) {
            return Ok(Some(Besides::Version));
        }
        if self.reason.is_about_key() {
            return Ok(None);
        }
        for id in now.order.iter().chain(&now.watched) {
            let order = store.order(*id).await?;
            let may_issue = |order: &Order| may_issue(&order.state, clock.surely());
            if order.is_some_and(|order| self.version.has_key_of(&order) && may_issue(&order)) {
                return Ok(Some(Besides::Order));
            }
        }
        Ok(None)
    }

    /// Once more in a while: what is in the way passes by itself, or the CA changes its mind.
    fn later(&self, problem: Problem) -> Settlement {
        let problem = problem
            .advised("the key is tried again in an hour, or at once when the revocation is asked for again");
        let now = self.world.clock.now();
        let at = later(now, KEY_AGAIN);
        deferred(self.claim.setbacks, problem, at, now, self.world.entropy.as_ref())
    }

    /// Tells the CA, for no longer than the lease lasts.
    async fn told(&self, act: impl Future<Output = Result<(), CaError>>) -> Option<Result<(), CaError>> {
        fault::point("revoke.before");
        let done = self.world.while_held(self.mandate, act).await;
        fault::point("revoke.after");
        done
    }

    /// What becomes of the job while the CA may accept the account again.
    fn without_account(&self) -> Settlement {
        let issuer = &self.issuer;
        let why = issuer.problem.as_ref().map_or("it registers its account anew", |problem| &problem.detail);
        let detail = format!("issuer {} cannot revoke now, and is asked again: {why}", issuer.name);
        let class = issuer.problem.as_ref().map_or(Class::Transient, |problem| problem.class);
        self.world.again(self.claim, Problem::new(class, "issuer-not-ready", detail))
    }
}

impl By {
    fn as_str(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Key => "certificate-key",
        }
    }
}

fn settled(settlement: Settlement) -> Result<By, Stop> {
    Err(Stop::settled(settlement))
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
        | CaError::Gone(problem) => dead(problem),
    }
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

/// What it means where the CA refuses the key's word as well.
const NEITHER: &str =
    "the CA takes the revocation neither from the issuer's account nor by the certificate's own key";

/// What becomes of the job where the CA will not: that is for a person.
fn dead(problem: Problem) -> Settlement {
    Settlement::Dead(problem.advised(
        "it is not tried again by itself: mend that, and retry the job or ask for the revocation again",
    ))
}

fn key_in_use(said: Option<&Problem>) -> Problem {
    let why = said.map_or_else(
        || "the issuer's account is closed".to_owned(),
        |problem| format!("the issuer's account may not revoke this version ({})", problem.detail),
    );
    let detail = format!(
        "{why}, and its key, which could, is that of the version in use: CAs may revoke that one with it; have the \
         certificate renewed with a new key and retry the job, or revoke this one for keyCompromise"
    );
    Problem::new(Class::Configuration, "key-in-use", detail)
}

fn key_in_flight() -> Problem {
    let detail = "the issuer's account cannot revoke this version, and an order that the CA may have issued for has its key: CAs may revoke \
                  what is issued with it";
    Problem::new(Class::Transient, "key-in-flight", detail)
}

fn no_issuer() -> Problem {
    let detail = "the issuer that issued this version is gone, so nobody knows which CA to ask; revoke it at the CA with the \
                  certificate's own key and another client";
    Problem::new(Class::Configuration, "issuer-missing", detail)
}

fn unreadable() -> Problem {
    let detail = "the stored chain cannot be read, so there is nothing to tell the CA; the database was changed by hand";
    Problem::new(Class::Protocol, "chain-unreadable", detail)
}
