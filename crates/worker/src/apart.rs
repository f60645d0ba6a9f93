// SPDX-License-Identifier: Apache-2.0
//! What stands apart: looks at what others serve, looks at what CAs say of renewal, and revocations. Each kind is claimed
//! from partitions of its own into places of its own, so that no kind ever waits for another.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cap_core::clock::Clock;
use cap_core::entropy;
use cap_core::id::ClaimId;
use cap_core::job::{ProjectLane, Room};
use cap_core::limits::{
    ARI_ISSUERS, ARI_PARTITION, DRIFT_PARTITIONS, DRIFT_SCAN_AGAIN, DRIFT_SCANS, JOB_PARTITIONS,
    REVOCATION_PARTITION, REVOCATIONS,
};
use cap_store::Search;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::grace::Grace;
use crate::heart::Heart;
use crate::place::{Place, Places};
use crate::runner::{Runner, carry};

/// The wait after a claim that found nothing, whatever wakes us: the queue wakes everybody for every job, and most of them
/// are not of this kind.
const LOOK: Duration = Duration::from_secs(1);
/// The slow poll behind the wake-up; up to half of it more by jitter.
const POLL: Duration = Duration::from_secs(15);
/// The same behind a wake that led to nothing: what was queued is due later, a repeated scan by then at the latest.
const POLL_WOKEN: Duration = DRIFT_SCAN_AGAIN;

/// A kind of jobs that stand apart.
#[derive(Debug)]
pub(crate) struct Apart {
    /// What they are, for the log.
    what: &'static str,
    /// Its first partition.
    first: u16,
    /// And how many it has.
    partitions: u16,
    /// How many of its jobs one worker runs at once.
    places: usize,
}

/// Looks at what certificates' names serve.
pub(crate) const DRIFT: Apart =
    Apart { what: "drift scans", first: JOB_PARTITIONS, partitions: DRIFT_PARTITIONS, places: DRIFT_SCANS };
/// Looks at when CAs want certificates renewed.
pub(crate) const RENEWAL_INFO: Apart =
    Apart { what: "looks at renewal information", first: ARI_PARTITION, partitions: 1, places: ARI_ISSUERS };
/// Revokes what is no good any more.
pub(crate) const REVOCATION: Apart =
    Apart { what: "revocations", first: REVOCATION_PARTITION, partitions: 1, places: REVOCATIONS };

impl Apart {
    /// Places that jobs of one project may have: the others are for whoever comes, however many of its jobs hang.
    fn each_project(&self) -> usize {
        self.places.div_ceil(2)
    }
}

/// Jobs of one kind that this worker runs, by the lanes that they would be in.
#[derive(Debug, Clone, Default)]
struct Running(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// How many of each.
    lanes: Mutex<BTreeMap<ProjectLane, usize>>,
    /// Told when one ends: its project may have another.
    ended: Notify,
}

impl Running {
    fn lanes(&self) -> MutexGuard<'_, BTreeMap<ProjectLane, usize>> {
        self.0.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hold(&self, lane: ProjectLane) -> Holding {
        *self.lanes().entry(lane).or_default() += 1;
        Holding { running: self.clone(), lane }
    }
}

/// One of them; dropped, it is none any more, however it ended.
struct Holding {
    running: Running,
    lane: ProjectLane,
}

impl Drop for Holding {
    fn drop(&mut self) {
        let mut lanes = self.running.lanes();
        if let Some(jobs) = lanes.get_mut(&self.lane) {
            *jobs -= 1;
        }
        lanes.retain(|_, jobs| *jobs > 0);
        drop(lanes);
        self.running.0.ended.notify_one();
    }
}

