// SPDX-License-Identifier: Apache-2.0
//! Orders that name the certificate which they replace (RFC 9773, 5): that never keeps one from being placed.

use jiff::Timestamp;

use super::super::Outcome;
use super::ca::Answer;
use super::world::{NOW_S, World, placed, problem};
use crate::job::{Setbacks, Settlement, Sort, count_of};
use crate::limits;
use crate::order::{CaError, OrderState, Placed, Seen};
use crate::problem::{Class, Problem};
use crate::renewal_info::AriId;

fn id() -> AriId {
    AriId::new(&[1], &[2]).unwrap()
}

fn keyed(replaces: Option<AriId>) -> World {
    World::new(OrderState::Keyed { replaces })
}

fn accepted() -> Answer<(Placed, Option<Seen>)> {
    Some(Ok((placed(3_600), Some(Seen::Pending))))
}

fn already_replaced() -> Answer<(Placed, Option<Seen>)> {
    let kind = "urn:ietf:params:acme:error:alreadyReplaced";
    Some(Err(CaError::Refused(Problem::new(Class::Protocol, kind, "already has a replacement order"))))
}

fn states(world: &World) -> Vec<OrderState> {
    world.book.states.lock().unwrap().clone()
}

fn ordered() -> OrderState {
    OrderState::Ordered { placed: placed(3_600) }
}

#[test]
fn an_order_names_what_it_replaces() {
    let world = keyed(Some(id())).tell(|ca| ca.places = [accepted()].into());
    world.run();
    assert_eq!(world.replaced(), [Some(id())]);
    assert_eq!(states(&world), [ordered()]);
}

#[test]
fn a_ca_that_offers_no_renewal_information_is_told_nothing_of_it() {
    let world = keyed(Some(id())).tell(|ca| {
        ca.offers_renewal_info = false;
        ca.places = [Some(Err(CaError::Refused(problem())))].into();
    });
    assert_eq!(world.run(), Outcome::Failed(problem()));
    assert_eq!(world.replaced(), [None], "and what it refuses is not asked for twice");
}

#[test]
fn what_has_been_replaced_already_is_ordered_without_and_that_is_written_down_first() {
    let world = keyed(Some(id())).tell(|ca| ca.places = [already_replaced(), accepted()].into());
    world.run();
    assert_eq!(world.replaced(), [Some(id()), None]);
    assert_eq!(states(&world), [OrderState::Keyed { replaces: None }, ordered()]);
    assert_eq!(world.failed(), 0);
}

/// As it is found after a crash between the two: the refusal is not asked for again.
#[test]
fn who_resumes_does_not_begin_with_the_same_refusal() {
    let world = keyed(None).tell(|ca| ca.places = [accepted()].into());
    world.run();
    assert_eq!(world.replaced(), [None]);
    // And as it is found after a crash before it was written down: refused once more, and that is all.
    let world = keyed(Some(id())).tell(|ca| ca.places = [already_replaced(), accepted()].into());
    world.run();
    assert_eq!(world.replaced().len(), 2);
}

#[test]
fn what_the_ca_refuses_whatever_it_replaces_fails_once() {
    let refused = || Some(Err(CaError::Refused(problem())));
    let rejected =
        Problem::new(Class::Validation, "urn:ietf:params:acme:error:rejectedIdentifier", "not that");
    let rejecting = Some(Err(CaError::Refused(rejected.clone())));
    let world = keyed(Some(id())).tell(|ca| ca.places = [rejecting].into());
    assert_eq!(world.run(), Outcome::Failed(rejected));
    assert_eq!(
        (world.replaced(), world.failed()),
        (vec![Some(id())], 1),
        "the names are not asked for twice"
    );
    // The account of the predecessor may be another than ours.
    let world = keyed(Some(id())).tell(|ca| ca.places = [refused(), refused()].into());
    assert_eq!(world.run(), Outcome::Failed(problem()));
    assert_eq!((world.replaced(), world.failed()), (vec![Some(id()), None], 1));
    let world = keyed(None).tell(|ca| ca.places = [refused()].into());
    assert_eq!(world.run(), Outcome::Failed(problem()));
    assert_eq!((world.replaced(), world.failed()), (vec![None], 1));
}

#[test]
fn a_ca_that_stumbles_over_it_again_and_again_is_asked_without() {
    let kind = "urn:ietf:params:acme:error:serverInternal";
    let broken = || Some(Err(CaError::Transient(Problem::new(Class::Transient, kind, ""))));
    for (before, asked) in [(0, vec![Some(id())]), (limits::REPLACES_FAULTS - 1, vec![Some(id()), None])] {
        let mut world = keyed(Some(id())).tell(|ca| ca.places = [broken(), accepted()].into());
        let since = Timestamp::from_second(NOW_S).unwrap();
        let none = Setbacks::none(since);
        world.claim.setbacks = Some(Setbacks { count: 9, ..none.times(Sort::Replacement, before) });
        let outcome = world.run();
        assert_eq!(world.replaced(), asked, "after {before}");
        if before == 0 {
            let Outcome::Settle(Settlement::Again { setbacks, .. }) = outcome else { panic!("{outcome:?}") };
            assert_eq!(count_of(setbacks, Sort::Replacement), 1);
        }
    }
}

#[test]
fn a_limit_is_waited_for_as_it_is() {
    let at = Timestamp::from_second(NOW_S + 60).unwrap();
    let limited = Some(Err(CaError::Later { problem: problem(), at }));
    let world = keyed(Some(id())).tell(|ca| ca.places = [limited].into());
    assert!(matches!(world.run(), Outcome::Settle(_)), "it is no rate limit");
    assert_eq!((world.replaced(), states(&world)), (vec![Some(id())], vec![]));
}
