// SPDX-License-Identifier: Apache-2.0
//! Orders that the CA is stuck with otherwise than by processing them: each has an end before the certificate's.

use std::time::Duration;

use super::ca::Answers;
use super::seen;
use super::world::{World, gone, problem, ready, refused};
use crate::clock::Clock;
use crate::job::{Setbacks, Settlement, Sort, count_of};
use crate::limits;
use crate::order::{CaError, Outcome, Seen, unheard_at};
use crate::problem::Class;

const WEEK_S: i64 = 7 * 86_400;

/// The same after so many faults of a CA that is stuck, among as many others, and so long after the order was ready.
fn after(stuck: u32, time: Duration, told: impl FnOnce(&mut Answers)) -> World {
    let mut world = World::new(ready(WEEK_S)).tell(told);
    let none = Setbacks::none(world.clock.now());
    world.claim.setbacks = Some(Setbacks { count: stuck + 100, ..none.times(Sort::Stuck, stuck) });
    world.clock.set(time);
    world
}

/// How often the CA was stuck when the job runs again.
fn stuck(outcome: &Outcome) -> Option<u32> {
    match outcome {
        Outcome::Settle(Settlement::Again { setbacks, .. }) => Some(count_of(*setbacks, Sort::Stuck)),
        _ => None,
    }
}

const NOT_YET: Duration = Duration::from_secs(59 * 60);
const LAST: u32 = limits::STUCK_FAULTS;

#[test]
fn a_certificate_that_is_not_handed_out_is_bought_anew_when_its_order_is_overdue() {
    // What is said of an account that the CA accepts is said of the certificate.
    let faults =
        [CaError::Refused, CaError::Transient, CaError::OutOfStep, CaError::Account].map(|of| of(problem()));
    for fault in faults {
        let told = |ca: &mut Answers| {
            ca.looks = [seen(Seen::Valid)].into();
            ca.certificate = Some(Err(fault.clone()));
        };
        for (before, time) in [(LAST - 1, limits::OVERDUE_FIRST), (LAST, NOT_YET)] {
            let early = after(before, time, told);
            assert_eq!(stuck(&early.run()), Some(before + 1), "{fault:?}");
            assert_eq!(early.failed(), 0, "{fault:?}");
        }
        let late = after(LAST, limits::OVERDUE_FIRST, told);
        assert!(matches!(late.run(), Outcome::Failed(why) if why.kind == problem().kind), "{fault:?}");
        assert!(late.book.last.lock().unwrap().as_ref().unwrap().is_issued, "the CA has counted it");
    }
    // A refusal may be of an account whose key is just being changed.
    let mut moving = after(LAST, limits::OVERDUE_FIRST, |ca| {
        ca.looks = [seen(Seen::Valid)].into();
        ca.certificate = refused();
    });
    moving.standing.moving = true;
    assert_eq!(stuck(&moving.run()), Some(LAST));
    assert_eq!(moving.failed(), 0);
}

#[test]
fn a_ca_that_does_not_even_say_how_the_order_is_is_not_stuck() {
    let away = after(LAST, limits::OVERDUE_FIRST, |ca| {
        ca.looks = [Some(Err(CaError::Transient(problem())))].into();
    });
    assert_eq!(stuck(&away.run()), Some(LAST));
    assert_eq!(away.failed(), 0);
}

#[test]
fn an_order_that_stays_ready_whatever_it_is_sent_ends_when_it_is_overdue() {
    let at = World::new(ready(0)).clock.now();
    let later = |class| CaError::Later { problem: crate::problem::Problem::new(class, "later", ""), at };
    let answers = [
        (Some(Err(CaError::OutOfStep(problem()))), 1),
        (Some(Err(CaError::Transient(problem()))), 1),
        (Some(Err(CaError::Account(problem()))), 1),
        (Some(Err(later(Class::Transient))), 1),
        (Some(Err(later(Class::RateLimited))), 0),
        // It takes the signing request, and stays as it is.
        (seen(Seen::Processing), 1),
    ];
    for (answer, counts) in answers {
        let told = |ca: &mut Answers| {
            ca.looks = [seen(Seen::Ready)].into();
            ca.finalize = answer.clone();
        };
        for (before, time) in [(LAST - 1, limits::OVERDUE_FIRST), (LAST, NOT_YET)] {
            let early = after(before, time, told);
            assert_eq!(stuck(&early.run()), Some(before + counts), "{answer:?}");
            assert_eq!((early.failed(), early.finalized()), (0, 1), "{answer:?}");
        }
        let late = after(LAST, limits::OVERDUE_FIRST, told);
        assert!(matches!(late.run(), Outcome::Failed(why) if why.kind == "order-stuck"), "{answer:?}");
        assert_eq!(late.finalized(), 0, "what is given up is not sent once more");
    }
}

