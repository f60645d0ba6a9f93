// SPDX-License-Identifier: Apache-2.0
//! The places of a worker. A job is claimed and prepared while others are with the CA, goes to the CA when one of them
//! leaves, and leaves when all that is left is to write its end down: the database is not what the CA waits for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use cap_core::audit::Row;
use cap_core::challenge::ChallengeAnswer;
use cap_core::id::ProjectId;
use cap_core::job::{Claim, Mandate, ProjectLane, Settlement};
use cap_core::limits;
use cap_core::order::{FailedAttempt, IssuedVersion, Ledger, LedgerError, Order, OrderState, Outcome};
use cap_core::problem::Problem;
use cap_store::Store;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use crate::turns::{Turn, Turns};

/// The places of one worker: so many for jobs that are at the CA, as many for those before and for those after it.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    before: Arc<Semaphore>,
    at_ca: Turns,
    after: Arc<Semaphore>,
}

/// One job's place, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    held: Mutex<Held>,
    places: Places,
}

/// What is given back when it is dropped.
#[derive(Debug)]
enum Held {
    Aside { _permit: OwnedSemaphorePermit },
    AtCa { _turn: Turn },
}

impl Places {
    pub(crate) fn new(concurrency: usize) -> Self {
        let room = || Arc::new(Semaphore::new(concurrency));
        Self { before: room(), at_ca: Turns::new(concurrency), after: room() }
    }

    /// What projects weigh when turns at the CA are dealt out.
    pub(crate) fn weigh(&self, weights: BTreeMap<ProjectId, u32>) {
        self.at_ca.weigh(weights);
    }

    /// A place for a job that is to be claimed, as soon as there is one.
    pub(crate) async fn take(&self) -> Result<Place, AcquireError> {
        Ok(self.place(self.before.clone().acquire_owned().await?))
    }

    /// A place for a job that is to be claimed, if there is one.
    pub(crate) fn try_take(&self) -> Option<Place> {
        Some(self.place(self.before.clone().try_acquire_owned().ok()?))
    }

    fn place(&self, permit: OwnedSemaphorePermit) -> Place {
        Place { held: Mutex::new(Held::Aside { _permit: permit }), places: self.clone() }
    }
}

impl Place {
    /// Waits for the job's turn at the CA, as long as its lease holds; answers how the run ends if it does not come.
    /// Those who are there make room within a bound: each of their acts has one.
    pub(crate) async fn enter(&self, lane: ProjectLane, mandate: &Mandate) -> Result<(), Outcome> {
        let mut turn = self.places.at_ca.ask(lane);
        loop {
            match tokio::time::timeout(limits::MANDATE_LOOK, &mut turn).await {
                Ok(Ok(turn)) => {
                    self.hold(Held::AtCa { _turn: turn });
                    return Ok(());
                }
                _ if !mandate.holds() => return Err(Outcome::Lost),
                _ if mandate.is_stopping() => return Err(Outcome::Settle(Settlement::HandedBack)),
                _ => {}
            }
        }
    }

    /// Leaves the CA to the next although the job is still in hand, unless too many are at their end already: where ends
    /// cannot be written, no more may be begun.
    fn leave(&self) {
        if let Ok(permit) = self.places.after.clone().try_acquire_owned() {
            self.hold(Held::Aside { _permit: permit });
        }
    }

    fn hold(&self, held: Held) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = held;
    }
}

/// The ledger of one job: the store's, and its last write begins with leaving the CA.
pub(crate) struct LeavingLedger<'a> {
    pub(crate) store: &'a Store,
    pub(crate) place: &'a Place,
}

#[async_trait]
impl Ledger for LeavingLedger<'_> {
    async fn advance(
        &self,
        order: &Order,
        next: OrderState,
        answers: &[ChallengeAnswer],
    ) -> Result<Order, LedgerError> {
        self.store.advance(order, next, answers).await
    }

    async fn may_keep_key(&self, order: &Order) -> Result<bool, LedgerError> {
        self.store.may_keep_key(order).await
    }

    async fn note(&self, order: &Order, audit: &Row) -> Result<(), LedgerError> {
        self.store.note(order, audit).await
    }

    async fn store(
        &self,
        claim: &Claim,
        order: &Order,
        version: &IssuedVersion,
        audit: &Row,
    ) -> Result<(), LedgerError> {
        self.place.leave();
        self.store.store(claim, order, version, audit).await
    }

    async fn fail(
        &self,
        claim: &Claim,
        order: &Order,
        failed: &FailedAttempt,
        audit: &Row,
    ) -> Result<(), LedgerError> {
        self.place.leave();
        self.store.fail(claim, order, failed, audit).await
    }

    async fn bury(
        &self,
        claim: &Claim,
        order: &Order,
        problem: &Problem,
        audit: &Row,
    ) -> Result<(), LedgerError> {
        self.place.leave();
        self.store.bury(claim, order, problem, audit).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::time::Duration;

    use cap_core::clock::Clock;
    use cap_core::job::Lane;
    use cap_runtime::clock::SystemClock;

    fn free(places: &Places) -> [usize; 3] {
        [places.before.available_permits(), places.at_ca.free(), places.after.available_permits()]
    }

    fn lane() -> ProjectLane {
        ProjectLane { project: format!("prj_{:032x}", 1).parse().unwrap(), lane: Lane::Main }
    }

    fn mandate(clock: &Arc<SystemClock>, life: Duration) -> Mandate {
        Mandate::new(clock.clone(), clock.boottime() + life)
    }

    #[tokio::test]
    async fn as_many_jobs_are_at_the_ca_as_it_has_places_and_as_many_before_and_after() {
        let clock = Arc::new(SystemClock);
        let (places, held) = (Places::new(1), mandate(&clock, Duration::from_secs(3_600)));
        let first = places.take().await.unwrap();
        assert!(places.try_take().is_none());
        first.enter(lane(), &held).await.unwrap();
        assert_eq!(free(&places), [1, 0, 1]);
        let second = places.try_take().unwrap();
        first.leave();
        first.leave();
        assert_eq!(free(&places), [0, 1, 0]);
        second.enter(lane(), &held).await.unwrap();
        second.leave();
        assert_eq!(free(&places), [1, 0, 0], "there is no room for another end");
        drop(first);
        assert_eq!(free(&places), [1, 0, 1]);
        second.leave();
        assert_eq!(free(&places), [1, 1, 0]);
        drop(second);
        assert_eq!(free(&places), [1, 1, 1]);
    }

    #[tokio::test]
    async fn who_waits_for_a_turn_ends_with_the_worker_and_with_the_lease() {
        let clock = Arc::new(SystemClock);
        let (places, held) = (Places::new(1), mandate(&clock, Duration::from_secs(3_600)));
        let first = places.take().await.unwrap();
        first.enter(lane(), &held).await.unwrap();
        let second = places.take().await.unwrap();
        let over = mandate(&clock, Duration::ZERO);
        assert_eq!(second.enter(lane(), &over).await, Err(Outcome::Lost));
        held.stop();
        assert_eq!(second.enter(lane(), &held).await, Err(Outcome::Settle(Settlement::HandedBack)));
    }
}
