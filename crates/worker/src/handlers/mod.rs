// SPDX-License-Identifier: Apache-2.0
//! What is done for each kind of job, and how every run is settled.

mod account;
mod aside;
mod drift;
mod issue;
mod key;
mod limit;
mod renewal;
mod revoke;
mod unreached;

use std::sync::Arc;
use std::time::Duration;

use cap_core::audit::Auditor;
use cap_core::clock::{Clock, later};
use cap_core::drift::Lookout;
use cap_core::entropy::{self, Entropy};
use cap_core::envelope::{Keyring, KeyringError, Slot};
use cap_core::job::{Cause, Claim, Mandate, Settlement, Work};
use cap_core::limits;
use cap_core::order::{
    CaError, CaRequest, CertificateAuthority, Outcome, Park, deferred, limit_wait_max, postponed,
};
use cap_core::problem::{Class, Problem};
use cap_store::{IssuerRecord, Store, StoreError};
use jiff::Timestamp;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::place::Place;

/// Everything that handlers reach the world through.
pub struct World {
    /// The database.
    pub store: Store,
    /// The CAs.
    pub ca: Arc<dyn CertificateAuthority>,
    /// What other hosts serve.
    pub lookout: Arc<dyn Lookout>,
    /// Seals and opens.
    pub keyring: Arc<Keyring>,
    /// Makes audit entries.
    pub auditor: Auditor,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Luck.
    pub entropy: Arc<dyn Entropy>,
    /// Orders for the same names after which no more are begun for a while.
    pub fuse: u32,
}

/// Runs a claim to its end; answers the outcome as counted.
pub(crate) async fn run(world: &World, claim: &Claim, mandate: &Mandate, place: &Place) -> &'static str {
    if mandate.is_stopping() {
        return world.settle(claim, mandate, &Settlement::HandedBack).await.unwrap_or("handed_back");
    }
    let _alone = match alone(world, claim, mandate).await {
        Ok(turn) => turn,
        Err(settlement) => return world.settle(claim, mandate, &settlement).await.unwrap_or("handed_back"),
    };
    if claim.lost >= limits::LOST_CLAIMS {
        return world.settle(claim, mandate, &Settlement::Dead(deadly(claim))).await.unwrap_or("dead");
    }
    let outcome = match handled(world, claim, mandate, place).await {
        Ok(outcome) => outcome,
        Err(Trouble::Store(StoreError::Fenced)) => {
            world.let_go(claim).await;
            Outcome::Lost
        }
        Err(trouble) => {
            tracing::warn!(job = %claim.job, error = %trouble, "the run ended before its work could");
            Outcome::Settle(world.again(claim, trouble.shown()))
        }
    };
    log(claim, &outcome);
    let may_run_again = may_run_again(&outcome);
    let word = world.conclude(claim, mandate, outcome).await;
    if may_run_again && !claim.work.is_look() {
        world.show_heeded(claim).await;
    }
    word
}

/// Has the work done by whoever does its kind.
async fn handled(world: &World, claim: &Claim, mandate: &Mandate, place: &Place) -> Result<Outcome, Trouble> {
    match &claim.work {
        Work::Issue { certificate, made_for } => {
            Stop::outcome(issue::run(world, claim, mandate, place, *certificate, *made_for).await)
        }
        Work::RegisterIssuer { issuer } => account::run(world, claim, mandate, place, *issuer).await,
        Work::DriftScan { certificate } => drift::run(world, claim, mandate, *certificate).await,
        Work::RenewalLook { issuer } => renewal::run(world, claim, mandate, *issuer).await,
        Work::Revoke { certificate, version } => {
            Stop::outcome(revoke::run(world, claim, mandate, *certificate, *version).await)
        }
    }
}

fn log(claim: &Claim, outcome: &Outcome) {
    let (job, kind) = (claim.job, claim.work.kind());
    match outcome {
        Outcome::Failed(problem) | Outcome::Buried(problem) => {
            tracing::warn!(%job, kind, %problem, "the attempt failed");
        }
        Outcome::Settle(Settlement::Again { problem: Some(problem), after, .. })
        | Outcome::Parked(Settlement::Again { problem: Some(problem), after, .. }, _) => {
            tracing::info!(%job, kind, %problem, ?after, "the job runs again");
        }
        Outcome::Stored => tracing::info!(%job, kind, attempt = claim.attempt, "done"),
        Outcome::Settle(_) | Outcome::Parked(..) | Outcome::Halted(_) | Outcome::Lost => {
            tracing::debug!(%job, kind, outcome = word(outcome), "the run is over");
        }
    }
}

