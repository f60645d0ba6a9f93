// SPDX-License-Identifier: Apache-2.0
//! The election: one scheduler leads, the others stand by and watch the lease.

use std::sync::Arc;
use std::time::Duration;

use cap_core::audit::Auditor;
use cap_core::clock::Clock;
use cap_core::entropy::{self, Entropy};
use cap_core::id::InstanceId;
use cap_core::instance::Standing;
use cap_core::job::Mandate;
use cap_core::lease::{Term, heartbeat};
use cap_store::{LeaseWatch, SCHEDULER_LEASE, Store, StoreError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::Metrics;
use crate::census::Census;
use crate::drift::DriftPlanner;
use crate::duties::Duties;
use crate::planner::Planner;
use crate::sampler::Sampler;

/// The longest wait of a standby between two tries when it would not hear that the leader steps down.
const STANDBY_WAIT_MAX: Duration = Duration::from_secs(1);
/// The shortest wait between two tries: a lease that ends in this moment is not asked for in a busy loop.
const STANDBY_WAIT_MIN: Duration = Duration::from_millis(20);
/// Standbys that wake at the end of the same lease come apart by up to this.
const STANDBY_JITTER: Duration = Duration::from_millis(100);

/// Why a leader leads no more, though nobody asked it to stop.
#[derive(Debug, Clone, Copy)]
enum Lost {
    /// The lease was not extended in time.
    RanOut,
    /// The lease ran out in the database, or somebody else has it.
    Taken,
    /// This host's clock and the database's are too far apart, as this extension of the lease showed.
    Clocks(Term),
    /// Somebody asked it to leave.
    Asked,
}

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
    /// Where it says how it stands to the lead.
    pub standing: watch::Sender<Standing>,
}

impl Scheduler {
    /// Competes and leads until `stop`; a leader then steps down at once.
    pub async fn run(&self, stop: CancellationToken) {
        while let Some(won) = self.stand_by(&stop).await {
            if stop.is_cancelled() {
                return self.step_down(won).await;
            }
            if self.clocks_agree(won) {
                self.lead(won, &stop).await;
            } else {
                self.abstain(won, &stop).await;
            }
        }
    }

    /// Tries to win the lease until it does, or until `stop`.
    ///
    /// A try that is under way is never dropped: the database may grant it all the same, and a lease that nobody knows
    /// of keeps every other scheduler waiting until it runs out. A try is bounded, and so is giving up what one that failed may have
    /// won, so a stop waits for no longer than both.
    async fn stand_by(&self, stop: &CancellationToken) -> Option<Term> {
        self.standing.send_replace(Standing::StandsBy);
        let nonce = InstanceId::generate(self.clock.as_ref(), self.entropy.as_ref()).to_string();
        let mut could_ask = true;
        let won = self.compete(&nonce, &mut could_ask, stop).await;
        if won.is_none() && !could_ask {
            // The last try failed, and may have been granted.
            if let Err(error) = self.store.release_unheard(SCHEDULER_LEASE, &nonce).await {
                tracing::debug!(%error, "if the lease was won unheard, it runs out by itself");
            }
        }
        won
    }

    /// Tries again and again, with one nonce; `could_ask` is whether the last try was answered.
    async fn compete(&self, nonce: &str, could_ask: &mut bool, stop: &CancellationToken) -> Option<Term> {
        let (mut watch, mut is_told) = (None, false);
        while !stop.is_cancelled() {
            if watch.is_none() {
                // Opened before the first look: a lease given up in between is not overlooked.
                watch = tokio::select! {
                    opened = self.store.watch_lease(SCHEDULER_LEASE) => {
                        opened.inspect_err(|error| tracing::debug!(%error, "polling the lease alone")).ok()
                    }
                    () = stop.cancelled() => return None,
                };
            }
            let tried = self
                .store
                .acquire_lease(SCHEDULER_LEASE, &self.instance, nonce, self.ttl, self.clock.as_ref())
                .await;
            *could_ask = tried.is_ok();
            match tried {
                Ok(Some(term)) => return Some(term),
                Ok(None) if is_told => {}
                Ok(None) => is_told = stop.run_until_cancelled(self.tell_who_leads()).await?,
                Err(error) => tracing::warn!(%error, "the lease could not be asked for; trying again"),
            }
            let until = self.until_next_try(*could_ask, watch.is_some());
            let wait = stop.run_until_cancelled(until).await?;
            tokio::select! {
                () = self.clock.sleep(wait) => {}
                () = self.given_up(&mut watch) => {}
                () = stop.cancelled() => {}
            }
        }
        None
    }

