// SPDX-License-Identifier: Apache-2.0
//! Orders that are set aside: the CA has been processing them, or has said nothing of them, for so long that the certificate cannot
//! wait for them any more. They stay watched beside the next attempt.

use std::time::Duration;

use jiff::Timestamp;

use crate::clock::{later, until};
use crate::limits;
use crate::order::OrderState;

/// From when on an order is overdue that may have been finalized since `since`, for a certificate whose version in use
/// `expires` then: a tenth of the life that was left later, since nothing waits for longer, and ten minutes at least. Where there
/// is no version yet nothing runs out, and it is an hour.
#[must_use]
pub fn overdue_at(since: Timestamp, expires: Option<Timestamp>) -> Timestamp {
    later(since, wait(since, expires))
}

/// From when on it is overdue if the CA does not say what became of it: five times as long, since an outage passes, and no
/// longer than half of the life that was left.
#[must_use]
pub fn unheard_at(since: Timestamp, expires: Option<Timestamp>) -> Timestamp {
    later(since, wait(since, expires) * limits::UNHEARD_FACTOR)
}

fn wait(since: Timestamp, expires: Option<Timestamp>) -> Duration {
    expires.map_or(limits::OVERDUE_FIRST, |expires| {
        (until(since, expires) / limits::OVERDUE_LIFE_DIVISOR).max(limits::OVERDUE_MIN)
    })
}

/// Until when the CA may issue for an order in this state, as far as anybody knows: not at all, but for one that may have been
/// finalized.
#[must_use]
pub fn watched_until(state: &OrderState) -> Option<Timestamp> {
    match state {
        OrderState::Ready { placed, since } => {
            let expires = placed.expires.unwrap_or_else(|| later(*since, limits::ORDER_LIFE_DEFAULT));
            Some(later(expires, limits::READY_EXPIRY_MARGIN))
        }
        OrderState::Keyed { .. }
        | OrderState::Ordered { .. }
        | OrderState::Challenged { .. }
        | OrderState::Stored { .. }
        | OrderState::Failed { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_overdue_after_a_tenth_of_the_life_that_is_left_and_never_before_ten_minutes() {
        let since = Timestamp::from_second(1_790_000_000).unwrap();
        let day = Duration::from_secs(86_400);
        let wait = |expires| until(since, overdue_at(since, expires));
        assert_eq!(wait(Some(later(since, day * 15))), day * 15 / 10);
        assert_eq!(wait(Some(later(since, Duration::from_secs(3_600)))), limits::OVERDUE_MIN);
        assert_eq!(wait(Some(Timestamp::UNIX_EPOCH)), limits::OVERDUE_MIN, "it has expired");
        assert_eq!(wait(None), limits::OVERDUE_FIRST);
        assert_eq!(unheard_at(since, Some(later(since, day * 15))), later(since, day * 15 / 2));
    }
}
