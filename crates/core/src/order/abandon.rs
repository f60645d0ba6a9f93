// SPDX-License-Identifier: Apache-2.0
//! Orders that nobody goes on with.

use jiff::Timestamp;

use crate::clock::later;
use crate::limits;
use crate::order::{OrderState, may_issue};

/// Whether an order that began at `begun`, and that no job works on, may be ended: nothing can come of it any more. While it
/// lives it holds its names, so that no other certificate gets them from the same account.
#[must_use]
pub fn is_abandoned(state: &OrderState, begun: Timestamp, now: Timestamp) -> bool {
    match state {
        OrderState::Keyed { .. } | OrderState::Ordered { .. } | OrderState::Challenged { .. } => {
            // It was not finalized, so ending it too soon costs an order and no certificate.
            later(begun, limits::ORDER_LIFE_DEFAULT) <= now
        }
        OrderState::Ready { .. } => later(begun, limits::ORDER_LIFE_DEFAULT) <= now && !may_issue(state, now),
        OrderState::Stored { .. } | OrderState::Failed { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::Placed;
    use crate::problem::{Class, Problem};
    use std::time::Duration;

    #[test]
    fn what_may_still_be_issued_is_never_abandoned() {
        let begun = Timestamp::from_second(1_790_000_000).unwrap();
        let life = limits::ORDER_LIFE_DEFAULT;
        let placed = |expires| Placed { url: "https://ca.example.test/order/1".into(), expires };
        let far = Some(later(begun, life * 3));
        let over = later(begun, life);
        let before = later(begun, life - Duration::from_secs(1));
        for state in [OrderState::Keyed { replaces: None }, OrderState::Ordered { placed: placed(far) }] {
            assert!(is_abandoned(&state, begun, over) && !is_abandoned(&state, begun, before));
        }
        let ready = OrderState::Ready { placed: placed(far), since: begun };
        assert!(!is_abandoned(&ready, begun, later(begun, life * 3)), "the margin for clocks is forgotten");
        assert!(is_abandoned(&ready, begun, later(begun, life * 4)));
        let failed =
            OrderState::Failed { placed: None, problem: Problem::new(Class::Protocol, "order-expired", "") };
        assert!(!is_abandoned(&failed, begun, Timestamp::MAX));
    }
}