    /// How long to wait for the next try. Who would be told that the lease is given up needs none before it runs out:
    /// that is when a leader that is lost is replaced, and not a poll later.
    async fn until_next_try(&self, could_ask: bool, is_watching: bool) -> Duration {
        let jitter = entropy::between(self.entropy.as_ref(), Duration::ZERO, STANDBY_JITTER);
        let poll = heartbeat(self.ttl).min(STANDBY_WAIT_MAX);
        if !could_ask {
            return poll + jitter;
        }
        let left = self.store.lease_left(SCHEDULER_LEASE).await;
        let wait = match left {
            // Another's lease may be longer than ours: it is not slept through.
            Ok(Some(left)) if is_watching => left.min(self.ttl),
            Ok(Some(left)) => left.min(poll),
            Ok(None) => STANDBY_WAIT_MIN,
            Err(_) => poll,
        };
        wait.max(STANDBY_WAIT_MIN) + jitter
    }

    /// Waits until the lease is given up; where the watch breaks, no longer than the slow poll.
    async fn given_up(&self, watch: &mut Option<LeaseWatch>) {
        if !changed(watch).await {
            self.clock.sleep(heartbeat(self.ttl).min(STANDBY_WAIT_MAX)).await;
        }
    }

    /// Says whom this scheduler stands by for; answers whether that is known.
    async fn tell_who_leads(&self) -> bool {
        match self.store.lease(SCHEDULER_LEASE).await {
            Ok(Some((lease, false))) => {
                tracing::info!(
                    leader = lease.holder,
                    epoch = lease.epoch,
                    "standing by: another scheduler leads"
                );
                true
            }
            Ok(_) | Err(_) => false,
        }
    }

    async fn lead(&self, term: Term, stop: &CancellationToken) {
        tracing::info!(epoch = term.epoch, "this scheduler leads");
        self.metrics.transitions.inc();
        self.metrics.leader.set(1);
        self.standing.send_replace(Standing::Leads { epoch: term.epoch });
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
        let sampler = Sampler {
            store: &self.store,
            clock: self.clock.as_ref(),
            mandate: &mandate,
            epoch: term.epoch,
            metrics: &self.metrics,
        };
        let drift = DriftPlanner {
            store: &self.store,
            clock: self.clock.as_ref(),
            entropy: self.entropy.as_ref(),
            mandate: &mandate,
            epoch: term.epoch,
            metrics: &self.metrics,
        };
        let duties = Duties {
            store: &self.store,
            auditor: &self.auditor,
            clock: self.clock.as_ref(),
            entropy: self.entropy.as_ref(),
            mandate: &mandate,
            epoch: term.epoch,
            metrics: &self.metrics,
        };
        let census = Census {
            store: &self.store,
            clock: self.clock.as_ref(),
            mandate: &mandate,
            metrics: &self.metrics,
        };
        let lost = tokio::select! {
            biased;
            () = stop.cancelled() => None,
            lost = self.keep(term, &mandate) => Some(lost),
            () = planner.run() => Some(Lost::RanOut),
            () = sampler.run() => Some(Lost::RanOut),
            () = census.run() => Some(Lost::RanOut),
            () = duties.run() => Some(Lost::RanOut),
            () = drift.run() => Some(Lost::RanOut),
        };
        self.metrics.leader.set(0);
        self.metrics.queue.clear();
        self.metrics.instances.clear();
        self.metrics.drift.clear();
        match lost {
            None => self.step_down(term).await,
            Some(Lost::RanOut) => {
                tracing::warn!(
                    epoch = term.epoch,
                    "this scheduler leads no more: it could not extend its lease in time (MongoDB was away or slow, or \
                     this process stood still); it stands by"
                );
                // Its last extension may have been carried out unheard: nobody is to wait for the end of that.
                if let Err(error) = self.store.release_lease(SCHEDULER_LEASE, term).await {
                    tracing::debug!(%error, "if the lease was extended unheard, it runs out by itself");
                }
            }
            Some(Lost::Clocks(term)) => self.abstain(term, stop).await,
            Some(Lost::Asked) => {
                tracing::info!(epoch = term.epoch, "this scheduler was asked to leave the lead");
                self.stand_back(term, stop).await;
            }
            Some(Lost::Taken) => tracing::warn!(
                epoch = term.epoch,
                "this scheduler leads no more: its lease ran out, and another may have it; it stands by"
            ),
        }
    }

