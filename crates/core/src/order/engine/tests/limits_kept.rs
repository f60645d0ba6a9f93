// SPDX-License-Identifier: Apache-2.0
//! Rate limits: what one order met, the others keep.

use std::time::Duration;

use super::super::Outcome;
use super::world::{World, ready};
use crate::clock::{Clock, later};
use crate::job::Settlement;
use crate::limits;
use crate::order::{Bucket, CaError, OrderState};
use crate::problem::{Class, Problem};

fn limit(detail: &str) -> Problem {
    Problem::new(Class::RateLimited, "urn:ietf:params:acme:error:rateLimited", detail)
}

/// How a run ends whose CA says so, so long before it wants to be asked again.
fn limited(state: OrderState, problem: &Problem, wait: Duration) -> Outcome {
    let world = World::new(state);
    let at = later(world.clock.now(), wait);
    let problem = problem.clone();
    world
        .tell(|ca| {
            ca.places = [Some(Err(CaError::Later { problem: problem.clone(), at }))].into();
            ca.looks = [Some(Err(CaError::Later { problem, at }))].into();
        })
        .run()
}

fn keyed() -> OrderState {
    OrderState::Keyed { replaces: None }
}

#[test]
fn an_order_that_is_not_placed_for_a_limit_keeps_the_others_from_asking() {
    let hours = Duration::from_secs(3 * 3_600);
    let domain = Bucket::Domain("example.test".into());
    for (said, bucket) in [("too many new orders", Bucket::Account), (r#"50 for "example.test""#, domain)] {
        let outcome = limited(keyed(), &limit(said), hours);
        let Outcome::Parked(Settlement::Again { after, problem, .. }, park) = outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!((park.bucket, park.time, after), (bucket, hours, hours));
        assert_eq!((Some(park.problem), problem), (Some(limit(said)), Some(limit(said))));
    }
}

#[test]
fn a_limit_of_a_week_is_kept_for_a_week() {
    let outcome = limited(keyed(), &limit(""), limits::RATE_LIMIT_MAX);
    assert!(matches!(outcome, Outcome::Parked(Settlement::Again { after, .. }, park)
        if after == limits::RATE_LIMIT_MAX && park.time == after));
}

#[test]
fn a_limit_on_an_order_that_is_placed_is_kept_by_that_one_alone_whoever_asks() {
    let wait = Duration::from_secs(600);
    let outcome = limited(ready(86_400), &limit("slow down"), wait);
    let Outcome::Parked(Settlement::Again { after, .. }, park) = outcome else { panic!("{outcome:?}") };
    assert!(matches!(park.bucket, Bucket::Order(_)), "{park:?}");
    assert_eq!((park.time, after), (wait, wait));
}

#[test]
fn no_order_waits_for_more_at_once_than_a_part_of_the_life_that_is_left() {
    let world = World::new(keyed());
    let at = later(world.clock.now(), limits::RATE_LIMIT_MAX * 50);
    let mut world =
        world.tell(|ca| ca.places = [Some(Err(CaError::Later { problem: limit(""), at }))].into());
    let life = Duration::from_secs(160 * 3_600);
    world.expires = Some(later(world.clock.now(), life));
    let outcome = world.run();
    assert!(
        matches!(&outcome, Outcome::Parked(Settlement::Again { after, .. }, park)
            if *after == life / 10 && park.own == Some((world.order.id, life / 10))
                && park.time == limits::RATE_LIMIT_MAX),
        "others have more time: {outcome:?}"
    );
}

#[test]
fn a_ca_that_is_closed_for_a_day_is_asked_again_within_a_part_of_the_life_that_is_left() {
    let world = World::new(keyed());
    let at = later(world.clock.now(), limits::RETRY_AFTER_MAX);
    let closed = Problem::new(Class::Transient, "urn:ietf:params:acme:error:serverInternal", "closed");
    let mut world = world.tell(|ca| ca.places = [Some(Err(CaError::Later { problem: closed, at }))].into());
    let hour = Duration::from_secs(3_600);
    world.expires = Some(later(world.clock.now(), hour));
    let outcome = world.run();
    assert!(
        matches!(&outcome, Outcome::Settle(Settlement::Again { after, .. }) if *after == hour / 10),
        "{outcome:?}"
    );
}

#[test]
fn what_is_no_limit_on_orders_is_waited_for_by_one_alone() {
    let wait = Duration::from_secs(600);
    let closed = Problem::new(Class::Transient, "urn:ietf:params:acme:error:serverInternal", "closed");
    assert!(matches!(limited(keyed(), &closed, wait), Outcome::Settle(_)));
    assert!(matches!(limited(keyed(), &limit("at once"), Duration::ZERO), Outcome::Settle(_)));
}