impl Runner {
    /// Claims and runs the jobs of one kind until `stop`.
    pub(crate) async fn run_apart(
        &self,
        kind: &Apart,
        stop: &CancellationToken,
        wake: &Notify,
        heart: &Heart,
        jobs: &mut JoinSet<()>,
    ) {
        let (places, held) = (Places::new(kind.places), Running::default());
        let mut is_woken = false;
        let mut grace = Grace::new(self.lease, self.world.clock.boottime());
        while let Some(place) = stop.run_until_cancelled(places.take()).await {
            while jobs.try_join_next().is_some() {}
            let mut free: Vec<Place> = place.into_iter().collect();
            free.extend(std::iter::from_fn(|| places.try_take()));
            // A claim that is under way is awaited, so that what it claims is handed back.
            match self.claim_apart(kind, free, heart, jobs, (&held, &mut grace)).await {
                true => is_woken = false,
                false => {
                    let wait = self.wait_apart(wake, is_woken);
                    let wait = async {
                        tokio::select! {
                            is_woken = wait => is_woken,
                            () = held.0.ended.notified() => false,
                        }
                    };
                    is_woken = stop.run_until_cancelled(wait).await.unwrap_or(false);
                }
            }
        }
    }

    /// Claims once; answers whether there was anything.
    async fn claim_apart(
        &self,
        kind: &Apart,
        free: Vec<Place>,
        heart: &Heart,
        jobs: &mut JoinSet<()>,
        (held, grace): (&Running, &mut Grace),
    ) -> bool {
        let (clock, entropy) = (self.world.clock.as_ref(), self.world.entropy.as_ref());
        let partitions: Vec<u16> = (kind.first..kind.first + kind.partitions).collect();
        let token = ClaimId::generate(clock, entropy);
        let asked_at = clock.boottime();
        let (by_lane, now) = (held.lanes().clone(), clock.now());
        let room = Room { all: free.len(), side: 0 };
        grace.failed(heart.failed_at());
        let anything = Search::anything(room, &partitions, &by_lane, now);
        let search = Search { each_project: Some(kind.each_project()), ..anything };
        let search = fairly(search, grace, clock, asked_at);
        let claims = match self.world.store.claim_jobs(&self.owner, token, self.lease, &search).await {
            Ok(claimed) => {
                grace.answered(asked_at, clock.boottime());
                claimed.claims
            }
            Err(error) => {
                grace.failed(clock.boottime());
                tracing::warn!(%error, "no {} could be claimed; trying again", kind.what);
                return false;
            }
        };
        let found = !claims.is_empty();
        for (claim, place) in claims.into_iter().zip(free) {
            let (mandate, holding) = (heart.hold(&claim, asked_at), held.hold(claim.project_lane()));
            let run = carry(self.world.clone(), heart.clone(), self.metrics.clone(), claim, mandate, place);
            jobs.spawn(async move {
                run.await;
                drop(holding);
            });
        }
        found
    }

    /// Answers whether it was woken.
    async fn wait_apart(&self, wake: &Notify, is_woken: bool) -> bool {
        self.world.clock.sleep(LOOK).await;
        let jitter = entropy::between(self.world.entropy.as_ref(), Duration::ZERO, POLL / 2);
        let wait = if is_woken { POLL_WOKEN } else { POLL + jitter };
        tokio::time::timeout(wait, wake.notified()).await.is_ok()
    }
}

/// A search that takes nothing from a peer who could not extend its leases for want of a database.
fn fairly<'a>(search: Search<'a>, grace: &Grace, clock: &'a dyn Clock, asked_at: Duration) -> Search<'a> {
    let fair_until = Some((clock, grace.fair_until(asked_at)));
    Search { takes_over: grace.is_over(asked_at), fair_until, ..search }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_taken_from_a_peer_while_it_may_want_for_a_database() {
        const LEASE: Duration = Duration::from_secs(60);
        let (clock, held) = (cap_runtime::clock::SystemClock, BTreeMap::new());
        let at = |second: u64| Duration::from_secs(1_000 + second);
        let mut grace = Grace::new(LEASE, at(0));
        let takes = |grace: &Grace, second: u64| {
            let room = Room { all: 1, side: 0 };
            let search = Search::anything(room, &[], &held, clock.now());
            let search = fairly(search, grace, &clock, at(second));
            let (_, until) = search.fair_until.unwrap();
            assert_eq!(until, grace.fair_until(at(second)), "an answer that comes too late says nothing");
            search.takes_over
        };
        assert!(!takes(&grace, 1) && takes(&grace, 100));
        grace.failed(at(100));
        assert!(!takes(&grace, 101) && takes(&grace, 200));
    }
}
