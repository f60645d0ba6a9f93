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
}
