// SPDX-License-Identifier: Apache-2.0
//! A worker: claims, extends its leases, lets the engine drive the order, settles. What the worker's own crate does with
//! the real database, in small.

use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use cap_core::audit::{Auditor, Row};
use cap_core::challenge::ChallengeAnswer;
use cap_core::clock::Clock;
use cap_core::envelope::{Keyring, Slot};
use cap_core::id::{CertificateId, ClaimId, ClusterId, IssuerId, OrderId, ProjectId, VersionId};
use cap_core::job::{Cause, Claim, Mandate, Settlement, Work};
use cap_core::limits;
use cap_core::order::{
    Engine, FailedAttempt, IssuedVersion, Ledger, LedgerError, Order, OrderKey, OrderState, Outcome, Steady,
    postponed, predecessor,
};
use cap_core::problem::{Class, Problem};
use cap_core::renewal_info::AriId;
use futures_util::future::join;

use super::account::Account;
use super::keys::{Keys, Wrapped, keyring, names};
use super::ledger::{Database, Opened};
use super::luck::Dice;
use super::plan::Mutant;
use super::tell::{Tell, short};
use super::world::{Hands, Inner, Process, Travel, World, lock};

/// A request to the database, at most, when nothing is wrong.
const QUICK: Duration = Duration::from_millis(3);
/// How long an operation on the database may take.
const BOUND: Duration = Duration::from_secs(5);
/// A write that its sender has long given up may still be carried out.
const LATE: Duration = Duration::from_secs(60);
/// The wait after a claim that failed.
const POLL: Duration = Duration::from_secs(1);
/// As the worker's heart beats, and what it gives away.
const BEATS_PER_LEASE: u32 = 4;
const MARGIN_DIVISOR: u32 = 5;

/// What all lives of all workers share.
#[derive(Debug, Clone)]
pub(super) struct Cluster {
    pub(super) world: Arc<World>,
    pub(super) wrapped: Arc<Wrapped>,
    pub(super) id: ClusterId,
    pub(super) issuer: IssuerId,
    pub(super) keys: &'static Keys,
}

/// One life of one worker.
pub(super) struct Worker {
    cluster: Cluster,
    process: Process,
    clock: Arc<Hands>,
    dice: Arc<Dice>,
    keyring: Arc<Keyring>,
    auditor: Auditor,
    lease: Duration,
    held: Mutex<Option<(ClaimId, Mandate)>>,
    book: Book,
}

/// The ledger as one process reaches it.
#[derive(Clone)]
struct Book {
    world: Arc<World>,
    process: Process,
    clock: Arc<Hands>,
}

/// Why a run ended before the engine did.
enum Trouble {
    Unavailable,
    Fenced,
}

fn travel(inner: &mut Inner) -> Travel {
    let plan = (inner.plan.write_lost, inner.plan.ack_lost, inner.plan.write_late);
    let mut quick = || inner.luck.between(Duration::ZERO, QUICK);
    let mut travel = Travel { arrives: Some(quick()), returns: Some(quick()), limit: BOUND };
    if inner.strikes(plan.0) {
        travel.arrives = None;
    } else if inner.strikes(plan.1) {
        travel.returns = None;
    } else if inner.strikes(plan.2) {
        travel.arrives = Some(inner.luck.between(Duration::ZERO, LATE));
    }
    if travel.arrives.is_none() || travel.returns.is_none() {
        travel.limit = inner.luck.pick(&[QUICK * 2, BOUND]);
    }
    travel
}

impl Book {
    /// One operation on the database; no answer means that its outcome is unknown.
    async fn ask<R: Tell + Send + 'static>(
        &self,
        what: &'static str,
        operation: impl FnOnce(&mut Database, Duration) -> R + Send + 'static,
    ) -> Result<R, Trouble> {
        let process = self.process;
        let operation = move |inner: &mut Inner| {
            let now = inner.now;
            let result = operation(&mut inner.database, now);
            inner.note(|| format!("database: {what} of process {process}: {}", result.tell()));
            inner.queue_changed();
            result
        };
        self.world.call(process, travel, operation).await.map_err(|_| {
            self.world.inner().note(|| format!("process {process} got no answer to {what}"));
            Trouble::Unavailable
        })
    }
}

/// Whether what an act at the CA led to may be known to nobody: the claim was over, or the lease, or the act took too
/// long.
fn gave_up(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Lost => true,
        Outcome::Settle(Settlement::Again { problem: Some(problem), .. })
        | Outcome::Parked(Settlement::Again { problem: Some(problem), .. }, _) => {
            matches!(problem.kind.as_str(), "database-unavailable" | "ca-slow")
        }
        Outcome::Settle(_)
        | Outcome::Parked(..)
        | Outcome::Stored
        | Outcome::Failed(_)
        | Outcome::Halted(_)
        | Outcome::Buried(_) => false,
    }
}

impl From<Trouble> for LedgerError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Unavailable => Self::Unavailable("no answer".into()),
            Trouble::Fenced => Self::Fenced,
        }
    }
}

