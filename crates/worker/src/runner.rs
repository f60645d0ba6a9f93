// SPDX-License-Identifier: Apache-2.0
//! The runner: claims what there is room for, runs it, and hands back what it holds when it is asked to stop.

use std::sync::Arc;
use std::time::Duration;

use cap_core::entropy;
use cap_core::id::ClaimId;
use cap_core::job::{Claim, Mandate, ProjectLane, Room};
use cap_core::limits::{CLAIM_BATCH, JOB_PARTITIONS};
use cap_store::{Search, StoreError};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::apart;
use crate::grace::Grace;
use crate::handlers::{World, run};
use crate::heart::Heart;
use crate::metrics::Metrics;
use crate::place::{Place, Places};
use crate::sight::Sight;

/// The slow poll behind the wake-up stream, and the wait after the database failed; up to half of it more by jitter.
const POLL: Duration = Duration::from_secs(1);
/// How often abandoned transactions are looked for; up to half of it more by jitter.
const SWEEP: Duration = Duration::from_secs(4);
/// How long the first free place waits for others while there is much to do: one claim for many costs the database as
/// much as one for one, and there are jobs in hand meanwhile.
const GATHER: Duration = Duration::from_millis(250);
/// And where several lanes have something to do: whoever has little of it waits for the next claim.
const GATHER_SHARED: Duration = Duration::from_millis(50);
/// How long after that was seen last it is taken to be so.
const SHARED: Duration = Duration::from_secs(60);
/// Partitions of a narrow look: claimers that look at different ones do not meet.
const NARROW: u16 = 8;
/// The part of the places that jobs of side lanes may take together; one at least.
const SIDE_DIVISOR: usize = 4;

/// Runs jobs until it is told to stop.
pub struct Runner {
    pub(crate) world: Arc<World>,
    pub(crate) owner: String,
    concurrency: usize,
    pub(crate) lease: Duration,
    pub(crate) metrics: Metrics,
}

/// What a look at the queue found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// Nothing that is due.
    Nothing,
    /// Less than there was room for.
    Some,
    /// As much as there was room for: there may be more.
    More,
    /// The database did not answer.
    Failed,
}

/// What one look leaves to the next.
#[derive(Debug)]
struct Memory {
    /// The lane that the last look ended with.
    after: Option<ProjectLane>,
    /// When it may take from peers.
    grace: Grace,
    /// How far back the next look goes.
    sight: Sight,
    /// The places, which are to know what projects weigh.
    places: Places,
    /// Until when several lanes are taken to have something to do.
    shared_until: Duration,
    /// When the last look began (boot time).
    looked_at: Duration,
}

/// How a drain went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Every job was finished or handed back.
    Clean,
    /// So many jobs were still running when the grace ended; a peer resumes them after their lease.
    Abandoned(usize),
}

impl Runner {
    /// A runner called `owner` with room for `concurrency` jobs, each leased for `lease`.
    #[must_use]
    pub fn new(
        world: Arc<World>,
        owner: String,
        concurrency: usize,
        lease: Duration,
        metrics: Metrics,
    ) -> Self {
        Self { world, owner, concurrency, lease, metrics }
    }

    /// Claims and runs jobs until `stop`; then no job is claimed any more, running ones end at their next step and
    /// are handed back, for at most `grace`.
    pub async fn run(&self, stop: CancellationToken, grace: Duration) -> Drained {
        let heart =
            Heart::new(self.world.store.clone(), self.world.clock.clone(), self.lease, self.metrics.clone());
        let (wake, wake_scans, wake_looks, wake_revocations) =
            (Arc::new(Notify::new()), Notify::new(), Notify::new(), Notify::new());
        let places = Places::new(self.concurrency);
        let (mut jobs, mut scans, mut looks, mut revocations) =
            (JoinSet::new(), JoinSet::new(), JoinSet::new(), JoinSet::new());
        let claiming = async {
            let grace = Grace::new(self.lease, self.world.clock.boottime());
            let mut memory = Memory {
                after: None,
                grace,
                sight: Sight::default(),
                places: places.clone(),
                shared_until: Duration::ZERO,
                looked_at: Duration::ZERO,
            };
            let mut looked = Look::Nothing;
            // Only the waits end at once when the stop comes: a claim that is under way is awaited, so that what it
            // claims is handed back rather than left to its lease.
            while let Some(free) = stop.run_until_cancelled(self.room(&memory, looked, &heart)).await {
                while jobs.try_join_next().is_some() {}
                memory.looked_at = self.world.clock.boottime();
                looked = self.claim(free, &heart, &mut jobs, looked, &mut memory).await;
                if matches!(looked, Look::Nothing | Look::Failed) {
                    stop.run_until_cancelled(self.idle(&wake)).await;
                }
            }
        };
        let scanning = self.run_apart(&apart::DRIFT, &stop, &wake_scans, &heart, &mut scans);
        let looking = self.run_apart(&apart::RENEWAL_INFO, &stop, &wake_looks, &heart, &mut looks);
        let revoking = self.run_apart(&apart::REVOCATION, &stop, &wake_revocations, &heart, &mut revocations);
        let beating = heart.clone();
        let wakes = [wake.as_ref(), &wake_scans, &wake_looks, &wake_revocations];
        let background = async { tokio::join!(beating.beat(), self.listen(wakes, &heart), self.sweep()) };
        tokio::pin!(background);
        tokio::select! {
            ((), (), (), ()) = async { tokio::join!(claiming, scanning, looking, revoking) } => {}
            _ = &mut background => {}
        }
        heart.stop_all();
        let draining = async {
            tokio::join!(ended(&mut jobs), ended(&mut scans), ended(&mut looks), ended(&mut revocations));
        };
        let drained = tokio::select! {
            finished = tokio::time::timeout(grace, draining) => finished.is_ok(),
            _ = &mut background => false,
        };
        if drained {
            return Drained::Clean;
        }
        Drained::Abandoned(jobs.len() + scans.len() + looks.len() + revocations.len())
    }

