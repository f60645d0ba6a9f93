// SPDX-License-Identifier: Apache-2.0
//! How far back a look at the queue goes. One that goes all the way is dear: the index keeps traces of every job that was due
//! in the last minutes.

use std::time::Duration;

use cap_core::clock::earlier;
use jiff::Timestamp;

/// How long looks are made behind one that went all the way back.
const QUICK: Duration = Duration::from_secs(1);
/// How much later than it says a job may come into sight: a transaction stamps it with the time at which it writes, and takes
/// a while to commit. What is later still waits for the next look that goes all the way back.
const LATE: Duration = Duration::from_secs(10);

/// What the last look saw that went all the way back.
#[derive(Debug, Default)]
pub(crate) struct Sight {
    /// When it was made (boot time), and since when what it left has been due.
    seen: Option<(Duration, Timestamp)>,
}

impl Sight {
    /// From when on a quick look at `now` (boot time) must look; nothing where it must go all the way back.
    pub(crate) fn since(&self, now: Duration) -> Option<Timestamp> {
        let (at, since) = self.seen?;
        (now.saturating_sub(at) < QUICK).then_some(since)
    }

    /// A look that began at `asked_at` (boot time), `now` by the clock that queues are stamped with, went all the way back.
    /// The oldest that it found has been due since `oldest`.
    pub(crate) fn saw(&mut self, asked_at: Duration, now: Timestamp, oldest: Option<Timestamp>) {
        let since = oldest.map_or(now, |oldest| oldest.min(now));
        self.seen = Some((asked_at, earlier(since, LATE)));
    }

    /// The database failed: another one may answer next.
    pub(crate) fn forget(&mut self) {
        self.seen = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Duration {
        Duration::from_secs(1_000) + Duration::from_millis(ms)
    }

    #[test]
    fn a_look_is_quick_for_a_second_after_a_whole_one() {
        let now = Timestamp::from_second(1_790_000_000).unwrap();
        let mut sight = Sight::default();
        assert_eq!(sight.since(at(0)), None, "nothing was seen yet");
        sight.saw(at(0), now, None);
        assert_eq!(sight.since(at(999)), Some(earlier(now, LATE)));
        assert_eq!(sight.since(at(1_000)), None);
        sight.saw(at(1_000), now, None);
        sight.forget();
        assert_eq!(sight.since(at(1_001)), None);
    }

    #[test]
    fn what_was_left_stays_in_sight_and_a_time_to_come_hides_nothing() {
        let now = Timestamp::from_second(1_790_000_000).unwrap();
        let hour_ago = earlier(now, Duration::from_secs(3_600));
        let mut sight = Sight::default();
        sight.saw(at(0), now, Some(hour_ago));
        assert_eq!(sight.since(at(1)), Some(earlier(hour_ago, LATE)));
        sight.saw(at(0), hour_ago, Some(now));
        assert_eq!(sight.since(at(1)), Some(earlier(hour_ago, LATE)));
    }
}
