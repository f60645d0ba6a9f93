// SPDX-License-Identifier: Apache-2.0
//! Waiting for a CA: for how long, where, and when it ends.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};
use std::time::Duration;

use super::super::Outcome;
use super::ca::{Answer, certificate};
use super::world::{World, placed, problem, ready};
use super::{after_an_hour_of_mix_ups, again, seen};
use crate::clock::{Clock, later};
use crate::job::{Cause, Setbacks, Settlement};
use crate::limits;
use crate::order::{CaError, OrderState, Reply, Seen};
use crate::problem::{Class, Problem};

const MINUTE: Duration = Duration::from_secs(60);

fn challenged(expires_in_s: i64) -> OrderState {
    OrderState::Challenged { placed: placed(expires_in_s), duties: vec![] }
}

fn hiccup() -> Problem {
    Problem::new(Class::Transient, "urn:ietf:params:acme:error:serverInternal", "a hiccup")
}

fn broken<T>() -> Answer<T> {
    Some(Err(CaError::Transient(hiccup())))
}

/// What an hour of these leaves behind, minute by minute, up to this one.
pub(super) fn met(world: &World, faults: impl IntoIterator<Item = (u32, Cause)>) -> Option<Setbacks> {
    let began = world.clock.now();
    faults.into_iter().fold(None, |before, (minute, cause)| {
        Some(Setbacks::met(before, cause, MINUTE, later(began, MINUTE * minute)))
    })
}

/// How a run ends in this minute whose CA has a hiccup, after these faults.
fn ends(state: OrderState, faults: impl IntoIterator<Item = (u32, Cause)>, minute: u32) -> Outcome {
    let mut world = World::new(state).tell(|ca| ca.looks = [broken()].into());
    world.claim.setbacks = met(&world, faults);
    world.clock.set(MINUTE * minute);
    world.run()
}

fn settled(outcome: Outcome) -> (Duration, Option<Setbacks>, Option<Problem>) {
    match outcome {
        Outcome::Settle(Settlement::Again { after, setbacks, problem }) => (after, setbacks, problem),
        outcome => panic!("{outcome:?}"),
    }
}

#[test]
fn an_hour_of_the_cas_faults_ends_an_attempt_and_less_does_not() {
    let ca = |minutes: std::ops::Range<u32>| minutes.map(|minute| (minute, Cause::Ca));
    let other = |minutes: std::ops::Range<u32>| minutes.map(|minute| (minute, Cause::Other));
    assert_eq!(again(&ends(challenged(86_400), ca(0..59), 59)).map(|(_, count)| count), Some(60));
    assert_eq!(ends(challenged(86_400), ca(0..61), 61), Outcome::Failed(hiccup()));
    // The database's hours are not the CA's, neither before its first hiccup nor between two.
    assert!(again(&ends(challenged(86_400), other(0..300), 300)).is_some());
    let mixed = ca(0..30).chain(other(30..300)).chain(ca(300..329));
    assert!(again(&ends(challenged(86_400), mixed, 329)).is_some(), "58 minutes");
    let mixed = ca(0..30).chain(other(30..300)).chain(ca(300..333));
    assert_eq!(ends(challenged(86_400), mixed, 333), Outcome::Failed(hiccup()), "62 minutes");
}

#[test]
fn a_ca_that_is_closed_for_an_hour_again_and_again_ends_an_attempt_and_is_not_asked_before_its_time() {
    let hour = MINUTE * 60;
    let mut world = World::new(challenged(7 * 86_400));
    let told = |world: World| {
        let at = later(world.clock.now(), hour);
        world.tell(|ca| ca.looks = [Some(Err(CaError::Later { problem: hiccup(), at }))].into())
    };
    let mut waits = 0;
    loop {
        world = told(world);
        match world.run() {
            Outcome::Failed(failed) => {
                assert_eq!(failed, hiccup());
                break;
            }
            outcome => {
                let (after, setbacks, _) = settled(outcome);
                world.claim.setbacks = setbacks;
                world.clock.set(world.clock.boottime() + after + Duration::from_secs(1));
            }
        }
        waits += 1;
        assert!(waits < 3, "it is waited for without end");
    }
    let last = world.book.last.lock().unwrap().clone().unwrap();
    assert!(last.next_attempt_at >= later(world.clock.now(), hour), "{}", last.next_attempt_at);
}