    /// Places for the next jobs, at least one; where there is more to do than there was room for, for several, and otherwise when the
    /// jobs in hand have kept their pace.
    async fn room(&self, memory: &Memory, before: Look, heart: &Heart) -> Vec<Place> {
        let places = &memory.places;
        let is_shared = self.world.clock.boottime() < memory.shared_until;
        let wanted = if before == Look::More { self.concurrency.div_ceil(2).min(CLAIM_BATCH) } else { 1 };
        let mut free: Vec<Place> = places.take().await.into_iter().collect();
        if before != Look::More {
            let since = self.world.clock.boottime().saturating_sub(memory.looked_at);
            let wait = heart.pace().saturating_sub(since);
            if !wait.is_zero() {
                self.world.clock.sleep(wait).await;
            }
        }
        let gathering = async {
            while free.len() < wanted {
                free.extend(places.take().await);
            }
        };
        let most = if is_shared { GATHER_SHARED } else { GATHER };
        let _ = tokio::time::timeout(most, gathering).await;
        free.extend(std::iter::from_fn(|| places.try_take()).take(CLAIM_BATCH.saturating_sub(free.len())));
        free
    }

    /// Claims once; answers what there was.
    async fn claim(
        &self,
        free: Vec<Place>,
        heart: &Heart,
        jobs: &mut JoinSet<()>,
        before: Look,
        memory: &mut Memory,
    ) -> Look {
        let room = free.len();
        let claimed = match self.look(room, heart, before, memory).await {
            Ok(claimed) => claimed,
            Err(error) => {
                tracing::warn!(%error, "no jobs could be claimed; trying again");
                memory.grace.failed(self.world.clock.boottime());
                memory.sight.forget();
                return Look::Failed;
            }
        };
        let (claims, asked_at) = claimed;
        let looked = match claims.len() {
            0 => Look::Nothing,
            found if found < room => Look::Some,
            _ => Look::More,
        };
        for (claim, place) in claims.into_iter().zip(free) {
            let mandate = heart.hold(&claim, asked_at);
            jobs.spawn(carry(self.world.clone(), heart.clone(), self.metrics.clone(), claim, mandate, place));
        }
        looked
    }