#[async_trait]
impl Ledger for Book {
    async fn advance(
        &self,
        order: &Order,
        next: OrderState,
        answers: &[ChallengeAnswer],
    ) -> Result<Order, LedgerError> {
        let (order, answers) = (order.clone(), answers.to_vec());
        self.ask("advance", move |database, _| database.advance(&order, &next, &answers)).await?
    }

    async fn may_keep_key(&self, _order: &Order) -> Result<bool, LedgerError> {
        // Nobody revokes anything here.
        Ok(true)
    }

    async fn note(&self, _order: &Order, _audit: &Row) -> Result<(), LedgerError> {
        Ok(())
    }

    async fn store(
        &self,
        claim: &Claim,
        order: &Order,
        version: &IssuedVersion,
        _audit: &Row,
    ) -> Result<(), LedgerError> {
        let (claim, order, version) = (claim.clone(), order.clone(), version.clone());
        self.ask("store", move |database, _| database.store(&claim, &order, &version)).await?
    }

    async fn fail(
        &self,
        claim: &Claim,
        order: &Order,
        failed: &FailedAttempt,
        _audit: &Row,
    ) -> Result<(), LedgerError> {
        let (claim, order, failed, at) = (claim.clone(), order.clone(), failed.clone(), self.clock.now());
        self.ask("fail", move |database, now| database.fail(&claim, &order, &failed, at, now)).await?
    }

    async fn bury(
        &self,
        claim: &Claim,
        order: &Order,
        problem: &Problem,
        _audit: &Row,
    ) -> Result<(), LedgerError> {
        let (claim, order, problem, at) = (claim.clone(), order.clone(), problem.clone(), self.clock.now());
        self.ask("bury", move |database, now| database.bury(&claim, &order, &problem, at, now)).await?
    }
}

impl Worker {
    pub(super) fn new(cluster: Cluster, process: Process, ahead_s: i64, seed: u64) -> Self {
        let world = cluster.world.clone();
        let clock = Arc::new(Hands { world: world.clone(), process, ahead_s });
        let dice = Arc::new(Dice::new(seed));
        let keyring = keyring(cluster.id, cluster.wrapped.clone(), clock.clone(), dice.clone());
        let auditor = Auditor::new(format!("worker-{process}"), keyring.clone(), clock.clone(), dice.clone());
        let lease = world.inner().plan.lease;
        let book = Book { world, process, clock: clock.clone() };
        Self { cluster, process, clock, dice, keyring, auditor, lease, held: Mutex::new(None), book }
    }

    /// Works for ever; ends only when dropped.
    pub(super) async fn live(self) {
        join(self.work(), self.beat()).await;
    }

    fn trusted_until(&self, asked_at: Duration) -> Duration {
        asked_at + self.lease - self.lease / MARGIN_DIVISOR
    }

    async fn beat(&self) {
        loop {
            // Whoever takes a job polls this, too.
            std::future::poll_fn(
                |_| if lock(&self.held).is_some() { Poll::Ready(()) } else { Poll::Pending },
            )
            .await;
            self.clock.sleep(self.lease / BEATS_PER_LEASE).await;
            let Some((token, mandate)) = lock(&self.held).clone() else { continue };
            let (asked_at, lease) = (self.clock.boottime(), self.lease);
            match self.book.ask("extend", move |database, now| database.extend(token, lease, now)).await {
                Ok(true) => mandate.extend(self.trusted_until(asked_at)),
                Ok(false) => mandate.revoke(),
                Err(_) => {}
            }
        }
    }

    async fn work(&self) {
        loop {
            std::future::poll_fn(|_| self.cluster.world.inner().is_due(self.process)).await;
            let (asked_at, lease) = (self.clock.boottime(), self.lease);
            let token = ClaimId::generate(self.clock.as_ref(), self.dice.as_ref());
            match self.book.ask("claim", move |database, now| database.claim(token, lease, now)).await {
                Ok(Some(claim)) => {
                    let mandate = Mandate::new(self.clock.clone(), self.trusted_until(asked_at));
                    *lock(&self.held) = Some((token, mandate.clone()));
                    self.carry(&claim, &mandate).await;
                    *lock(&self.held) = None;
                }
                Ok(None) => {}
                Err(_) => self.clock.sleep(POLL).await,
            }
        }
    }

    async fn carry(&self, claim: &Claim, mandate: &Mandate) {
        let Work::Issue { certificate, made_for } = claim.work else { return };
        let outcome = match self.issue(claim, mandate, certificate, made_for).await {
            Ok(outcome) => outcome,
            Err(Trouble::Fenced) => Outcome::Lost,
            Err(Trouble::Unavailable) => Outcome::Settle(self.again(claim, "database-unavailable")),
        };
        {
            let (mut inner, process) = (self.cluster.world.inner(), self.process);
            inner.tally.lost_runs += u32::from(gave_up(&outcome));
            inner.note(|| format!("process {process} ends its run: {}", short(&outcome)));
        }
        // That others keep a limit, too, makes no difference to whose names are the same.
        let (Outcome::Settle(settlement) | Outcome::Parked(settlement, _)) = outcome else { return };
        loop {
            let (claim, settlement, at) = (claim.clone(), settlement.clone(), self.clock.now());
            let settle = move |database: &mut Database, now| database.settle(&claim, &settlement, at, now);
            match self.book.ask("settle", settle).await {
                Err(Trouble::Unavailable) if mandate.holds() => self.clock.sleep(limits::PERSIST_WAIT).await,
                _ => return,
            }
        }
    }

