// SPDX-License-Identifier: Apache-2.0
//! When to renew: by fraction of life, never by a fixed number of days.

use std::time::Duration;

use jiff::Timestamp;

use crate::clock::{later, until};
use crate::entropy::{self, Entropy};

/// Certificates that live shorter than this are renewed at half their life.
const SHORT_LIFE: Duration = Duration::from_secs(10 * 86_400);
/// The part of the life over which renewals of certificates issued together are spread.
const SPREAD_DIVISOR: u32 = 20;

/// When a certificate with this validity is due: at a third of its life left, or at half of it when it lives shorter
/// than 10 days, earlier by up to a twentieth of its life, so that what was issued together is not renewed together.
#[must_use]
pub fn renewal_time(not_before: Timestamp, not_after: Timestamp, entropy: &dyn Entropy) -> Timestamp {
    let life = until(not_before, not_after);
    let early = entropy::between(entropy, Duration::ZERO, life / SPREAD_DIVISOR);
    later(not_before, life.saturating_sub(left_at_renewal(life)).saturating_sub(early))
}

/// The part of the life that is left which passes at least before what was stored just now is due, whatever the CA's clock
/// says: a version that is due at once would be replaced for ever.
const FLOOR_DIVISOR: u32 = 4;

/// When a certificate that is stored at `now` is due: by its life, and never at once.
#[must_use]
pub fn due_time(
    now: Timestamp,
    not_before: Timestamp,
    not_after: Timestamp,
    entropy: &dyn Entropy,
) -> Timestamp {
    let floor = later(now, until(now, not_after) / FLOOR_DIVISOR);
    renewal_time(not_before, not_after, entropy).max(floor)
}

/// What is left of a life when renewal by fraction is due at the latest.
pub(crate) fn left_at_renewal(life: Duration) -> Duration {
    if life < SHORT_LIFE { life / 2 } else { life / 3 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::tests::Seeded;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_renewal_is_neither_at_birth_nor_late(life_s in 20_u64..398 * 86_400, seed: u64) {
            let born = Timestamp::from_second(1_790_000_000).unwrap();
            let dies = later(born, Duration::from_secs(life_s));
            let due = renewal_time(born, dies, &Seeded::new(seed));
            let (age, left) = (until(born, due), until(due, dies));
            let life = Duration::from_secs(life_s);
            prop_assert!(age >= life * 9 / 20, "at birth: {age:?} of {life:?}");
            prop_assert!(left >= life / 3 - Duration::from_millis(1), "late: {left:?} of {life:?}");
        }
    }

    const HOUR_S: u64 = 3_600;

    /// A certificate that is renewed as soon as it is due, by a CA that dates it back and takes a moment, again and again.
    /// Answers how old each version was when it was due.
    fn renewed(life: Duration, dated_back: Duration, seed: u64, versions: u32) -> Vec<Duration> {
        let luck = Seeded::new(seed);
        let mut now = Timestamp::from_second(1_790_000_000).unwrap();
        let one = |_| {
            let stored = later(now, Duration::from_secs(2));
            let (born, dies) = (crate::clock::earlier(now, dated_back), later(now, life - dated_back));
            let due = due_time(stored, born, dies, &luck);
            now = due;
            until(stored, due)
        };
        (0..versions).map(one).collect()
    }

    /// Lives of an hour to 398 days, and short ones often: those can be half over when they are stored.
    fn lives_s() -> impl Strategy<Value = u64> {
        prop_oneof![HOUR_S..3 * HOUR_S, HOUR_S..10 * 24 * HOUR_S, HOUR_S..398 * 24 * HOUR_S]
    }

    proptest! {
        #[test]
        fn no_version_is_due_at_once_nor_too_late_however_often_it_is_renewed(
            life_s in lives_s(), back_percent in 0_u32..50, seed: u64,
        ) {
            let life = Duration::from_secs(life_s);
            let back = (life * back_percent / 100).min(Duration::from_secs(HOUR_S));
            for age in renewed(life, back, seed, 20) {
                prop_assert!(age >= (life - back) / FLOOR_DIVISOR - Duration::from_secs(2), "at once: {age:?} of {life:?}");
                prop_assert!(age <= life - back - life / 4, "late: {age:?} of {life:?}");
            }
        }
    }

    /// What a fixed number of days before the end would make of them: more than 6.6 days are never left.
    #[test]
    fn certificates_of_160_hours_are_not_due_for_ever() {
        let (life, year) = (Duration::from_secs(160 * HOUR_S), Duration::from_secs(365 * 24 * HOUR_S));
        for seed in 0..20 {
            let ages = renewed(life, Duration::from_secs(HOUR_S), seed, 200);
            let within = ages.iter().scan(Duration::ZERO, |sum, age| {
                *sum += *age;
                Some(*sum)
            });
            let a_year = within.take_while(|sum| *sum < year).count();
            assert!((105..=123).contains(&a_year), "{a_year} renewals a year");
        }
    }

    /// In the long run, each version issued when the one before was due: the spread of one round adds to that of the next.
    #[test]
    fn a_hundred_thousand_certificates_of_160_hours_are_spread_after_their_first_rounds() {
        const ROUNDS: u32 = 6;
        let mut hours = std::collections::BTreeMap::<u64, u32>::new();
        for seed in 0..100_000_u64 {
            let ages = renewed(Duration::from_secs(160 * HOUR_S), Duration::ZERO, seed, ROUNDS);
            // They began within one round, as certificates do that were moved here over a week.
            let began = Duration::from_secs(seed * 76 * HOUR_S / 100_000);
            let last = began + ages.iter().sum::<Duration>();
            *hours.entry(last.as_secs() / HOUR_S).or_default() += 1;
        }
        // The edges, where a round begins and ends, hold less than their share.
        let fullest = f64::from(*hours.values().max().unwrap());
        let mean = 100_000.0 / 76.0;
        assert!(fullest <= 1.5 * mean, "{fullest} in the fullest hour, {mean:.0} in the mean");
    }
}