    /// Looks at a few partitions where there is more than this worker has room for, or where others may hold the head of
    /// the queue, and at all of them when those are empty.
    async fn look(
        &self,
        room: usize,
        heart: &Heart,
        before: Look,
        memory: &mut Memory,
    ) -> Result<(Vec<Claim>, Duration), StoreError> {
        let World { store, clock, entropy, .. } = self.world.as_ref();
        let start = u16::try_from(entropy::below(entropy.as_ref(), u64::from(JOB_PARTITIONS))).unwrap_or(0);
        let all: Vec<u16> = (0..JOB_PARTITIONS).map(|offset| (start + offset) % JOB_PARTITIONS).collect();
        let narrow = &all[..usize::from(NARROW)];
        let crowded = matches!(before, Look::More | Look::Failed);
        let held = heart.lanes();
        let side: usize = held.iter().filter(|(lane, _)| lane.lane.is_side()).map(|(_, jobs)| *jobs).sum();
        let room = Room { all: room, side: (self.concurrency / SIDE_DIVISOR).max(1).saturating_sub(side) };
        memory.grace.failed(heart.failed_at());
        let takes_over = memory.grace.is_over(clock.boottime());
        let since = if crowded { None } else { memory.sight.since(clock.boottime()) };
        // By lanes, the first look goes on from where the last one saw the heads; with nothing there it goes all the way.
        let lanes = if before == Look::More { memory.sight.lanes(clock.boottime()).cloned() } else { None };
        let quick = lanes.as_ref().map(|lanes| (narrow, Some(lanes)));
        let whole = if crowded { vec![(narrow, None), (&*all, None)] } else { vec![(&*all, None)] };
        for (partitions, lanes) in quick.into_iter().chain(whole) {
            let token = ClaimId::generate(clock.as_ref(), entropy.as_ref());
            let asked_at = clock.boottime();
            let search = Search {
                room,
                partitions,
                held: &held,
                after: memory.after,
                by_lanes: true,
                is_crowded: before == Look::More,
                lanes,
                takes_over,
                since,
                each_project: None,
                fair_until: Some((clock.as_ref(), memory.grace.fair_until(asked_at))),
                now: clock.now(),
            };
            let claimed = store.claim_jobs(&self.owner, token, self.lease, &search).await?;
            let looked = (asked_at, clock.boottime());
            memory.grace.answered(looked.0, looked.1);
            if since.is_none() && partitions.len() == all.len() && before != Look::More {
                memory.sight.saw(looked, search.now, claimed.oldest);
            }
            if lanes.is_none() && before == Look::More {
                memory.sight.saw_lanes(looked, claimed.lanes);
            }
            memory.after = claimed.last.or(memory.after);
            if held.len() > 1 || claimed.weights.is_some() {
                memory.shared_until = clock.boottime() + SHARED;
            }
            if let Some(weights) = claimed.weights {
                memory.places.weigh(weights);
            }
            if !claimed.claims.is_empty() {
                return Ok((claimed.claims, asked_at));
            }
        }
        Ok((Vec::new(), clock.boottime()))
    }

    /// Waits until a job is queued, or for the slow poll.
    async fn idle(&self, wake: &Notify) {
        let jitter = entropy::between(self.world.entropy.as_ref(), Duration::ZERO, POLL / 2);
        let _ = tokio::time::timeout(POLL + jitter, wake.notified()).await;
    }

    /// Ends, for ever, the transactions that dead processes left open: their locks stand in everybody's way.
    async fn sweep(&self) {
        let (clock, entropy) = (&self.world.clock, self.world.entropy.as_ref());
        loop {
            clock.sleep(SWEEP + entropy::between(entropy, Duration::ZERO, SWEEP / 2)).await;
            match self.world.store.end_abandoned_transactions().await {
                Ok(0) => {}
                Ok(transactions) => tracing::warn!(transactions, "ended what a dead process left open"),
                // The database ends them itself, later.
                Err(error) => tracing::debug!(%error, "abandoned transactions were not looked for"),
            }
        }
    }

    /// Follows the wake-up stream for ever; ends only when dropped.
    async fn listen(&self, wakes: [&Notify; 4], heart: &Heart) {
        let wake = || wakes.iter().for_each(|wake| wake.notify_one());
        loop {
            let heart = heart.clone();
            match self.world.store.watch_jobs(move || heart.pace()).await {
                Ok(mut watch) => {
                    // Jobs queued before the stream was open would wake nobody.
                    wake();
                    while watch.queued().await.is_ok() {
                        wake();
                    }
                }
                Err(error) => tracing::warn!(%error, "the queue cannot be watched; polling"),
            }
            self.world.clock.sleep(POLL).await;
        }
    }
}

/// Waits until all of these have ended; what has, counts no more.
async fn ended(running: &mut JoinSet<()>) {
    while running.join_next().await.is_some() {}
}

/// Runs one job and gives its place back.
pub(crate) async fn carry(
    world: Arc<World>,
    heart: Heart,
    metrics: Metrics,
    claim: Claim,
    mandate: Mandate,
    place: Place,
) {
    let started = world.clock.boottime();
    metrics.running.inc();
    let held = Held { heart, claim: &claim, metrics: &metrics };
    let outcome = run(&world, &claim, &mandate, &place).await;
    drop(held);
    let kind = claim.work.kind();
    let took = world.clock.boottime().saturating_sub(started);
    metrics.jobs.with_label_values(&[kind, outcome]).inc();
    metrics.duration.with_label_values(&[kind]).observe(took.as_secs_f64());
    if outcome == "lost" {
        metrics.writes_refused.inc();
    }
    drop(place);
}

/// A job in hand. However its run ends, by a panic too, its lease is extended no more and a peer may have it.
struct Held<'a> {
    heart: Heart,
    claim: &'a Claim,
    metrics: &'a Metrics,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.heart.release(self.claim);
        self.metrics.running.dec();
    }
}