/// `Retry-After` of what ends an attempt as well; no longer than after a part of the life that is left.
#[test]
fn a_ca_that_refuses_and_says_until_when_is_not_asked_before() {
    let hour = MINUTE * 60;
    let invalid = |at| Some(Ok(Reply { said: Seen::Invalid(problem()), retry_at: Some(at) }));
    let refused = |at| Some(Err(CaError::Refused(problem().not_before(Some(at)))));
    for told in [&invalid as &dyn Fn(_) -> Answer<Reply<Seen>>, &refused] {
        for (life, waits) in [(None, hour * 5), (Some(hour * 10), hour)] {
            let mut world = World::new(challenged(7 * 86_400));
            let now = world.clock.now();
            world.expires = life.map(|life| later(now, life));
            world = world.tell(|ca| ca.looks = [told(later(now, hour * 5))].into());
            assert!(matches!(world.run(), Outcome::Failed(_)));
            let last = world.book.last.lock().unwrap().clone().unwrap();
            assert_eq!(last.next_attempt_at, later(now, waits), "{life:?}");
        }
    }
}

/// And of a refusal to be asked about an order that it may issue for.
#[test]
fn a_watched_order_is_not_asked_about_before_the_ca_wants_to_be() {
    let mut world = World::new(ready(7 * 86_400));
    let at = later(world.clock.now(), MINUTE * 30);
    let gateway = CaError::Refused(problem().not_before(Some(at)));
    world = world.tell(|ca| ca.looks = [Some(Err(gateway))].into());
    assert_eq!(settled(world.run()).0, MINUTE * 30);
}

#[test]
fn an_order_that_expires_while_the_ca_is_away_ends_then_unless_it_may_issue() {
    for (past, fails) in [(0, false), (301, true)] {
        let mut world = World::new(challenged(300)).tell(|ca| ca.looks = [broken()].into());
        world.clock.set(Duration::from_secs(past));
        assert_eq!(matches!(world.run(), Outcome::Failed(_)), fails, "{past}");
        world = World::new(ready(300)).tell(|ca| ca.looks = [broken()].into());
        world.clock.set(Duration::from_secs(past));
        assert!(again(&world.run()).is_some(), "{past}");
    }
}

/// Without the one rule it was asked for ever, and the certificate never renewed.
#[test]
fn an_order_that_is_over_is_given_up_although_the_ca_does_not_say_so() {
    let margin = i64::try_from(limits::READY_EXPIRY_MARGIN.as_secs()).unwrap();
    let faults = || (0..61).map(|minute| (minute, Cause::Ca));
    assert_eq!(ends(ready(61 * 60 - margin), faults(), 61), Outcome::Failed(hiccup()));
    assert!(again(&ends(ready(62 * 60 - margin), faults(), 61)).is_some(), "it may still be issued");
}

#[test]
fn an_order_that_is_processed_by_itself_ends_with_its_expiry() {
    let margin = i64::try_from(limits::READY_EXPIRY_MARGIN.as_secs()).unwrap();
    for (expires_in_s, is_over) in [(-margin, true), (1 - margin, false)] {
        let busy = World::new(challenged(expires_in_s)).tell(|ca| ca.looks = [seen(Seen::Processing)].into());
        let outcome = busy.run();
        assert_eq!(matches!(outcome, Outcome::Failed(_)), is_over, "{outcome:?}");
    }
}

#[test]
fn a_replica_that_lags_gets_the_signing_request_once() {
    let world = World::new(ready(3_600)).tell(|ca| {
        ca.looks = [seen(Seen::Ready)].into();
        ca.finalize = seen(Seen::Ready);
    });
    let (_, setbacks, problem) = settled(world.run());
    assert_eq!((world.finalized(), setbacks.unwrap().waits), (1, 1));
    assert!(problem.unwrap().is_a_wait());
    // It has caught up in time: no wait, and no second request.
    let world = World::issuing(ready(3_600)).tell(|ca| {
        ca.looks = [seen(Seen::Ready), seen(Seen::Ready), seen(Seen::Processing), seen(Seen::Valid)].into();
        ca.finalize = seen(Seen::Ready);
    });
    assert_eq!((world.run(), world.finalized()), (Outcome::Stored, 1));
}

