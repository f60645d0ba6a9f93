// SPDX-License-Identifier: Apache-2.0
//! The queue as a whole: how deep it is, how old its oldest job is, and how long that may be told.

use std::time::Duration;

use jiff::Timestamp;

use crate::clock::until;
use crate::job::Work;
use crate::limits;

/// What was counted, each count ended at one more than [`limits::QUEUE_COUNT`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// Jobs that wait and whose time has come, those whose lease ran out among them.
    pub due: u64,
    /// Jobs that a worker has.
    pub running: u64,
}

/// Jobs that are due or running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Depth {
    /// How many. An estimate if capped, and then never less than [`limits::QUEUE_COUNT`].
    pub jobs: u64,
    /// Whether there are more than are counted.
    pub capped: bool,
}

impl Counted {
    /// Whether there are more than are counted.
    #[must_use]
    pub fn is_capped(self) -> bool {
        self.due.saturating_add(self.running) > limits::QUEUE_COUNT
    }

    /// The depth. `due_in_one` partition stands for all of them where there are more jobs than are counted: the hash
    /// of their ids spreads them evenly.
    #[must_use]
    pub fn depth(self, due_in_one: u64) -> Depth {
        let counted = self.due.saturating_add(self.running);
        if !self.is_capped() {
            return Depth { jobs: counted, capped: false };
        }
        let estimate = due_in_one.saturating_mul(limits::JOB_PARTITIONS.into()).saturating_add(self.running);
        Depth { jobs: estimate.max(counted), capped: true }
    }
}

/// The jobs of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OfKind {
    /// How many are due; no fewer than [`limits::QUEUE_COUNT`] if capped.
    pub due: u64,
    /// How many run.
    pub running: u64,
    /// Whether there are more than are counted.
    pub capped: bool,
    /// How long the oldest that is due has been due; nothing when none is.
    pub oldest_age: Duration,
}

/// The jobs of each kind, in the order of [`Work::KINDS`].
pub type ByKind = [OfKind; Work::KINDS.len()];

/// One look at the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Jobs that are due or running.
    pub depth: Depth,
    /// How long the oldest job that is due has been due; nothing when none is.
    pub oldest_age: Duration,
    /// The same by kind, what only looks among it; nothing where a leader of an earlier build looked.
    pub kinds: Option<ByKind>,
    /// When, by the database's clock.
    pub measured_at: Timestamp,
}

impl Sample {
    /// Whether it may still be told at `now`, by the database's clock. One from the future was stamped by a clock that
    /// was wrong.
    #[must_use]
    pub fn is_current(&self, now: Timestamp) -> bool {
        until(self.measured_at, now).max(until(now, self.measured_at)) <= limits::QUEUE_SAMPLE_KEPT
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::later;

    #[test]
    fn what_can_be_counted_is_told_exactly() {
        let depth = |due, running| Counted { due, running }.depth(7);
        assert_eq!(depth(0, 0), Depth { jobs: 0, capped: false });
        let all = limits::QUEUE_COUNT;
        assert_eq!(depth(all - 32, 32), Depth { jobs: all, capped: false });
        assert!(depth(all - 32, 33).capped);
    }

    #[test]
    fn an_estimate_is_never_less_than_what_was_counted() {
        let counted = Counted { due: limits::QUEUE_COUNT + 1, running: 5 };
        assert_eq!(counted.depth(0), Depth { jobs: limits::QUEUE_COUNT + 6, capped: true });
        assert_eq!(counted.depth(1_000), Depth { jobs: 64_005, capped: true });
    }

    #[test]
    fn a_sample_is_told_for_so_long_and_not_from_the_future() {
        let at = Timestamp::from_second(1_790_000_000).unwrap();
        let depth = Depth { jobs: 1, capped: false };
        let sample = |measured_at| Sample { depth, oldest_age: Duration::ZERO, kinds: None, measured_at };
        let (kept, beyond) =
            (limits::QUEUE_SAMPLE_KEPT, limits::QUEUE_SAMPLE_KEPT + Duration::from_millis(1));
        assert!(sample(at).is_current(at) && sample(at).is_current(later(at, kept)));
        assert!(!sample(at).is_current(later(at, beyond)));
        assert!(!sample(later(at, beyond)).is_current(at));
    }
}