/// A replica that lags does not know it yet; and that it was busy, or away, before says nothing of that.
#[test]
fn an_order_that_is_gone_is_given_up_when_that_is_said_twice() {
    let mut world = World::new(ready(WEEK_S)).tell(|ca| ca.looks = [gone()].into());
    let none = Setbacks::none(world.clock.now());
    let befores = [None, Some(Setbacks { waits: 3, ..none }), Some(Setbacks { count: 3, ..none })];
    for before in befores {
        world.claim.setbacks = before;
        let Outcome::Settle(Settlement::Again { setbacks, .. }) = world.run() else { panic!("{before:?}") };
        assert_eq!((world.failed(), count_of(setbacks, Sort::Gone)), (0, 1), "{before:?}");
    }
    world.claim.setbacks = Some(none.times(Sort::Gone, 1));
    assert_eq!(world.run(), Outcome::Failed(problem()));
}

#[test]
fn an_order_that_the_ca_leaves_open_is_given_up_at_the_ca_and_ended_by_its_word() {
    let left_open = |looks: [Seen; 4], withdrawn: Result<usize, CaError>| {
        let world = World::new(ready(WEEK_S)).tell(|ca| {
            ca.looks = looks.map(seen).into();
            ca.withdraw = Some(withdrawn);
        });
        let now = world.clock.now();
        world.clock.set(crate::clock::until(now, unheard_at(now, None)));
        world
    };
    let ended = [Seen::Pending, Seen::Invalid(problem()), Seen::Invalid(problem()), Seen::Invalid(problem())];
    let world = left_open(ended, Ok(1));
    let outcome = world.run();
    let Outcome::Failed(why) = outcome else { panic!("{outcome:?}") };
    assert_eq!((why.class, &*why.kind), (Class::Validation, "order-overdue"));
    let open = || [Seen::Pending, Seen::Pending, Seen::Pending, Seen::Pending];
    let refusals =
        [CaError::Refused, CaError::Account, CaError::Transient].map(|fault| Err(fault(problem())));
    for withdrawn in refusals.into_iter().chain([Ok(1), Ok(0)]) {
        let world = left_open(open(), withdrawn);
        let outcome = world.run();
        let is_waited_for = |problem: &crate::problem::Problem| problem.is_a_wait();
        assert!(
            matches!(&outcome, Outcome::Settle(Settlement::Again { problem: Some(why), .. }) if is_waited_for(why)),
            "{outcome:?}"
        );
        assert_eq!(world.failed(), 0, "nothing but the CA's word ends it");
    }
}

#[test]
fn a_ca_that_wants_to_be_left_alone_is_not_told_at_each_look_to_give_an_order_up() {
    let mut world = World::new(ready(WEEK_S)).tell(|ca| ca.looks = [seen(Seen::Pending)].into());
    let now = world.clock.now();
    world.clock.set(crate::clock::until(now, unheard_at(now, None)));
    let at = crate::clock::later(world.clock.now(), Duration::from_secs(3_600));
    let limit = crate::problem::Problem::new(Class::RateLimited, "rateLimited", "");
    world = world.tell(|ca| ca.withdraw = Some(Err(CaError::Later { problem: limit, at })));
    let outcome = world.run();
    assert!(
        matches!(&outcome, Outcome::Parked(Settlement::Again { after, .. }, _) if after.as_secs() >= 600),
        "{outcome:?}"
    );
}

/// Where there is a version in use, what is left of its life counts.
#[test]
fn nobody_waits_longer_than_half_of_the_life_that_is_left() {
    let day = Duration::from_secs(86_400);
    let invalid = Seen::Invalid(problem());
    for (time, then, fails) in [(day - limits::OVERDUE_MIN, Seen::Pending, 0), (day, invalid, 1)] {
        let mut world = World::new(ready(WEEK_S)).tell(|ca| {
            ca.looks = [Seen::Pending, then].map(seen).into();
            // Who gives it up too early waits here for ever.
            ca.withdraw = (fails > 0).then_some(Ok(1));
        });
        world.expires = Some(crate::clock::later(world.clock.now(), day * 2));
        world.clock.set(time);
        world.run();
        assert_eq!(world.failed(), fails, "{time:?}");
    }
}
