// SPDX-License-Identifier: Apache-2.0
//! Orders that were set aside are looked at before a younger one may be finalized.

use super::world::{World, placed, problem};
use crate::job::Settlement;
use crate::order::{CaError, OrderState, Outcome, Seen};

/// A younger order, of which the CA says that it is ready, and that says this of the one that was set aside.
fn run(elder: Result<Seen, CaError>) -> (Outcome, World) {
    let state = OrderState::Challenged { placed: placed(3_600), duties: vec![] };
    let mut world = World::new(state).tell(|ca| {
        ca.looks = [Some(Ok(Seen::Ready.into())), Some(elder.map(Into::into))].into();
    });
    world.watched = vec!["https://ca.example.test/order/elder".to_owned()];
    (world.run(), world)
}

#[test]
fn what_the_ca_issued_for_an_elder_one_is_not_bought_again() {
    let (outcome, world) = run(Ok(Seen::Valid));
    assert!(
        matches!(outcome, Outcome::Settle(Settlement::Again { after, .. }) if after.is_zero()),
        "{outcome:?}"
    );
    assert!(world.book.states.lock().unwrap().is_empty(), "it may be finalized now");
}

#[test]
fn whatever_else_the_ca_says_of_the_elder_one_keeps_nobody_from_going_on() {
    for elder in [Ok(Seen::Processing), Ok(Seen::Invalid(problem())), Err(CaError::Transient(problem()))] {
        let (_, world) = run(elder);
        assert!(matches!(world.book.states.lock().unwrap()[..], [OrderState::Ready { .. }, ..]));
    }
}
