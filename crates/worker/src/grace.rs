// SPDX-License-Identifier: Apache-2.0
//! When a job may be taken from a peer whose lease ran out: not while the peer could not extend it for want of a database. A
//! job that changes hands for nothing costs more than the wait.

use std::time::Duration;

use crate::heart::BEATS_PER_LEASE;

/// How long after the database failed nothing is taken from a peer, in heartbeats.
const GRACE_BEATS: u32 = 2;

/// What one worker knows of it. All times are boot times.
#[derive(Debug)]
pub(crate) struct Grace {
    beat: Duration,
    failed_at: Duration,
}

impl Grace {
    /// For leases of this length, as of the worker's start: it does not know whether the database failed just before.
    pub(crate) fn new(lease: Duration, started_at: Duration) -> Self {
        Self { beat: lease / BEATS_PER_LEASE, failed_at: started_at }
    }

    /// The database failed a question of ours.
    pub(crate) fn failed(&mut self, at: Duration) {
        self.failed_at = self.failed_at.max(at);
    }

    /// The database answered: so late perhaps that there was no primary meanwhile.
    pub(crate) fn answered(&mut self, asked_at: Duration, at: Duration) {
        if at > self.fair_until(asked_at) {
            self.failed(at);
        }
    }

    /// Until when an answer to what was asked at `asked_at` says that the database was there.
    pub(crate) fn fair_until(&self, asked_at: Duration) -> Duration {
        asked_at + self.beat
    }

    /// Whether a job may be taken from a peer now.
    pub(crate) fn is_over(&self, now: Duration) -> bool {
        now.saturating_sub(self.failed_at) > self.beat * GRACE_BEATS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(60);

    fn at(second: u64) -> Duration {
        Duration::from_secs(1_000 + second)
    }

    #[test]
    fn nothing_is_taken_for_two_heartbeats_after_the_start_and_after_each_failure() {
        let mut grace = Grace::new(LEASE, at(0));
        assert!(!grace.is_over(at(0)) && !grace.is_over(at(30)) && grace.is_over(at(31)));
        grace.failed(at(100));
        assert!(!grace.is_over(at(130)) && grace.is_over(at(131)));
        grace.failed(at(50));
        assert!(!grace.is_over(at(130)), "an earlier failure that is heard of later changes nothing");
    }

    #[test]
    fn an_answer_that_took_longer_than_a_heartbeat_is_a_failure() {
        let mut grace = Grace::new(LEASE, at(0));
        grace.answered(at(100), at(115));
        assert!(grace.is_over(at(115)));
        grace.answered(at(200), at(216));
        assert!(!grace.is_over(at(246)) && grace.is_over(at(247)));
    }
}