#[test]
fn an_order_url_is_written_down_before_anything_else_is_asked() {
    let ordered = OrderState::Ordered { placed: placed(3_600) };
    for looks in [broken(), seen(Seen::Pending)] {
        let world = World::new(OrderState::Keyed { replaces: None }).tell(|ca| {
            ca.places = [Some(Ok((placed(3_600), None)))].into();
            ca.looks = [looks.clone()].into();
            ca.authorizations = [broken()].into();
        });
        assert_eq!(again(&world.run()), Some((hiccup().kind, 1)), "{looks:?}");
        assert_eq!(*world.book.states.lock().unwrap(), std::slice::from_ref(&ordered), "{looks:?}");
    }
}

#[test]
fn a_ca_is_given_the_time_that_it_asks_for_in_a_good_answer() {
    let wait = Duration::from_secs(90);
    let told = |said, wait| {
        let world = World::new(challenged(7 * 86_400));
        let retry_at = Some(later(world.clock.now(), wait));
        (Some(Ok(Reply { said, retry_at })), world)
    };
    // Of the order, after its challenges were submitted.
    let (busy, world) = told(Seen::Pending, wait);
    let world = world.tell(|ca| ca.looks = [seen(Seen::Pending), busy].into());
    assert_eq!(settled(world.run()).0, wait);
    // Of an authorization.
    let (_, world) = told(Seen::Pending, wait);
    let retry_at = Some(later(world.clock.now(), wait));
    let world = world.tell(|ca| {
        ca.looks = [seen(Seen::Pending), broken()].into();
        ca.submit = Some(Ok(Reply { said: (), retry_at }));
    });
    assert_eq!(settled(world.run()).0, wait, "it is not asked before");
    // Of the signing request.
    let world = World::new(ready(7 * 86_400)).tell(|ca| {
        ca.looks = [seen(Seen::Ready), broken()].into();
        ca.finalize = Some(Ok(Reply { said: Seen::Processing, retry_at }));
    });
    assert_eq!((settled(world.run()).0, world.clock.boottime()), (wait, Duration::ZERO), "and not in place");
    // No longer than a tenth of the life that is left, if it may have issued long before.
    let (busy, world) = told(Seen::Processing, wait * 1_000);
    let mut world = world.tell(|ca| ca.looks = [busy].into());
    world.expires = Some(later(world.clock.now(), wait * 100));
    assert_eq!(settled(world.run()).0, wait * 10);
    // What is over by now is not waited for, and nothing is for ever.
    let (past, world) = told(Seen::Processing, Duration::ZERO);
    assert!(settled(world.tell(|ca| ca.looks = [past].into()).run()).0 <= limits::POLL_WAIT_FIRST);
    let (ever, world) = told(Seen::Processing, limits::RETRY_AFTER_MAX * 99);
    assert_eq!(settled(world.tell(|ca| ca.looks = [ever].into()).run()).0, limits::ASKED_WAIT_MIN);
}

#[test]
fn a_stuck_order_is_asked_less_and_less_and_that_is_told() {
    let mut world = World::new(ready(7 * 86_400)).tell(|ca| ca.looks = [seen(Seen::Processing)].into());
    let (mut waits, mut shown) = (Vec::new(), Vec::new());
    for _ in 0..9 {
        let began = world.clock.boottime();
        let outcome = world.run();
        assert!(
            world.clock.boottime() - began <= limits::INLINE_WAIT,
            "a place at the CA is no place to sleep"
        );
        let Outcome::Settle(settlement) = &outcome else { panic!("{outcome:?}") };
        shown.push(settlement.is_shown());
        let (after, setbacks, problem) = settled(outcome);
        let until = later(world.clock.now(), after);
        assert!(problem.is_some_and(|problem| problem.detail.contains(&until.to_string())));
        waits.push(after.as_secs_f64());
        world.claim.setbacks = setbacks;
        world.clock.set(world.clock.boottime() + after);
    }
    for (wait, at_most) in waits.iter().zip([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]) {
        assert!((at_most * 0.9..=at_most).contains(wait), "{waits:?}");
    }
    assert_eq!(shown[..4], [false, false, true, true], "a CA that takes a second is worth nobody's look");
    // The less life the certificate has, the oftener.
    world.expires = Some(later(world.clock.now(), Duration::from_secs(100)));
    assert!(settled(world.run()).0 <= Duration::from_secs(10));
}

