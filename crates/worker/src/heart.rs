// SPDX-License-Identifier: Apache-2.0
//! The heart: one task that extends the leases of all jobs that this process holds.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cap_core::clock::Clock;
use cap_core::id::{ClaimId, JobId};
use cap_core::job::{Claim, Mandate, ProjectLane};
use cap_store::{Extended, Store};

use crate::Metrics;

/// How often in a lease it is extended: a failed extension is followed by another before the work must stop, unless
/// the database takes its whole bound to fail.
pub(crate) const BEATS_PER_LEASE: u32 = 4;
/// The part of the lease that the worker gives away, so that it stops before a peer may start.
const MARGIN_DIVISOR: u32 = 5;

/// How long a look at the queue is behind the one before, for each job in hand: one claim of several costs the database as much as
/// one of one, and an idle worker, which has none, looks at once.
const PACE_PER_JOB: Duration = Duration::from_millis(2);
/// And at most.
const PACE_MAX: Duration = Duration::from_millis(50);

/// The jobs that this process holds.
#[derive(Clone)]
pub(crate) struct Heart {
    store: Store,
    clock: Arc<dyn Clock>,
    lease: Duration,
    held: Arc<Mutex<HashMap<JobId, Held>>>,
    failed_at: Arc<Mutex<Duration>>,
    metrics: Metrics,
}

struct Held {
    token: ClaimId,
    attempt: i32,
    mandate: Mandate,
    /// None for work that stands apart: it has places of its own.
    lane: Option<ProjectLane>,
}

impl Heart {
    pub(crate) fn new(store: Store, clock: Arc<dyn Clock>, lease: Duration, metrics: Metrics) -> Self {
        Self { store, clock, lease, held: Arc::default(), failed_at: Arc::default(), metrics }
    }

    /// Takes a job in that was claimed by a request which started at `asked_at` (boot time).
    pub(crate) fn hold(&self, claim: &Claim, asked_at: Duration) -> Mandate {
        let mandate = Mandate::new(self.clock.clone(), self.trusted_until(asked_at));
        let lane = (!claim.work.is_apart()).then_some(claim.project_lane());
        let held = Held { token: claim.token, attempt: claim.attempt, mandate: mandate.clone(), lane };
        take_in(&mut self.lock(), claim.job, held);
        mandate
    }

    /// How long news of the queue can wait, and the next look at it: the more jobs there are in hand, the longer.
    pub(crate) fn pace(&self) -> Duration {
        pace(self.lock().len())
    }

    /// How many jobs of each lane this process holds.
    pub(crate) fn lanes(&self) -> BTreeMap<ProjectLane, usize> {
        let mut lanes = BTreeMap::new();
        for lane in self.lock().values().filter_map(|held| held.lane) {
            *lanes.entry(lane).or_default() += 1;
        }
        lanes
    }

    /// Lets a job go, unless another claim of this process has it by now.
    pub(crate) fn release(&self, claim: &Claim) {
        let mut held = self.lock();
        if held.get(&claim.job).is_some_and(|now| now.token == claim.token) {
            held.remove(&claim.job);
        }
    }

    /// When leases could last not be extended (boot time); the boot where they always could.
    pub(crate) fn failed_at(&self) -> Duration {
        *self.failed_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks all work to end at its next step.
    pub(crate) fn stop_all(&self) {
        for held in self.lock().values() {
            held.mandate.stop();
        }
    }

    /// Beats for ever; ends only when dropped.
    pub(crate) async fn beat(&self) {
        loop {
            self.clock.sleep(self.lease / BEATS_PER_LEASE).await;
            let held: Vec<_> =
                self.lock().iter().map(|(job, held)| (*job, held.token, held.attempt)).collect();
            if held.is_empty() {
                continue;
            }
            let asked_at = self.clock.boottime();
            match self.store.extend_claims(&held, self.lease).await {
                Ok(extended) => self.note(&held, &extended, asked_at),
                Err(error) => {
                    tracing::warn!(%error, jobs = held.len(), "the leases of running jobs were not extended");
                    let mut failed_at = self.failed_at.lock().unwrap_or_else(PoisonError::into_inner);
                    *failed_at = self.clock.boottime();
                }
            }
        }
    }

    fn note(&self, asked: &[(JobId, ClaimId, i32)], extended: &Extended, asked_at: Duration) {
        let held = self.lock();
        for (job, token, _) in asked {
            let Some(Held { mandate, .. }) = held.get(job).filter(|now| now.token == *token) else {
                continue;
            };
            if extended.kept.contains(job) {
                mandate.extend(self.trusted_until(asked_at));
                continue;
            }
            if extended.taken.contains(job) {
                tracing::warn!(%job, "the job's lease ran out; a peer had it since");
                self.metrics.leases_lost.inc();
            } else {
                tracing::debug!(%job, "the job was settled, or ended with what it was for");
            }
            mandate.revoke();
        }
    }

    fn trusted_until(&self, asked_at: Duration) -> Duration {
        asked_at + self.lease - self.lease / MARGIN_DIVISOR
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<JobId, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a claim of a job in. One before it ends: its lease ran out by the database's clock, and this process was the next to claim the job.
fn take_in(hand: &mut HashMap<JobId, Held>, job: JobId, held: Held) {
    if let Some(before) = hand.insert(job, held) {
        before.mandate.revoke();
    }
}

fn pace(in_hand: usize) -> Duration {
    PACE_PER_JOB.saturating_mul(u32::try_from(in_hand).unwrap_or(u32::MAX)).min(PACE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cap_runtime::{clock::SystemClock, entropy::OsEntropy};

    #[test]
    fn whoever_claims_what_it_holds_ends_its_own_earlier_run() {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let (mut hand, job) = (HashMap::new(), JobId::generate(&SystemClock, &OsEntropy));
        let mut claimed = |attempt| {
            let until = clock.boottime() + Duration::from_secs(60);
            let mandate = Mandate::new(clock.clone(), until);
            let token = ClaimId::generate(&SystemClock, &OsEntropy);
            take_in(&mut hand, job, Held { token, attempt, mandate: mandate.clone(), lane: None });
            mandate
        };
        let (first, second) = (claimed(1), claimed(2));
        assert!(!first.holds() && second.holds());
    }

    #[test]
    fn an_idle_worker_waits_for_nothing_and_no_other_for_long() {
        assert_eq!(pace(0), Duration::ZERO);
        assert_eq!(pace(3), 3 * PACE_PER_JOB);
        assert_eq!([pace(1_000), pace(usize::MAX)], [PACE_MAX; 2]);
    }
}
