// SPDX-License-Identifier: Apache-2.0
//! How far back a look at the queue goes. One that goes all the way is dear: the index keeps traces of every job that was due
//! in the last minutes.

use std::time::Duration;

use cap_core::clock::earlier;
use cap_store::LanesSeen;
use jiff::Timestamp;

/// How long looks are made behind one that went all the way back, at least and at most.
const QUICK_MIN: Duration = Duration::from_secs(1);
const QUICK_MAX: Duration = Duration::from_secs(8);
/// In between, so many times as long as that one took: looks that go all the way back shall not be what a worker does most.
const QUICK_PER_LOOK: u32 = 20;
/// How much later than it says a job may come into sight: a transaction stamps it with the time at which it writes, and takes
/// a while to commit. What is later still waits for the next look that goes all the way back.
const LATE: Duration = Duration::from_secs(10);

/// What the last look saw that went all the way back.
#[derive(Debug, Default)]
pub struct Sight {
    /// Until when (boot time) looks are made behind it, and since when what it left has been due.
    seen: Option<(Duration, Timestamp)>,
    /// The same of the last one that went by lanes.
    lanes: Option<(Duration, LanesSeen)>,
}

/// Until when looks are made behind one that began and ended at these boot times.
fn quick_until(asked_at: Duration, answered_at: Duration) -> Duration {
    let took = answered_at.saturating_sub(asked_at);
    asked_at + (took * QUICK_PER_LOOK).clamp(QUICK_MIN, QUICK_MAX)
}

impl Sight {
    /// From when on a quick look at `now` (boot time) must look; nothing where it must go all the way back.
    #[must_use]
    pub fn since(&self, now: Duration) -> Option<Timestamp> {
        let (until, since) = self.seen?;
        (now < until).then_some(since)
    }

    /// A look that began and ended at these boot times, `now` by the clock that queues are stamped with, went all the way back.
    /// The oldest that it found has been due since `oldest`.
    pub fn saw(&mut self, looked: (Duration, Duration), now: Timestamp, oldest: Option<Timestamp>) {
        let since = oldest.map_or(now, |oldest| oldest.min(now));
        self.seen = Some((quick_until(looked.0, looked.1), earlier(since, LATE)));
    }

    /// What a quick look by lanes at `now` (boot time) goes on from; nothing where it must go all the way back.
    #[must_use]
    pub fn lanes(&self, now: Duration) -> Option<&LanesSeen> {
        let (until, lanes) = self.lanes.as_ref()?;
        (now < *until).then_some(lanes)
    }

    /// A look by lanes that began and ended at these boot times went all the way back.
    pub fn saw_lanes(&mut self, looked: (Duration, Duration), lanes: Option<LanesSeen>) {
        self.lanes = lanes.map(|lanes| (quick_until(looked.0, looked.1), lanes));
    }

    /// The database failed: another one may answer next.
    pub fn forget(&mut self) {
        *self = Self::default();
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
        sight.saw((at(0), at(2)), now, None);
        assert_eq!(sight.since(at(999)), Some(earlier(now, LATE)));
        assert_eq!(sight.since(at(1_000)), None);
        sight.saw((at(1_000), at(1_002)), now, None);
        sight.forget();
        assert_eq!(sight.since(at(1_001)), None);
    }

    #[test]
    fn the_dearer_a_whole_look_was_the_later_the_next_one_is() {
        let now = Timestamp::from_second(1_790_000_000).unwrap();
        for (took, quick) in [(50, 1_000), (100, 2_000), (400, 8_000), (60_000, 8_000)] {
            let mut sight = Sight::default();
            sight.saw((at(0), at(took)), now, None);
            sight.saw_lanes((at(0), at(took)), Some(LanesSeen::default()));
            assert!(
                sight.since(at(quick - 1)).is_some() && sight.lanes(at(quick - 1)).is_some(),
                "{took} ms"
            );
            assert!(sight.since(at(quick)).is_none() && sight.lanes(at(quick)).is_none(), "{took} ms");
        }
    }

    #[test]
    fn a_look_by_lanes_goes_on_for_a_second_from_one_that_saw_them_all() {
        let mut sight = Sight::default();
        assert_eq!(sight.lanes(at(0)), None);
        sight.saw_lanes((at(0), at(1)), Some(LanesSeen::default()));
        assert!(sight.lanes(at(999)).is_some());
        assert_eq!(sight.lanes(at(1_000)), None);
        sight.saw_lanes((at(1_000), at(1_001)), None);
        assert_eq!(sight.lanes(at(1_001)), None, "there were more of them");
        sight.saw_lanes((at(1_001), at(1_002)), Some(LanesSeen::default()));
        sight.forget();
        assert_eq!(sight.lanes(at(1_002)), None);
    }

    #[test]
    fn what_was_left_stays_in_sight_and_a_time_to_come_hides_nothing() {
        let now = Timestamp::from_second(1_790_000_000).unwrap();
        let hour_ago = earlier(now, Duration::from_secs(3_600));
        let mut sight = Sight::default();
        sight.saw((at(0), at(0)), now, Some(hour_ago));
        assert_eq!(sight.since(at(1)), Some(earlier(hour_ago, LATE)));
        sight.saw((at(0), at(0)), hour_ago, Some(now));
        assert_eq!(sight.since(at(1)), Some(earlier(hour_ago, LATE)));
    }
}