    fn again(&self, claim: &Claim, kind: &str) -> Settlement {
        let problem = Problem::new(Class::Transient, kind, "in the simulation");
        postponed(claim.setbacks, Cause::Other, problem, self.clock.now(), self.dice.as_ref())
    }

    async fn issue(
        &self,
        claim: &Claim,
        mandate: &Mandate,
        certificate: CertificateId,
        made_for: Option<VersionId>,
    ) -> Result<Outcome, Trouble> {
        let look = self.book.ask("look", move |database, _| database.look(certificate)).await?;
        let Some(look) = look.filter(|look| look.current == made_for) else {
            return Ok(Outcome::Settle(Settlement::Superseded));
        };
        let fence = claim.fence;
        let taken = if look.has_order {
            self.book.ask("take", move |database, _| database.take_order(certificate, fence)).await?
        } else {
            Ok(None)
        };
        let order = match taken.map_err(|_| Trouble::Fenced)? {
            Some(order) => self.with_late_key(order).await?,
            // Asked ahead, and by no request: sealing a key takes longer than all the rest of a run that ends here.
            None if self.cluster.world.inner().database.is_locked() => {
                return Ok(Outcome::Settle(self.again(claim, "order-in-flight")));
            }
            None => {
                let issuer = self.cluster.issuer;
                let replaces = predecessor(look.issuer, look.ari_id.as_ref(), issuer);
                let order = self.order(claim, certificate, made_for, replaces).await?;
                let begun = order.clone();
                match self.book.ask("open", move |database, _| database.open_order(&begun)).await? {
                    Opened::Ours => order,
                    Opened::Superseded => return Ok(Outcome::Settle(Settlement::Superseded)),
                    Opened::Busy => {
                        // Nothing was begun with this key: another order may have it.
                        self.cluster
                            .world
                            .inner()
                            .tally
                            .spare
                            .extend(self.cluster.keys.of_request(&order.key.csr));
                        return Ok(Outcome::Settle(self.again(claim, "order-in-flight")));
                    }
                }
            }
        };
        let (world, process, keys) = (self.cluster.world.clone(), self.process, self.cluster.keys);
        let engine = Engine {
            account: &Account { world, process, keys },
            standing: &Steady,
            ledger: &self.book,
            keyring: &self.keyring,
            auditor: &self.auditor,
            clock: self.clock.as_ref(),
            entropy: self.dice.as_ref(),
            claim,
            mandate,
            expires: look.expires,
            in_use: None,
            number: look.versions + 1,
            preferred_chain: None,
            set_aside: &[],
        };
        Ok(engine.run(order).await)
    }

    async fn order(
        &self,
        claim: &Claim,
        certificate: CertificateId,
        made_for: Option<VersionId>,
        replaces: Option<AriId>,
    ) -> Result<Order, Trouble> {
        let id = OrderId::generate(self.clock.as_ref(), self.dice.as_ref());
        Ok(Order {
            id,
            project: claim.project,
            certificate,
            made_for,
            issuer: self.cluster.issuer,
            names: names(),
            profile: None,
            key: self.key(claim.project, id, certificate, made_for).await?,
            fence: claim.fence,
            revision: 0,
            state: OrderState::Keyed { replaces },
        })
    }

    /// A key that nobody else has, sealed.
    async fn key(
        &self,
        project: ProjectId,
        order: OrderId,
        certificate: CertificateId,
        made_for: Option<VersionId>,
    ) -> Result<OrderKey, Trouble> {
        let key = {
            let mut inner = self.cluster.world.inner();
            let index = inner.tally.spare.pop().unwrap_or(inner.tally.keys.len());
            inner.tally.keys.insert(index, (certificate, made_for));
            self.cluster.keys.nth(index)
        };
        let slot = Slot::order_key(project, order);
        let sealed = self.keyring.seal(&slot, &key.pkcs8).await;
        let sealed = sealed.map_err(|_| Trouble::Unavailable)?;
        Ok(OrderKey { sealed, csr: key.csr.clone(), spki_sha256: key.spki_sha256.to_vec(), kept: false })
    }

    /// The order as it was taken over; with a key of its own where a mutant has not stored the first one.
    async fn with_late_key(&self, mut order: Order) -> Result<Order, Trouble> {
        if self.cluster.world.inner().plan.mutant != Some(Mutant::LateKey) {
            return Ok(order);
        }
        let key = self.key(order.project, order.id, order.certificate, order.made_for).await?;
        self.cluster.world.inner().database.forget_key(&mut order, key);
        Ok(order)
    }
}
