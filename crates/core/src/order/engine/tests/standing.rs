// SPDX-License-Identifier: Apache-2.0
//! What a refusal of the account means for an order.

use super::world::{World, placed, problem, ready, refused};
use super::{Outcome, again};
use crate::job::Settlement;
use crate::order::{Authorization, CaError, OrderState, Seen};
use crate::problem::Class;

fn order() -> OrderState {
    OrderState::Keyed { replaces: None }
}

/// A CA that does not accept the account when an order is placed.
fn not_accepted() -> World {
    World::new(order()).tell(|ca| ca.places = [Some(Err(CaError::Account(problem())))].into())
}

#[test]
fn a_refusal_while_the_account_changes_is_a_passing_fault() {
    for told in [refused(), Some(Err(CaError::Account(problem())))] {
        let mut world = World::new(order()).tell(|ca| ca.places = [told.clone()].into());
        world.standing.moving = true;
        let outcome = world.run();
        assert_eq!(again(&outcome), Some(("account-changing".to_owned(), 1)), "{outcome:?}");
        assert_eq!(world.failed(), 0);
    }
    // The same refusal of an account that stays as it is ends the attempt.
    let world = World::new(order()).tell(|ca| ca.places = [refused()].into());
    assert!(matches!(world.run(), Outcome::Failed(_)));
    assert_eq!(world.failed(), 1);
}

#[test]
fn an_account_that_the_ca_does_not_accept_halts_and_fails_no_attempt() {
    let mut world = not_accepted();
    world.standing.accepted = Ok(false);
    assert_eq!(world.run(), Outcome::Halted(problem().advised("the CA does not accept this account")));
    assert_eq!(world.failed(), 0);
}

#[test]
fn a_ca_that_accepts_the_account_and_not_the_name_fails_the_attempt_alone() {
    let world = not_accepted();
    let Outcome::Failed(told) = world.run() else { panic!("it goes on") };
    assert_eq!((told.class, told.kind), (Class::Validation, problem().kind));
    assert!(told.detail.contains("accepts the account"), "{}", told.detail);
    assert_eq!(world.failed(), 1);
}

#[test]
fn challenges_that_were_answered_with_another_key_are_answered_anew() {
    for rekeyed in [false, true] {
        let challenged = OrderState::Challenged { placed: placed(3_600), duties: vec![] };
        let mut world = World::new(challenged).tell(|ca| {
            ca.looks = [Some(Ok(Seen::Pending.into()))].into();
            ca.authorizations = [Some(Ok(vec![].into()))].into();
            ca.submit = refused();
        });
        world.standing.rekeyed = rekeyed;
        assert!(matches!(world.run(), Outcome::Failed(_)));
        let written = world.book.states.lock().unwrap().len();
        assert_eq!(written, usize::from(rekeyed), "once, and only after a rollover");
    }
}

#[test]
fn to_answer_anew_is_no_progress_at_a_ca_that_fails_then() {
    let mut world = World::new(OrderState::Challenged { placed: placed(3_600), duties: vec![] });
    world.standing.rekeyed = true;
    for count in 1..=3 {
        world = world.tell(|ca| {
            ca.looks = [Some(Ok(Seen::Pending.into()))].into();
            ca.authorizations = [Some(Ok(vec![].into()))].into();
            ca.submit = Some(Err(CaError::Transient(problem())));
        });
        let outcome = world.run();
        assert_eq!(again(&outcome), Some((problem().kind, count)), "{outcome:?}");
        let Outcome::Settle(Settlement::Again { setbacks, .. }) = outcome else { panic!("{outcome:?}") };
        world.claim.setbacks = setbacks;
    }
}

/// It may have been finalized: neither what its challenges are like by now nor what the CA says of them ends it.
#[test]
fn an_order_that_may_be_finalized_is_answered_anew_as_well_and_stays_what_it_is() {
    let pending = || Authorization::Pending {
        token: "t".repeat(43).try_into().unwrap(),
        key_authorization: "t.new".into(),
    };
    for (authorization, answers) in [(pending(), 1), (Authorization::Unusable(problem()), 0)] {
        for rekeyed in [false, true] {
            let mut world = World::new(ready(3_600)).tell(|ca| {
                ca.looks = [Some(Ok(Seen::Pending.into()))].into();
                ca.authorizations = [Some(Ok(vec![authorization.clone()].into()))].into();
                ca.submit = refused();
            });
            world.standing.rekeyed = rekeyed;
            let outcome = world.run();
            assert_eq!(again(&outcome), Some((problem().kind, 1)), "{outcome:?}");
            let written = world.book.states.lock().unwrap().clone();
            assert_eq!(written, vec![ready(3_600); usize::from(rekeyed)]);
            assert_eq!(world.book.answers.lock().unwrap().len(), if rekeyed { answers } else { 0 });
            assert_eq!(world.failed(), 0);
        }
    }
}

#[test]
fn where_the_ca_does_not_say_it_is_asked_again() {
    let mut world = not_accepted();
    world.standing.accepted = Err(CaError::Transient(problem()));
    let outcome = world.run();
    assert_eq!(again(&outcome), Some((problem().kind, 1)), "{outcome:?}");
    assert_eq!(world.failed(), 0);
}
