// SPDX-License-Identifier: Apache-2.0
//! The window that a CA suggests, and the time that is drawn in it.

use std::time::Duration;

use jiff::Timestamp;

use crate::certificate::left_at_renewal;
use crate::clock::{later, until};
use crate::entropy::{self, Entropy};

/// The part of the life that renewal by fraction leaves, of which every window leaves as much at least: a half of it is time
/// enough for what fails.
const LEFT_DIVISOR: u32 = 2;

/// A time in which a CA wants a certificate renewed (RFC 9773, 4.2), to the millisecond. It ends after it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    start: Timestamp,
    end: Timestamp,
}

/// Why a window is not followed: renewal goes on as if the CA had not been asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadWindow {
    /// It ends before it has begun.
    #[error(
        "the CA suggests a window from {0} to {1}, which ends before it begins, so it is ignored (RFC 9773, 4.2); \
         renewal stays as planned"
    )]
    Empty(Timestamp, Timestamp),
    /// There is nothing left to renew in it.
    #[error(
        "the CA suggests a window from {0} on, but the certificate expires at {1}, so it is ignored; renewal stays as planned"
    )]
    AfterExpiry(Timestamp, Timestamp),
}

/// A window, and the time drawn in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Suggestion {
    /// The window.
    pub window: Window,
    /// The time.
    pub renew_at: Timestamp,
}

impl Window {
    /// From `start` to `end`.
    ///
    /// # Errors
    /// [`BadWindow::Empty`] when it ends no later than it begins.
    pub fn new(start: Timestamp, end: Timestamp) -> Result<Self, BadWindow> {
        let window = Self { start: millis(start), end: millis(end) };
        if window.start < window.end { Ok(window) } else { Err(BadWindow::Empty(start, end)) }
    }

    /// Where it begins.
    #[must_use]
    pub fn start(self) -> Timestamp {
        self.start
    }

    /// Where it ends.
    #[must_use]
    pub fn end(self) -> Timestamp {
        self.end
    }
}

