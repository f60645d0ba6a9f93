// SPDX-License-Identifier: Apache-2.0
//! An order's URL is written down while the CA is asked what it wants to have proven.

use super::world::{Answers, World, gone, placed, problem, refused};
use super::{Outcome, again};
use crate::clock::{Clock, later};
use crate::limits::ORDER_LIFE_MAX;
use crate::order::{CaError, OrderState, Seen};

/// An order that the CA takes, and of which it says at once how it is.
fn accepted(told: impl FnOnce(&mut Answers)) -> World {
    World::issuing(OrderState::Keyed { replaces: None }).tell(|ca| {
        ca.places = [Some(Ok((placed(3_600), Some(Seen::Ready))))].into();
        told(ca);
    })
}

fn ordered() -> OrderState {
    OrderState::Ordered { placed: placed(3_600) }
}

#[test]
fn what_is_asked_meanwhile_is_asked_once() {
    let world = accepted(|ca| ca.authorizations = [Some(Ok(vec![].into())), refused()].into());
    assert_eq!(world.run(), Outcome::Stored);
    assert_eq!(world.book.states.lock().unwrap().first(), Some(&ordered()));
}

#[test]
fn what_goes_wrong_meanwhile_keeps_no_url_from_being_written_down() {
    let broken = || Some(Err(CaError::Transient(problem())));
    let world = accepted(|ca| ca.authorizations = [broken()].into());
    assert_eq!(again(&world.run()), Some((problem().kind, 1)));
    assert_eq!(*world.book.states.lock().unwrap(), [ordered()]);
}

/// A replica of the CA that lags knows nothing of the order yet.
#[test]
fn a_refusal_right_behind_the_order_counts_when_it_is_repeated() {
    for refusal in [refused, gone] {
        let world = accepted(|ca| ca.authorizations = [refusal(), Some(Ok(vec![].into()))].into());
        assert_eq!(world.run(), Outcome::Stored);
        let world = accepted(|ca| ca.authorizations = [refusal()].into());
        assert!(matches!(world.run(), Outcome::Failed(_)));
        assert_eq!(world.failed(), 1);
    }
}

/// The CA never answers what it is asked meanwhile.
#[test]
fn who_lost_the_order_waits_for_no_answer() {
    let mut world = accepted(|ca| ca.authorizations = [None].into());
    world.book.is_taken = true;
    let began = world.clock.boottime();
    assert_eq!(world.run(), Outcome::Lost);
    assert_eq!(world.clock.boottime(), began);
}

#[test]
fn an_order_is_not_believed_to_live_for_ever_or_to_be_over_when_it_is_new() {
    const CENTURY_S: i64 = 100 * 365 * 86_400;
    let expires = |told_s| {
        let world = World::new(OrderState::Keyed { replaces: None }).tell(|ca| {
            ca.places = [Some(Ok((placed(told_s), None)))].into();
            ca.looks = [refused()].into();
        });
        world.run();
        let states = world.book.states.lock().unwrap();
        (states[0].placed().unwrap().expires, later(world.clock.now(), ORDER_LIFE_MAX))
    };
    let (expires_at, most) = expires(CENTURY_S);
    assert_eq!(expires_at, Some(most));
    assert_eq!(expires(-CENTURY_S).0, None);
    assert_eq!(expires(60).0, placed(60).expires);
}
