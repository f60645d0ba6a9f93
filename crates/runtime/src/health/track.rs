// SPDX-License-Identifier: Apache-2.0
//! What one check's probes said, and when that makes a process unready.

use std::time::Duration;

use cap_core::health::Check;

/// How often a check is asked, and how long it may fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    /// The wait between two tries that pass.
    every: Duration,
    /// The bound of one try.
    pub(super) bound: Duration,
    /// How long it may be in the way before the process is unready.
    tolerance: Tolerance,
}

/// How long a check may not pass before the process is unready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tolerance {
    /// So long since the first try that failed began.
    Failing(Duration),
    /// So long since the last try that passed began.
    Unconfirmed(Duration),
}

/// How much later than a pass stops counting a process is unready in which no try has failed: none was made meanwhile, as on a
/// host that slept.
const SLOW: Duration = Duration::from_secs(1);
/// The wait between two tries while they fail: recovery shows within it.
const EVERY_FAILING: Duration = Duration::from_secs(2);

/// The database. A pass counts for [`CONFIRMED_FOR`], so that one try may fail, or each take its whole bound, without an api
/// that turns callers away; and what serves them is ready. Were a process unready at the first slow answer, a second in which
/// the primary is slow would take all apis out of a load balancer together.
const MONGO: Rule = Rule {
    every: Duration::from_secs(1),
    bound: Duration::from_millis(1_500),
    tolerance: Tolerance::Unconfirmed(CONFIRMED_FOR),
};
/// How long a majority's confirmation of the primary counts, from its start. A revocation takes effect within this and a
/// second.
pub const CONFIRMED_FOR: Duration = Duration::from_secs(4);
/// Its schema, which changes when somebody migrates it. A second try is made within what a slow answer may cost.
const SCHEMA: Rule =
    Rule { every: Duration::from_secs(10), tolerance: Tolerance::Failing(CONFIRMED_FOR), ..MONGO };
/// The KEK: unwrapped keys are cached, so a provider may be away for a while and nobody notices.
const KEK: Rule = Rule {
    every: Duration::from_secs(10),
    bound: Duration::from_secs(5),
    tolerance: Tolerance::Failing(Duration::from_secs(30)),
};

/// What the tries said so far. Times are since boot.
#[derive(Debug, Default)]
pub(super) struct Track {
    /// When the last try that passed began.
    passed_at: Option<Duration>,
    /// Since when tries fail, and what the last one said.
    failing: Option<(Duration, String)>,
}

impl Rule {
    pub(super) fn of(check: Check) -> Self {
        match check {
            Check::Kek => KEK,
            Check::Schema => SCHEMA,
            Check::Mongo | Check::Shutdown => MONGO,
        }
    }

    /// The same, asked so many times less often while it passes.
    pub(super) fn paced(self, pace: u32) -> Self {
        Self { every: self.every * pace, ..self }
    }
}

impl Track {
    /// Takes the answer of a try that began at `asked_at`. Says whether it differs from the one before.
    pub(super) fn record(&mut self, asked_at: Duration, answer: Result<(), String>) -> bool {
        let (was_failing, had_passed) = (self.failing.is_some(), self.passed_at.is_some());
        match answer {
            Ok(()) => {
                self.passed_at = Some(asked_at);
                self.failing = None;
                was_failing || !had_passed
            }
            Err(fault) => {
                let since = self.failing.take().map_or(asked_at, |(since, _)| since);
                self.failing = Some((since, fault));
                !was_failing
            }
        }
    }

    pub(super) fn passed_at(&self) -> Option<Duration> {
        self.passed_at
    }

