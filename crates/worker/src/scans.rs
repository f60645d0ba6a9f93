// SPDX-License-Identifier: Apache-2.0
//! What only looks, at what others serve and at what CAs say of renewal: each kind is claimed from partitions of its own into
//! places of its own, so that no renewal ever waits for one, and neither kind for the other.

use std::collections::BTreeMap;
use std::time::Duration;

use cap_core::entropy;
use cap_core::id::ClaimId;
use cap_core::job::Room;
use cap_core::limits::{ARI_ISSUERS, ARI_PARTITION, DRIFT_PARTITIONS, DRIFT_SCANS, JOB_PARTITIONS};
use cap_store::Search;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::heart::Heart;
use crate::place::{Place, Places};
use crate::runner::{Runner, carry};

/// The wait after a claim that found nothing, whatever wakes us: the queue wakes everybody for every job, and most of them
/// are not of this kind.
const LOOK: Duration = Duration::from_secs(1);
/// The slow poll behind the wake-up; up to half of it more by jitter.
const POLL: Duration = Duration::from_secs(15);

/// A kind of jobs that only look.
#[derive(Debug)]
pub(crate) struct Side {
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
pub(crate) const DRIFT: Side =
    Side { what: "drift scans", first: JOB_PARTITIONS, partitions: DRIFT_PARTITIONS, places: DRIFT_SCANS };
/// Looks at when CAs want certificates renewed.
pub(crate) const RENEWAL_INFO: Side =
    Side { what: "looks at renewal information", first: ARI_PARTITION, partitions: 1, places: ARI_ISSUERS };

impl Runner {
    /// Claims and runs the jobs of one kind until `stop`.
    pub(crate) async fn scan(
        &self,
        side: &Side,
        stop: &CancellationToken,
        wake: &Notify,
        heart: &Heart,
        jobs: &mut JoinSet<()>,
    ) {
        let places = Places::new(side.places);
        while let Some(place) = stop.run_until_cancelled(places.take()).await {
            while jobs.try_join_next().is_some() {}
            let mut free: Vec<Place> = place.into_iter().collect();
            free.extend(std::iter::from_fn(|| places.try_take()));
            // A claim that is under way is awaited, so that what it claims is handed back.
            if !self.claim_scans(side, free, heart, jobs).await {
                stop.run_until_cancelled(self.wait_for_scans(wake)).await;
            }
        }
    }

    /// Claims once; answers whether there was anything.
    async fn claim_scans(
        &self,
        side: &Side,
        free: Vec<Place>,
        heart: &Heart,
        jobs: &mut JoinSet<()>,
    ) -> bool {
        let (clock, entropy) = (self.world.clock.as_ref(), self.world.entropy.as_ref());
        let partitions: Vec<u16> = (side.first..side.first + side.partitions).collect();
        let token = ClaimId::generate(clock, entropy);
        let asked_at = clock.boottime();
        let (held, now) = (BTreeMap::new(), clock.now());
        let room = Room { all: free.len(), side: 0 };
        let search = Search::anything(room, &partitions, &held, now);
        let claims = match self.world.store.claim_jobs(&self.owner, token, self.lease, &search).await {
            Ok(claimed) => claimed.claims,
            Err(error) => {
                tracing::warn!(%error, "no {} could be claimed; trying again", side.what);
                return false;
            }
        };
        let found = !claims.is_empty();
        for (claim, place) in claims.into_iter().zip(free) {
            let mandate = heart.hold(&claim, asked_at);
            jobs.spawn(carry(self.world.clone(), heart.clone(), self.metrics.clone(), claim, mandate, place));
        }
        found
    }

    async fn wait_for_scans(&self, wake: &Notify) {
        self.world.clock.sleep(LOOK).await;
        let jitter = entropy::between(self.world.entropy.as_ref(), Duration::ZERO, POLL / 2);
        let _ = tokio::time::timeout(POLL + jitter, wake.notified()).await;
    }
}
