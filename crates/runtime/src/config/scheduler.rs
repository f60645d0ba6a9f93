// SPDX-License-Identifier: Apache-2.0
//! What a scheduler is told.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::{Config, Group};

/// Shorter, and a slow write costs the lead; longer, and nobody leads for that long after a kill.
const LEASE: RangeInclusive<Duration> = Duration::from_secs(3)..=Duration::from_secs(5 * 60);

/// What a scheduler is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchedulerConfig {
    /// How long a leader that is killed or lost is waited for.
    pub lease: Duration,
}

impl Group for SchedulerConfig {
    fn read(config: &mut Config) -> Option<Self> {
        let lease = config.duration("CAP_SCHEDULER_LEASE", LEASE)?;
        Some(Self { lease })
    }
}