    /// What makes the process unready at `now`, if anything does.
    pub(super) fn fault(&self, rule: Rule, now: Duration) -> Option<String> {
        let failing = self.failing.as_ref();
        let Some(passed_at) = self.passed_at else {
            return Some(failing.map_or_else(|| "not known yet".to_owned(), |(_, fault)| fault.clone()));
        };
        match rule.tolerance {
            Tolerance::Failing(tolerance) => {
                let (since, fault) = failing?;
                (now.saturating_sub(*since) >= tolerance).then(|| fault.clone())
            }
            Tolerance::Unconfirmed(tolerance) => {
                let age = now.saturating_sub(passed_at);
                match failing {
                    Some((_, fault)) => (age > tolerance).then(|| fault.clone()),
                    // The next pass is under way: answers may be slow, and who asks less often waits longer for one.
                    None => (age > tolerance + SLOW).then(|| format!("no answer for {} ms", age.as_millis())),
                }
            }
        }
    }

    /// How long to wait for the next try.
    pub(super) fn wait(&self, rule: Rule) -> Duration {
        if self.failing.is_some() { EVERY_FAILING.min(rule.every / 2) } else { rule.every }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: fn(u64) -> Duration = Duration::from_secs;

    fn away() -> Result<(), String> {
        Err("away".to_owned())
    }

    #[test]
    fn confirmations_that_take_long_or_fail_once_come_in_time() {
        assert!(MONGO.every + MONGO.bound * 2 <= CONFIRMED_FOR);
        let again = EVERY_FAILING.min(MONGO.every / 2);
        assert!(MONGO.every + MONGO.bound + again < CONFIRMED_FOR);
    }

    #[test]
    fn the_database_may_fail_for_as_long_as_a_pass_counts_and_comes_back_at_the_first_success() {
        let mut track = Track::default();
        assert_eq!(track.fault(MONGO, T(0)).as_deref(), Some("not known yet"));
        assert!(track.record(T(1), Ok(())));
        assert!(!track.record(T(3), Ok(())));
        assert!(track.record(T(4), away()));
        assert_eq!(track.fault(MONGO, T(7)), None, "who asks the api is still let in");
        let after = T(7) + Duration::from_millis(1);
        assert_eq!(track.fault(MONGO, after).as_deref(), Some("away"));
        assert!(track.record(T(8), Ok(())));
        assert_eq!(track.fault(MONGO, T(8)), None);
        let knows = |at| track.fault(MONGO, at).is_none();
        assert!(knows(T(13)) && !knows(T(14)), "a host that slept knows nothing");
    }

    #[test]
    fn who_asks_half_as_often_is_ready_while_each_answer_takes_its_whole_bound() {
        let rule = MONGO.paced(2);
        assert!(rule.every + rule.bound * 2 <= CONFIRMED_FOR + SLOW);
        assert!(CONFIRMED_FOR + SLOW <= T(5));
    }

    #[test]
    fn a_schema_that_cannot_be_read_once_keeps_nobody_out() {
        let mut track = Track::default();
        track.record(T(0), Ok(()));
        track.record(T(10), away());
        assert_eq!(track.fault(SCHEMA, T(13)), None);
        assert!(track.fault(SCHEMA, T(14)).is_some());
        assert!(SCHEMA.bound + track.wait(SCHEMA) < CONFIRMED_FOR);
    }

    #[test]
    fn the_kek_may_fail_for_thirty_seconds_and_one_success_starts_the_count_anew() {
        let mut track = Track::default();
        track.record(T(0), Ok(()));
        track.record(T(10), away());
        track.record(T(38), away());
        assert_eq!(track.fault(KEK, T(39)), None);
        assert_eq!(track.fault(KEK, T(40)).as_deref(), Some("away"));
        track.record(T(41), Ok(()));
        track.record(T(50), away());
        assert_eq!(track.fault(KEK, T(79)), None);
        assert!(track.fault(KEK, T(80)).is_some());
    }

    #[test]
    fn a_kek_that_never_opened_is_not_tolerated() {
        let mut track = Track::default();
        track.record(T(1), away());
        assert!(track.fault(KEK, T(1)).is_some());
    }

    #[test]
    fn a_failing_check_is_asked_again_soon() {
        let mut track = Track::default();
        track.record(T(0), Ok(()));
        assert_eq!(track.wait(KEK), T(10));
        track.record(T(10), away());
        assert_eq!(track.wait(KEK), T(2));
    }
}
