// SPDX-License-Identifier: Apache-2.0
//! What a job met since it got on last: faults that passed by, and waits. None of it costs an attempt; it says how long the
//! next wait is, and for how long the CA has been at fault.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::clock::{later, until};
use crate::limits;

/// Passing faults in a row before they are shown on the record: one lost connection is not worth anybody's look.
const FAULTS_SHOWN: u32 = 3;
/// Waits in a row before they are: nor is a CA that takes a second.
const WAITS_SHOWN: u32 = 3;

/// What was in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The CA. After an hour of that, an attempt counts as failed.
    Ca,
    /// Something of ours, or something that the CA asked us to wait for.
    Other,
}

/// Faults and waits in a row, without progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setbacks {
    /// How many faults.
    pub count: u32,
    /// Since when.
    pub since: Timestamp,
    /// For how long the CA was at fault, in milliseconds: the times from each of its faults to the next.
    #[serde(default)]
    pub faulty_ms: u64,
    /// The CA's last fault, if nothing else was in the way since.
    #[serde(default)]
    pub last: Option<CaFault>,
    /// Waits for a CA that is busy.
    #[serde(default)]
    pub waits: u32,
    /// How many of the faults were of a sort that is counted by itself.
    #[serde(default, skip_serializing_if = "Sorts::is_empty")]
    pub sorts: Sorts,
}

/// What a fault was of, where those of one sort are counted by themselves besides: when there were enough of them, something is
/// given up, which other faults must not bring about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// A CA that had said just before that the act would do.
    Stuck,
    /// The CA's word that it has no such order. Counted in a row.
    Gone,
    /// Something else than the certificate that was asked for.
    MixUp,
    /// An order that was set aside, and of which the CA does not say what became.
    Elder,
    /// A chain besides the default one, which does not come.
    Chain,
    /// An order that names its predecessor, over which the CA stumbles.
    Replacement,
}

/// How many faults of each sort.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sorts {
    stuck: u32,
    gone: u32,
    mix_ups: u32,
    /// For how long the CA mixed certificates up, in milliseconds: the times from each mix-up to the next fault.
    mixed_ms: u64,
    elders: u32,
    chains: u32,
    replacements: u32,
}

impl Sorts {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn of(&mut self, sort: Sort) -> &mut u32 {
        match sort {
            Sort::Stuck => &mut self.stuck,
            Sort::Gone => &mut self.gone,
            Sort::MixUp => &mut self.mix_ups,
            Sort::Elder => &mut self.elders,
            Sort::Chain => &mut self.chains,
            Sort::Replacement => &mut self.replacements,
        }
    }
}

/// When the CA was at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaFault {
    /// When.
    pub at: Timestamp,
    /// When it was to be asked again.
    pub again_at: Timestamp,
    /// Whether it gave something else than the certificate that was asked for.
    #[serde(default)]
    is_mix_up: bool,
}

impl Setbacks {
    /// None so far.
    #[must_use]
    pub fn none(now: Timestamp) -> Self {
        Self { count: 0, since: now, faulty_ms: 0, last: None, waits: 0, sorts: Sorts::default() }
    }

    /// One more than `before`, for `cause`, after which the job waits for `after`.
    #[must_use]
    pub fn met(before: Option<Self>, cause: Cause, after: Duration, now: Timestamp) -> Self {
        let before = before.unwrap_or_else(|| Self::none(now));
        let sorts = Sorts { gone: 0, ..before.sorts };
        let met = Self { count: before.count.saturating_add(1), sorts, ..before };
        match cause {
            Cause::Ca => {
                let again_at = later(now, after);
                let since_last = before.last.map_or(Duration::ZERO, |last| last.lasted(now));
                let since_last = u64::try_from(since_last.as_millis()).unwrap_or(u64::MAX);
                let faulty_ms = before.faulty_ms.saturating_add(since_last);
                let mixed = if before.last.is_some_and(|last| last.is_mix_up) { since_last } else { 0 };
                let sorts = Sorts { mixed_ms: sorts.mixed_ms.saturating_add(mixed), ..sorts };
                Self { faulty_ms, last: Some(CaFault { at: now, again_at, is_mix_up: false }), sorts, ..met }
            }
            Cause::Other => Self { last: None, ..met },
        }
    }

    /// The last of them was of this sort, as so many were `before`.
    #[must_use]
    pub fn of(mut self, sort: Sort, before: Option<Self>) -> Self {
        *self.sorts.of(sort) = count_of(before, sort).saturating_add(1);
        if let (Sort::MixUp, Some(last)) = (sort, &mut self.last) {
            last.is_mix_up = true;
        }
        self
    }

    /// One wait more than `before` for a CA that is busy: it answers, so its faults are over.
    #[must_use]
    pub fn waited(before: Option<Self>, now: Timestamp) -> Self {
        let waits = before.map_or(0, |before| before.waits).saturating_add(1);
        Self { waits, ..Self::none(now) }
    }

    /// For how long the CA was at fault, up to its last fault.
    #[must_use]
    pub fn faulty(&self) -> Duration {
        Duration::from_millis(self.faulty_ms)
    }

    /// For how long the CA gave something else than the certificate that was asked for, up to its last fault.
    #[must_use]
    pub fn mixed_up(&self) -> Duration {
        Duration::from_millis(self.sorts.mixed_ms)
    }