    /// Leaves the lead to a scheduler whose clock is right, and is no candidate for the length of a lease.
    async fn abstain(&self, term: Term, stop: &CancellationToken) {
        tracing::error!(
            skew_s = term.skew.as_secs(),
            "the database's clock and this host's are too far apart to say what is due: this scheduler does not lead \
             until they agree; look at the time service of both"
        );
        self.stand_back(term, stop).await;
    }

    /// Gives the lead up, and is no candidate for the length of a lease, so that it goes to another.
    async fn stand_back(&self, term: Term, stop: &CancellationToken) {
        self.standing.send_replace(Standing::StandsBack);
        self.step_down(term).await;
        tokio::select! {
            () = self.clock.sleep(self.ttl) => {}
            () = stop.cancelled() => {}
        }
    }

    async fn step_down(&self, term: Term) {
        match self.store.release_lease(SCHEDULER_LEASE, term).await {
            Ok(()) => tracing::info!(epoch = term.epoch, "this scheduler stepped down"),
            Err(error) => tracing::warn!(
                %error,
                lease_s = self.ttl.as_secs(),
                "the lease could not be given up; nobody leads until it runs out by itself"
            ),
        }
    }

    /// Extends the lease until it is lost or can no longer be trusted.
    async fn keep(&self, mut term: Term, mandate: &Mandate) -> Lost {
        let mut watch = None;
        loop {
            // Whoever is asked to leave beats at once: what the answer says decides.
            tokio::select! {
                () = self.clock.sleep(heartbeat(self.ttl).min(self.trusted_for(term))) => {}
                () = self.asked(&mut watch) => {}
            }
            // No longer than the lease is trusted: an answer that comes later must not keep up a lead that is over.
            let extended = tokio::select! {
                extended = self.store.extend_lease(SCHEDULER_LEASE, term, self.ttl, self.clock.as_ref()) => extended,
                () = self.clock.sleep(self.trusted_for(term)) => return Lost::RanOut,
            };
            match extended {
                Ok(extended) => {
                    term = extended;
                    mandate.extend(term.trusted_until);
                    if !self.clocks_agree(term) {
                        return Lost::Clocks(term);
                    }
                    if term.asked_to_leave {
                        return Lost::Asked;
                    }
                }
                Err(StoreError::Fenced) => {
                    mandate.revoke();
                    return Lost::Taken;
                }
                Err(error) => tracing::warn!(%error, "the lease was not extended; trying again"),
            }
            if !term.holds(self.clock.boottime()) {
                return Lost::RanOut;
            }
        }
    }

    /// Waits until the leader is asked to leave, as far as the watch tells. It begins anew with each heartbeat, which
    /// finds the request by itself.
    async fn asked(&self, watch: &mut Option<LeaseWatch>) {
        if watch.is_none() {
            *watch = self.store.watch_step_down(SCHEDULER_LEASE).await.ok();
        }
        if !changed(watch).await {
            std::future::pending::<()>().await;
        }
    }

    /// Whether this host's clock and the database's agree well enough to lead by.
    fn clocks_agree(&self, term: Term) -> bool {
        self.metrics.skew.set(term.skew.as_secs_f64());
        term.clocks_agree()
    }

    fn trusted_for(&self, term: Term) -> Duration {
        term.trusted_until.saturating_sub(self.clock.boottime())
    }
}

/// Waits until the lease is written; answers false when the watch broke instead, and is given up. Whoever waits must not
/// look at once then: a stream that breaks as soon as it is opened would turn the slow poll behind it into a busy one.
async fn changed(watch: &mut Option<LeaseWatch>) -> bool {
    let Some(stream) = watch else { return std::future::pending().await };
    match stream.changed().await {
        Ok(()) => true,
        Err(error) => {
            tracing::debug!(%error, "the watch on the lease broke; opening another");
            *watch = None;
            false
        }
    }
}