impl Suggestion {
    /// When to renew what is valid from `not_before` to `not_after`: a time that is drawn anew only when the window is
    /// another than the `earlier` one. It is never before the window, and past where the window is. Of a window that reaches
    /// beyond [`latest`] only the part before that counts; one that lies behind it as a whole means `latest` itself.
    ///
    /// # Errors
    /// [`BadWindow::AfterExpiry`] when the window begins after the certificate has ended.
    pub fn draw(
        window: Window,
        earlier: Option<Self>,
        not_before: Timestamp,
        not_after: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<Self, BadWindow> {
        if window.start >= not_after {
            return Err(BadWindow::AfterExpiry(window.start, not_after));
        }
        if let Some(earlier) = earlier.filter(|earlier| earlier.window == window) {
            return Ok(earlier);
        }
        let latest = latest(not_before, not_after);
        let end = window.end.min(latest);
        let renew_at = if window.start < end {
            later(window.start, entropy::between(entropy, Duration::ZERO, until(window.start, end)))
        } else {
            latest
        };
        Ok(Self { window, renew_at })
    }
}

/// The latest time at which what is valid for this long is renewed, whatever a CA suggests: half of what renewal by
/// fraction leaves is left for what may fail.
pub(super) fn latest(not_before: Timestamp, not_after: Timestamp) -> Timestamp {
    let life = until(not_before, not_after);
    millis(later(not_before, life.saturating_sub(left_at_renewal(life) / LEFT_DIVISOR)))
}

/// As the database keeps it, so that a window that is read back is the same one.
fn millis(time: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(time.as_millisecond()).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::tests::Seeded;
    use proptest::prelude::*;

    const DAY: i64 = 86_400;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + second).unwrap()
    }

    fn window(start: i64, end: i64) -> Window {
        Window::new(at(start), at(end)).unwrap()
    }

    fn draw(window: Window, earlier: Option<Suggestion>, seed: u64) -> Result<Suggestion, BadWindow> {
        Suggestion::draw(window, earlier, at(0), at(90 * DAY), &Seeded::new(seed))
    }

    #[test]
    fn a_window_that_ends_before_it_begins_is_none_and_one_after_the_end_is_ignored() {
        for (start, end) in [(0, 0), (10, 9)] {
            assert_eq!(Window::new(at(start), at(end)), Err(BadWindow::Empty(at(start), at(end))));
        }
        let half = Duration::from_micros(500);
        assert!(Window::new(at(0), later(at(0), half)).is_err(), "the same millisecond");
        for start in [90 * DAY, 91 * DAY] {
            let ignored = draw(window(start, 200 * DAY), None, 1);
            assert_eq!(ignored, Err(BadWindow::AfterExpiry(at(start), at(90 * DAY))));
        }
        let bad = BadWindow::AfterExpiry(at(0), at(1)).to_string();
        assert!(bad.contains("ignored") && bad.contains("as planned"), "{bad}");
    }

    #[test]
    fn a_time_is_drawn_anew_only_when_the_window_changes() {
        let first = draw(window(59 * DAY, 61 * DAY), None, 1).unwrap();
        for seed in 2..50 {
            assert_eq!(draw(first.window, Some(first), seed).unwrap(), first);
        }
        let moved = window(59 * DAY, 61 * DAY + 1);
        let again: Vec<_> = (2..50).map(|seed| draw(moved, Some(first), seed).unwrap()).collect();
        assert!(again.iter().all(|again| again.window == moved));
        assert!(again.iter().any(|again| again.renew_at != first.renew_at), "never drawn anew");
    }

    #[test]
    fn a_window_in_the_past_means_now() {
        let now = at(10 * DAY);
        let past = draw(window(-2 * DAY, -DAY), None, 1).unwrap();
        assert!(past.renew_at < now && past.renew_at >= at(-2 * DAY));
    }

    #[test]
    fn a_late_window_leaves_time_all_the_same() {
        // 90 days: a third is left by fraction, so a sixth, 15 days, is left by any window.
        assert_eq!(latest(at(0), at(90 * DAY)), at(75 * DAY));
        for seed in 0..50 {
            let reaching = draw(window(70 * DAY, 89 * DAY), None, seed).unwrap();
            assert!((at(70 * DAY)..at(75 * DAY)).contains(&reaching.renew_at), "{}", reaching.renew_at);
        }
        assert_eq!(draw(window(80 * DAY, 89 * DAY), None, 1).unwrap().renew_at, at(75 * DAY));
        assert_eq!(draw(window(75 * DAY, 89 * DAY), None, 1).unwrap().renew_at, at(75 * DAY));
    }

    proptest! {
        #[test]
        fn whatever_is_suggested_nothing_is_renewed_before_the_window_or_too_late(
            life_s in 3_600_i64..398 * DAY, start in -2_000_000_i64..2_000_000, length in 1_i64..2_000_000, seed: u64,
        ) {
            let part = |millionths: i64| at(millionths * life_s / 1_000_000);
            let (start, end) = (part(start), part(start + length));
            prop_assume!(start < end);
            let (born, dies) = (at(0), at(life_s));
            let drawn = Suggestion::draw(Window::new(start, end).unwrap(), None, born, dies, &Seeded::new(seed));
            let Ok(drawn) = drawn else { prop_assert!(start >= dies); return Ok(()) };
            let latest = latest(born, dies);
            prop_assert!(drawn.renew_at >= start.min(latest), "before the window");
            prop_assert!(drawn.renew_at < end || drawn.renew_at == latest, "after the window");
            prop_assert!(drawn.renew_at <= latest);
            let life = until(born, dies);
            prop_assert!(until(drawn.renew_at, dies) >= life / 6 - Duration::from_millis(1), "too late");
        }
    }
}