/// As many places as a worker has, and a queue in which whoever is due longest is next.
#[test]
fn thousands_of_orders_that_a_ca_works_on_do_not_keep_a_fresh_one_from_being_stored() {
    const STUCK: usize = 2_000;
    const ARRIVES: Duration = Duration::from_secs(90);
    let claim = Duration::from_millis(20);
    let mut stuck = World::new(ready(7 * 86_400)).tell(|ca| ca.looks = [seen(Seen::Processing)].into());
    let fresh = World::issuing(ready(7 * 86_400));
    let mut places: BinaryHeap<Reverse<Duration>> = (0..32).map(|_| Reverse(Duration::ZERO)).collect();
    let mut queue: BTreeSet<(Duration, usize)> = (0..STUCK).map(|job| (Duration::ZERO, job)).collect();
    queue.insert((ARRIVES, STUCK));
    let mut setbacks: HashMap<usize, Setbacks> = HashMap::new();
    let stored_at = loop {
        let (Reverse(free), (due, job)) = (places.pop().unwrap(), queue.pop_first().unwrap());
        let began = free.max(due) + claim;
        if job == STUCK {
            fresh.clock.set(began);
            assert_eq!(fresh.run(), Outcome::Stored);
            break fresh.clock.boottime();
        }
        stuck.clock.set(began);
        stuck.claim.setbacks = setbacks.get(&job).copied();
        let (after, met, _) = settled(stuck.run());
        let ended = stuck.clock.boottime();
        places.push(Reverse(ended));
        setbacks.extend(met.map(|met| (job, met)));
        queue.insert((ended + after, job));
    };
    let took = stored_at - ARRIVES;
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_eq!(fresh.book.stored.lock().unwrap().len(), 1);
}

#[test]
fn who_needs_a_person_before_the_order_is_placed_leaves_nothing_in_anybodys_way() {
    let needs = Some(Err(CaError::NeedsPerson(problem())));
    let world = World::new(OrderState::Keyed { replaces: None }).tell(|ca| ca.places = [needs].into());
    assert_eq!(world.run(), Outcome::Buried(problem()));
    assert_eq!(*world.book.buried.lock().unwrap(), [problem()]);
    assert_eq!(world.failed(), 0);
}

/// With the key that is in use the names and the key of the one before are right as well.
#[test]
fn the_certificate_that_is_in_use_is_no_renewal() {
    let mut world = World::issuing(ready(7_200));
    assert_eq!(world.run(), Outcome::Stored);
    world.in_use = Some(world.given());
    let (_, _, problem) = settled(world.run());
    assert!(problem.unwrap().detail.contains("is to replace"), "it is fetched again");
    assert_eq!(world.book.stored.lock().unwrap().len(), 1);
}

#[test]
fn what_the_ca_issued_counts_although_it_cannot_be_used() {
    let mut wrong = World::issuing(ready(7_200)).tell(|ca| {
        let other = crate::certificate::KeyMaterial::generate(
            crate::certificate::KeyType::EcdsaP256,
            &["a.example.test".parse().unwrap()],
        );
        ca.certificate = Some(Ok(certificate(&other.unwrap().csr)));
    });
    after_an_hour_of_mix_ups(&mut wrong);
    assert!(matches!(wrong.run(), Outcome::Failed(problem) if problem.kind == "wrong-certificate"));
    assert!(wrong.book.last.lock().unwrap().as_ref().unwrap().is_issued);
    let refused = World::new(ready(3_600)).tell(|ca| {
        ca.looks = [seen(Seen::Ready)].into();
        ca.finalize = Some(Err(CaError::Refused(problem())));
    });
    assert_eq!(refused.run(), Outcome::Failed(problem()));
    assert!(!refused.book.last.lock().unwrap().as_ref().unwrap().is_issued);
}
