// SPDX-License-Identifier: Apache-2.0
//! The election: one scheduler leads, the others stand by and watch the lease.

use std::sync::Arc;
use std::time::Duration;

use cap_core::audit::Auditor;
use cap_core::clock::Clock;
use cap_core::entropy::{self, Entropy};
use cap_core::id::InstanceId;
use cap_core::job::Mandate;
use cap_core::lease::{Term, heartbeat};
use cap_store::{SCHEDULER_LEASE, Store, StoreError};
use tokio_util::sync::CancellationToken;

use crate::Metrics;
use crate::planner::Planner;

/// The longest wait of a standby between two tries, beside the wake-up when the leader steps down.
const STANDBY_WAIT_MAX: Duration = Duration::from_secs(1);

/// One scheduler.
pub struct Scheduler {
    /// The database.
    pub store: Store,
    /// Makes audit entries.
    pub auditor: Auditor,
    /// This instance's name.
    pub instance: String,
    /// How long the lease lasts.
    pub ttl: Duration,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Luck.
    pub entropy: Arc<dyn Entropy>,
    /// What it counts.
    pub metrics: Metrics,
}

impl Scheduler {
    /// Competes and leads until `stop`; a leader then steps down at once.
    pub async fn run(&self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            tokio::select! {
                () = stop.cancelled() => {}
                won = self.stand_by() => self.lead(won, &stop).await,
            }
        }
    }

    /// Tries to win the lease until it does.
    async fn stand_by(&self) -> Term {
        let mut watch = None;
        loop {
            if watch.is_none() {
                // Opened before the first look: a lease given up in between is not overlooked.
                watch = self.store.watch_lease(SCHEDULER_LEASE).await.ok();
            }
            let nonce = InstanceId::generate(self.clock.as_ref(), self.entropy.as_ref()).to_string();
            let tried = self
                .store
                .acquire_lease(SCHEDULER_LEASE, &self.instance, &nonce, self.ttl, self.clock.as_ref())
                .await;
            match tried {
                Ok(Some(term)) => return term,
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "the lease could not be asked for; trying again"),
            }
            let jitter = entropy::between(self.entropy.as_ref(), Duration::ZERO, heartbeat(self.ttl) / 4);
            let wait = heartbeat(self.ttl).min(STANDBY_WAIT_MAX) + jitter;
            let changed = async {
                match watch.as_mut() {
                    Some(watch) => watch.changed().await,
                    None => std::future::pending().await,
                }
            };
            if let Ok(Err(_)) = tokio::time::timeout(wait, changed).await {
                watch = None;
            }
        }
    }

    async fn lead(&self, term: Term, stop: &CancellationToken) {
        tracing::info!(epoch = term.epoch, "this scheduler leads");
        self.metrics.transitions.inc();
        self.metrics.leader.set(1);
        let mandate = Mandate::new(self.clock.clone(), term.trusted_until);
        let planner = Planner {
            store: &self.store,
            auditor: &self.auditor,
            clock: self.clock.as_ref(),
            entropy: self.entropy.as_ref(),
            mandate: &mandate,
            epoch: term.epoch,
            metrics: &self.metrics,
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.keep(term, &mandate) => {}
            () = planner.run() => {}
        }
        self.metrics.leader.set(0);
        if stop.is_cancelled() {
            match self.store.release_lease(SCHEDULER_LEASE, term).await {
                Ok(()) => tracing::info!(epoch = term.epoch, "this scheduler stepped down"),
                Err(error) => {
                    tracing::warn!(%error, "the lease could not be given up; it runs out by itself");
                }
            }
        } else {
            tracing::warn!(epoch = term.epoch, "this scheduler leads no more");
        }
    }

    /// Extends the lease until it is lost or can no longer be trusted.
    async fn keep(&self, mut term: Term, mandate: &Mandate) {
        loop {
            self.clock.sleep(heartbeat(self.ttl)).await;
            match self.store.extend_lease(SCHEDULER_LEASE, term, self.ttl, self.clock.as_ref()).await {
                Ok(extended) => {
                    term = extended;
                    mandate.extend(term.trusted_until);
                }
                Err(StoreError::Fenced) => {
                    mandate.revoke();
                    return;
                }
                Err(error) => tracing::warn!(%error, "the lease was not extended"),
            }
            if !term.holds(self.clock.boottime()) {
                return;
            }
        }
    }
}