/// Whether the job may run again by a wish of before it was settled.
fn may_run_again(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Settle(settlement) | Outcome::Parked(settlement, _) => settlement.yields_to_wish(),
        Outcome::Failed(_) | Outcome::Halted(_) => true,
        Outcome::Stored | Outcome::Buried(_) | Outcome::Lost => false,
    }
}

/// Why a handler goes no further.
pub(crate) enum Stop {
    /// The run is over like this.
    End(Box<Outcome>),
    /// Something kept it from its work.
    Trouble(Trouble),
}

impl Stop {
    fn end(outcome: Outcome) -> Self {
        Self::End(Box::new(outcome))
    }

    fn settled(settlement: Settlement) -> Self {
        Self::end(Outcome::Settle(settlement))
    }

    fn outcome(run: Result<Outcome, Self>) -> Result<Outcome, Trouble> {
        match run {
            Ok(outcome) => Ok(outcome),
            Err(Self::End(outcome)) => Ok(*outcome),
            Err(Self::Trouble(trouble)) => Err(trouble),
        }
    }
}

impl<T: Into<Trouble>> From<T> for Stop {
    fn from(trouble: T) -> Self {
        Self::Trouble(trouble.into())
    }
}

/// What kept a handler from its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    #[error(transparent)]
    Audit(#[from] cap_core::audit::CannotAudit),
    #[error(transparent)]
    Key(#[from] cap_core::certificate::CannotMakeKey),
}

impl Trouble {
    /// What whoever looks at the certificate is told: the cause, with names of hosts in it, stays in the log.
    fn shown(&self) -> Problem {
        let (class, kind, detail) = match self {
            Self::Store(StoreError::Corrupt { .. } | StoreError::Refused { .. }) => {
                (Class::Protocol, "record-unreadable", "a record cannot be used")
            }
            Self::Store(_) => {
                (Class::Transient, "database-unavailable", "the database did not do what was asked")
            }
            Self::Keyring(_) => (Class::Transient, "kek-unavailable", "a key could not be opened or sealed"),
            Self::Audit(_) => (Class::Transient, "audit-unavailable", "the audit entry could not be made"),
            Self::Key(_) => (Class::Transient, "key-generation", "a private key could not be made"),
        };
        let detail = format!("{detail}; the same step is tried again, and the worker's log says why");
        Problem::new(class, kind, detail)
    }
}

impl World {
    /// The request that reaches the issuer's CA, its account's key opened.
    async fn ca_request(&self, issuer: &IssuerRecord) -> Result<CaRequest, KeyringError> {
        let slot = Slot::account_key(issuer.project, issuer.id);
        let key = self.keyring.open(&slot, &issuer.account_key).await?;
        Ok(CaRequest {
            issuer: issuer.id,
            spec: issuer.spec.clone(),
            account_key: Arc::new(key),
            external: None,
        })
    }

    /// The same job again after what a CA said that ended a run which only looks: no later than after a part of the life that is
    /// left of what `expires` then.
    fn passing(&self, claim: &Claim, error: CaError, expires: Option<Timestamp>) -> Settlement {
        let (asked, problem) = match error {
            CaError::Later { problem, at } => (Some(at), problem),
            CaError::Transient(problem)
            | CaError::OutOfStep(problem)
            | CaError::Refused(problem)
            | CaError::Account(problem)
            | CaError::NeedsPerson(problem)
            | CaError::Gone(problem) => (problem.retry_at, problem),
        };
        let Some(at) = asked else { return self.again(claim, problem) };
        let now = self.clock.now();
        let at = at.min(later(now, limit_wait_max(expires, now)));
        deferred(claim.setbacks, problem, at, now, self.entropy.as_ref())
    }

    /// Writes a fact down, again and again while the database does not answer and the lease lasts. Where a try before was
    /// carried out after all, or a peer has the job, it is over here all the same.
    async fn persisted<F: Future<Output = Result<(), StoreError>>>(
        &self,
        mandate: &Mandate,
        write: impl Fn() -> F,
    ) -> Result<(), StoreError> {
        let mut unknown = false;
        loop {
            match write().await {
                Err(StoreError::Fenced) if unknown => return Ok(()),
                Err(StoreError::Unavailable { .. }) if mandate.holds() => {
                    unknown = true;
                    self.clock.sleep(limits::PERSIST_WAIT).await;
                }
                result => return result,
            }
        }
    }

    /// Waits until the worker stops or the lease is lost: a run that only looks writes nothing down then.
    async fn ended(&self, mandate: &Mandate) -> Outcome {
        loop {
            if !mandate.holds() {
                return Outcome::Lost;
            }
            if mandate.is_stopping() {
                return Outcome::Settle(Settlement::HandedBack);
            }
            self.clock.sleep(limits::MANDATE_LOOK).await;
        }
    }

    /// Does what changes something at a CA for no longer than the lease lasts: nothing where it is lost.
    async fn while_held<T>(&self, mandate: &Mandate, act: impl Future<Output = T>) -> Option<T> {
        let lost = async {
            while mandate.holds() {
                self.clock.sleep(limits::MANDATE_LOOK).await;
            }
        };
        tokio::select! {
            biased;
            () = lost => None,
            done = act => Some(done),
        }
    }

    /// The same job again, after a wait that grows with each passing fault. What is waited for here is not the CA, so it does
    /// not count towards the hour after which an attempt fails.
    fn again(&self, claim: &Claim, problem: Problem) -> Settlement {
        postponed(claim.setbacks, Cause::Other, problem, self.clock.now(), self.entropy.as_ref())
    }

    /// Tells whoever took the place of an account's job that nothing of it is under way any more: its last act was answered, and what
    /// it would have written then was refused.
    async fn let_go(&self, claim: &Claim) {
        if !matches!(claim.work, Work::RegisterIssuer { .. }) {
            return;
        }
        if let Err(error) = self.store.release_successor(claim).await {
            tracing::debug!(job = %claim.job, %error, "the job that follows waits for the end of this one's lease");
        }
    }

    /// Has it shown where a job runs again at once because somebody asked for it while it ran.
    async fn show_heeded(&self, claim: &Claim) {
        match self.store.show_heeded(claim).await {
            Ok(false) => {}
            Ok(true) => {
                tracing::info!(job = %claim.job, "it was asked for while it ran: it runs again at once")
            }
            Err(error) => {
                tracing::warn!(job = %claim.job, %error, "it may run again sooner than is shown: it may have been asked for")
            }
        }
    }

    /// Settles what a handler has not settled itself; answers the outcome as counted.
    async fn conclude(&self, claim: &Claim, mandate: &Mandate, outcome: Outcome) -> &'static str {
        let word = word(&outcome);
        match outcome {
            Outcome::Settle(settlement) => self.settle(claim, mandate, &settlement).await.unwrap_or(word),
            // The handler has met it: this is what it means where nobody has.
            Outcome::Halted(problem) => {
                let settlement = self.again(claim, problem);
                self.settle(claim, mandate, &settlement).await.unwrap_or(word)
            }
            Outcome::Parked(settlement, park) => {
                tracing::warn!(job = %claim.job, bucket = ?park.bucket, time = ?park.time, "the CA's rate limit is kept by all");
                self.settle_with(claim, mandate, &settlement, Some(&park)).await.unwrap_or(word)
            }
            Outcome::Stored | Outcome::Failed(_) | Outcome::Buried(_) | Outcome::Lost => word,
        }
    }

    /// Settles a claim, again and again while the database does not answer and the lease lasts. Answers the outcome
    /// that took its place, if one did.
    async fn settle(
        &self,
        claim: &Claim,
        mandate: &Mandate,
        settlement: &Settlement,
    ) -> Option<&'static str> {
        let settled = self.settle_with(claim, mandate, settlement, None).await;
        let is_last = claim.is_last && *settlement == Settlement::Superseded;
        if is_last && settled == Some("lost") {
            // Perhaps somebody asked for it since, and then it is there for whoever claims it next.
            let back = self.settle_with(claim, mandate, &Settlement::HandedBack, None).await;
            return back.or(Some("handed_back"));
        }
        settled
    }

    /// The same, with a rate limit that all are to keep.
    async fn settle_with(
        &self,
        claim: &Claim,
        mandate: &Mandate,
        settlement: &Settlement,
        park: Option<&Park>,
    ) -> Option<&'static str> {
        let mut unknown = false;
        loop {
            let now = self.clock.now();
            let settled = match park {
                Some(park) => self.store.settle_parked(claim, settlement, park, now).await,
                None => self.store.settle(claim, settlement, now).await,
            };
            match settled {
                Ok(()) => return None,
                // The try before this one was carried out after all, or a peer has the job: either way it is settled.
                Err(StoreError::Fenced) if unknown => return None,
                Err(StoreError::Unavailable { .. }) if mandate.holds() => {
                    unknown = true;
                    self.clock.sleep(limits::PERSIST_WAIT).await
                }
                Err(error) => {
                    if matches!(error, StoreError::Fenced) && was_answered(settlement) {
                        self.let_go(claim).await;
                    }
                    tracing::warn!(job = %claim.job, %error, "the job could not be settled; it is due again after its lease");
                    return Some("lost");
                }
            }
        }
    }
}