    /// Whether there are so many of them that somebody should see it.
    #[must_use]
    pub(super) fn is_shown(&self) -> bool {
        self.count >= FAULTS_SHOWN || self.waits >= WAITS_SHOWN
    }
}

/// How many of these faults were of this sort.
#[must_use]
pub fn count_of(before: Option<Setbacks>, sort: Sort) -> u32 {
    before.map_or(0, |mut before| *before.sorts.of(sort))
}

impl CaFault {
    /// For how long it counts, when the next one is at `now`: not for a time in which nobody came to ask.
    fn lasted(&self, now: Timestamp) -> Duration {
        until(self.at, now.min(later(self.again_at, limits::TRANSIENT_WAIT_MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Setbacks {
        /// The same with so many of this sort.
        pub(crate) fn times(self, sort: Sort, count: u32) -> Self {
            (0..count).fold(self, |before, _| before.of(sort, Some(before)))
        }
    }

    fn minute(minute: u64) -> Timestamp {
        later(Timestamp::from_second(1_790_000_000).unwrap(), Duration::from_secs(minute * 60))
    }

    /// What is left of faults in these minutes, each waited out for a minute.
    fn after(faults: impl IntoIterator<Item = (u64, Cause)>) -> Setbacks {
        let met =
            |before, (at, cause)| Some(Setbacks::met(before, cause, Duration::from_secs(60), minute(at)));
        faults.into_iter().fold(None, met).unwrap()
    }

    fn minutes(setbacks: Setbacks) -> u64 {
        setbacks.faulty().as_secs() / 60
    }

    #[test]
    fn the_cas_faults_add_up() {
        assert_eq!(minutes(after((0..=59).map(|at| (at, Cause::Ca)))), 59);
        assert_eq!(minutes(after((0..=61).map(|at| (at, Cause::Ca)))), 61);
        assert_eq!(after((0..=61).map(|at| (at, Cause::Ca))).count, 62);
    }

    #[test]
    fn what_is_not_the_cas_does_not_count_and_does_not_make_it_good() {
        let other = (30..200).map(|at| (at, Cause::Other));
        assert_eq!(minutes(after(other.clone())), 0);
        let mixed = (0..30).map(|at| (at, Cause::Ca)).chain(other);
        let mixed: Vec<_> = mixed.chain((200..=210).map(|at| (at, Cause::Ca))).collect();
        assert_eq!(minutes(after(mixed)), 29 + 10);
    }

    #[test]
    fn a_time_in_which_nobody_asked_does_not_count() {
        assert_eq!(minutes(after([(0, Cause::Ca), (600, Cause::Ca)])), 2);
    }

    #[test]
    fn a_ca_that_answers_is_not_at_fault_any_more() {
        let waited = Setbacks::waited(Some(after((0..=50).map(|at| (at, Cause::Ca)))), minute(51));
        assert_eq!((waited.faulty_ms, waited.count, waited.waits), (0, 0, 1));
        assert_eq!(Setbacks::waited(Some(waited), minute(52)).waits, 2);
        // A fault between two waits does not make the next one short again.
        let fault = Setbacks::met(Some(waited), Cause::Ca, Duration::ZERO, minute(52));
        assert_eq!((fault.waits, fault.count), (1, 1));
    }

    #[test]
    fn what_is_counted_by_itself_is_not_raised_by_anything_else() {
        let mut met = after((0..70).map(|at| (at, Cause::Ca)));
        let mut mixed = |at, sort: Option<Sort>| {
            let next = Setbacks::met(Some(met), Cause::Ca, Duration::from_secs(60), minute(at));
            met = sort.map_or(next, |sort| next.of(sort, Some(met)));
            (count_of(Some(met), Sort::MixUp), met.mixed_up().as_secs() / 60)
        };
        assert_eq!(mixed(70, Some(Sort::MixUp)), (1, 0), "an outage before it is no mix-up");
        assert_eq!(mixed(71, Some(Sort::MixUp)), (2, 1));
        assert_eq!(mixed(72, Some(Sort::Stuck)), (2, 2));
        assert_eq!(mixed(75, None), (2, 2), "nor is what comes behind it");
        assert_eq!(mixed(76, Some(Sort::Gone)), (2, 2));
        let kept = serde_json::to_value(met).unwrap();
        assert_eq!(serde_json::from_value::<Setbacks>(kept).unwrap(), met);
        assert_eq!([Sort::Stuck, Sort::Gone, Sort::Elder].map(|sort| count_of(Some(met), sort)), [1, 1, 0]);
        let other = Setbacks::met(Some(met), Cause::Ca, Duration::ZERO, minute(77));
        assert_eq!(count_of(Some(other), Sort::Gone), 0, "it is counted in a row");
        assert_eq!(count_of(Some(other), Sort::Stuck), 1);
    }

    #[test]
    fn what_was_stored_before_is_still_read() {
        let stored = serde_json::json!({ "count": 7, "since": "2026-10-21T07:28:00Z" });
        let setbacks: Setbacks = serde_json::from_value(stored).unwrap();
        assert_eq!((setbacks.count, setbacks.faulty_ms, setbacks.last, setbacks.waits), (7, 0, None, 0));
    }
}
