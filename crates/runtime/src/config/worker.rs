// SPDX-License-Identifier: Apache-2.0
//! What a worker is told.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::{Config, Group};

/// Shorter, and an election of the database costs every lease; longer, and a dead worker's jobs wait that long.
const JOB_LEASE: RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_secs(10 * 60);
/// One process holds at most this many connections to CAs.
const CONCURRENCY_MAX: u32 = 1000;

/// Fewer, and the renewals and retries of a quiet week would blow it.
const FUSE: RangeInclusive<u64> = 3..=1000;

/// What a worker is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerConfig {
    /// A peer may re-claim a job after it.
    pub job_lease: Duration,
    /// Jobs at the CA at once.
    pub concurrency: usize,
    /// Orders for the same names after which no more are begun for a while.
    pub fuse: u32,
}

impl Group for WorkerConfig {
    fn read(config: &mut Config) -> Option<Self> {
        let job_lease = config.duration("CAP_JOB_LEASE", JOB_LEASE);
        let concurrency = config.integer("CAP_WORKER_CONCURRENCY", 1..=CONCURRENCY_MAX.into());
        let fuse = config.integer("CAP_ISSUANCE_FUSE", FUSE);
        Some(Self {
            fuse: fuse.and_then(|orders| u32::try_from(orders).ok())?,
            job_lease: job_lease?,
            concurrency: concurrency.and_then(|jobs| usize::try_from(jobs).ok())?,
        })
    }
}
