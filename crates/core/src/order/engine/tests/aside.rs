// SPDX-License-Identifier: Apache-2.0
//! Orders that were set aside are looked at before a younger one may be finalized.

use super::again;
use super::world::{NOW_S, World, placed, problem};
use crate::clock::Clock;
use crate::job::{Setbacks, Settlement, Sort, count_of};
use crate::limits;
use crate::order::{CaError, OrderState, Outcome, Seen};

/// A younger order, of which the CA says that it is ready, and that says this of the one that was set aside.
fn run(elder: Result<Seen, CaError>) -> (Outcome, World) {
    run_after(0, elder)
}

/// The same after so many faults of looks at the elder one, among others.
fn run_after(faults: u32, elder: Result<Seen, CaError>) -> (Outcome, World) {
    let state = OrderState::Challenged { placed: placed(3_600), duties: vec![] };
    let mut world = World::new(state).tell(|ca| {
        ca.looks = [Some(Ok(Seen::Ready.into())), Some(elder.map(Into::into))].into();
    });
    let none = Setbacks::none(world.clock.now());
    world.claim.setbacks = Some(Setbacks { count: 9, ..none.times(Sort::Elder, faults) });
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
    for elder in [Ok(Seen::Processing), Ok(Seen::Invalid(problem())), Err(CaError::Gone(problem()))] {
        let (_, world) = run(elder);
        assert!(is_finalized_next(&world));
    }
}

#[test]
fn a_passing_fault_of_the_look_at_the_elder_one_is_waited_out_some_times() {
    let faults: [fn() -> CaError; 5] = [
        || CaError::Refused(problem()),
        || CaError::Account(problem()),
        || CaError::Transient(problem()),
        || CaError::OutOfStep(problem()),
        || CaError::Later { problem: problem(), at: jiff::Timestamp::from_second(NOW_S + 5).unwrap() },
    ];
    for fault in faults {
        let (outcome, world) = run(Err(fault()));
        assert_eq!(again(&outcome), Some((problem().kind, 10)), "{outcome:?}");
        let Outcome::Settle(Settlement::Again { setbacks, .. }) = outcome else { panic!("{outcome:?}") };
        assert_eq!(count_of(setbacks, Sort::Elder), 1);
        assert!(world.book.states.lock().unwrap().is_empty(), "it may be finalized now");
        let (_, world) = run_after(limits::ELDER_FAULTS - 1, Err(fault()));
        assert!(!is_finalized_next(&world));
        let (_, world) = run_after(limits::ELDER_FAULTS, Err(fault()));
        assert!(is_finalized_next(&world), "it keeps somebody from going on for ever");
    }
    let at = jiff::Timestamp::from_second(NOW_S + 3_600).unwrap();
    let (_, world) = run(Err(CaError::Later { problem: problem(), at }));
    assert!(is_finalized_next(&world), "a CA that will not say soon");
    assert_eq!(world.failed(), 0);
}

fn is_finalized_next(world: &World) -> bool {
    matches!(world.book.states.lock().unwrap()[..], [OrderState::Ready { .. }, ..])
}
