// SPDX-License-Identifier: Apache-2.0
//! The places of a worker. A job is claimed and prepared while others are with the CA, goes to the CA when one of them
//! leaves, and leaves when all that is left is to write its end down: the database is not what the CA waits for.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use cap_core::audit::Row;
use cap_core::challenge::ChallengeAnswer;
use cap_core::job::{Claim, Mandate, Settlement};
use cap_core::limits;
use cap_core::order::{FailedAttempt, IssuedVersion, Ledger, LedgerError, Order, OrderState, Outcome};
use cap_store::Store;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

/// The places of one worker: so many for jobs that are at the CA, as many for those before and for those after it.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    before: Arc<Semaphore>,
    at_ca: Arc<Semaphore>,
    after: Arc<Semaphore>,
}

/// One job's place, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    permit: Mutex<OwnedSemaphorePermit>,
    places: Places,
}

impl Places {
    pub(crate) fn new(concurrency: usize) -> Self {
        let room = || Arc::new(Semaphore::new(concurrency));
        Self { before: room(), at_ca: room(), after: room() }
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
        Place { permit: Mutex::new(permit), places: self.clone() }
    }
}

impl Place {
    /// Waits for the job's turn at the CA, as long as its lease holds; answers how the run ends if it does not come.
    /// Those who are there make room within a bound: each of their acts has one.
    pub(crate) async fn enter(&self, mandate: &Mandate) -> Result<(), Outcome> {
        // Asked for once: turns come in the order in which they were asked for.
        let mut turn = pin!(self.places.at_ca.clone().acquire_owned());
        loop {
            match tokio::time::timeout(limits::MANDATE_LOOK, turn.as_mut()).await {
                Ok(Ok(permit)) => {
                    self.hold(permit);
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
            self.hold(permit);
        }
    }

    fn hold(&self, permit: OwnedSemaphorePermit) {
        *self.permit.lock().unwrap_or_else(PoisonError::into_inner) = permit;
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
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::time::Duration;

    use cap_core::clock::Clock;
    use cap_runtime::clock::SystemClock;

    fn free(places: &Places) -> [usize; 3] {
        [&places.before, &places.at_ca, &places.after].map(|room| room.available_permits())
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
        first.enter(&held).await.unwrap();
        assert_eq!(free(&places), [1, 0, 1]);
        let second = places.try_take().unwrap();
        first.leave();
        first.leave();
        assert_eq!(free(&places), [0, 1, 0]);
        second.enter(&held).await.unwrap();
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
        first.enter(&held).await.unwrap();
        let second = places.take().await.unwrap();
        let over = mandate(&clock, Duration::ZERO);
        assert_eq!(second.enter(&over).await, Err(Outcome::Lost));
        held.stop();
        assert_eq!(second.enter(&held).await, Err(Outcome::Settle(Settlement::HandedBack)));
    }
}