/// Whether the CA has answered all that a run told it: what it did not answer in time, it may yet hear.
fn was_answered(settlement: &Settlement) -> bool {
    match settlement {
        Settlement::Again { problem: Some(problem), .. } => problem.class != Class::Transient,
        Settlement::Again { problem: None, .. }
        | Settlement::Succeeded
        | Settlement::Dead(_)
        | Settlement::Superseded
        | Settlement::HandedBack => true,
    }
}

/// The turns of jobs whose workers were lost again and again: one at a time of a kind, so that the next worker which is lost is
/// lost with one of them, and the others are seen to be harmless.
static ALONE: [Semaphore; Work::KINDS.len()] = [const { Semaphore::const_new(1) }; Work::KINDS.len()];

/// Jobs claimed together come for it in any order: else the same one would be first each time.
const ALONE_SPREAD: Duration = Duration::from_millis(250);

/// Waits for that turn, where one is needed.
async fn alone(
    world: &World,
    claim: &Claim,
    mandate: &Mandate,
) -> Result<Option<SemaphorePermit<'static>>, Settlement> {
    if claim.lost < limits::LOST_ALONE {
        return Ok(None);
    }
    world.clock.sleep(entropy::between(world.entropy.as_ref(), Duration::ZERO, ALONE_SPREAD)).await;
    loop {
        match tokio::time::timeout(limits::MANDATE_LOOK, turns(&claim.work).acquire()).await {
            Ok(turn) => return Ok(turn.ok()),
            Err(_) if mandate.is_stopping() || !mandate.holds() => return Err(Settlement::HandedBack),
            Err(_) => {}
        }
    }
}

fn turns(work: &Work) -> &'static Semaphore {
    match work {
        Work::Issue { .. } => &ALONE[0],
        Work::RegisterIssuer { .. } => &ALONE[1],
        Work::DriftScan { .. } => &ALONE[2],
        Work::RenewalLook { .. } => &ALONE[3],
        Work::Revoke { .. } => &ALONE[4],
    }
}

/// Why a job is not run again that ends whoever runs it.
fn deadly(claim: &Claim) -> Problem {
    let detail = format!(
        "{} workers in a row ended while they ran this job, and none of them could say why; look at what their logs and \
         the system's say of their ends, and then retry the job",
        claim.lost
    );
    Problem::new(Class::Protocol, "workers-lost", detail)
}

fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Stored | Outcome::Settle(Settlement::Succeeded) => "succeeded",
        Outcome::Failed(_) => "failed",
        Outcome::Settle(Settlement::Again { .. }) | Outcome::Halted(_) | Outcome::Parked(..) => "again",
        Outcome::Settle(Settlement::Superseded) => "superseded",
        Outcome::Settle(Settlement::HandedBack) => "handed_back",
        Outcome::Settle(Settlement::Dead(_)) | Outcome::Buried(_) => "dead",
        Outcome::Lost => "lost",
    }
}
