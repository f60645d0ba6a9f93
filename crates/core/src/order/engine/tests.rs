// SPDX-License-Identifier: Apache-2.0
//! How runs end, against a CA that says what it is told to.

mod aside;
mod ca;
mod chains;
mod finish;
mod limits_kept;
mod placing;
mod replaces;
mod standing;
mod waits;
mod world;

use std::time::Duration;

use self::ca::{Answer, Answers};
use self::world::{World, gone, needs_a_person, placed, problem, ready, refused};
use super::Outcome;
use crate::certificate::Names;
use crate::clock::Clock;
use crate::job::{Cause, Mandate, Setbacks, Settlement, Sort};
use crate::limits;
use crate::order::{CaError, OrderState, Reply, Seen};

/// What a CA is told to answer.
type Told = fn(&mut Answers);

/// The kind of what is in the way and the count of the setbacks, when the job runs again.
fn again(outcome: &Outcome) -> Option<(String, u32)> {
    match outcome {
        Outcome::Settle(Settlement::Again { problem: Some(problem), setbacks: Some(setbacks), .. }) => {
            Some((problem.kind.clone(), setbacks.count))
        }
        _ => None,
    }
}

fn seen(seen: Seen) -> Answer<Reply<Seen>> {
    Some(Ok(seen.into()))
}

#[test]
fn a_refusal_to_be_asked_does_not_end_an_order_that_the_ca_may_issue_for() {
    let cases: [(&str, Told); 3] = [
        ("resuming", |ca| ca.looks = [refused()].into()),
        ("looking", |ca| ca.looks = [seen(Seen::Processing), refused()].into()),
        ("fetching", |ca| {
            ca.looks = [seen(Seen::Valid)].into();
            ca.certificate = refused();
        }),
    ];
    for (what, told) in cases {
        let world = World::new(ready(3_600)).tell(told);
        let outcome = world.run();
        assert_eq!(again(&outcome), Some((problem().kind, 1)), "{what}: {outcome:?}");
        assert_eq!(world.failed(), 0, "{what}");
    }
}

/// Both fingerprints are told: of the key that was asked for, and of what was issued.
#[test]
fn a_certificate_that_was_not_asked_for_is_not_stored_and_the_audit_says_what_it_was() {
    let own = rcgen::generate_simple_self_signed(vec!["a.example.test".to_owned()]).unwrap();
    let mut world = World::new(ready(7_200)).tell(|ca| {
        ca.looks = [seen(Seen::Valid)].into();
        ca.certificate = Some(Ok(own.cert.pem()));
    });
    after_an_hour_of_mix_ups(&mut world);
    let outcome = world.run();
    assert!(
        matches!(&outcome, Outcome::Failed(problem) if problem.kind == "wrong-certificate"),
        "{outcome:?}"
    );
    let leaf = world.book.leaves.lock().unwrap().remove(0);
    let leaf: serde_json::Value = serde_json::from_str(&leaf).unwrap();
    let told = crate::certificate::presented(&own.cert.pem()).unwrap();
    let details = &leaf["details"];
    assert_eq!(
        (&leaf["action"], &leaf["outcome"]),
        (&"certificate.attempt_failed".into(), &"failure".into())
    );
    assert_eq!(details["expected_spki_sha256"], "0".repeat(64));
    assert_eq!(details["issued_spki_sha256"], told.spki_sha256);
    assert_eq!(details["issued_fingerprint_sha256"], told.fingerprint_sha256);
    assert_eq!(details["issued_names"], serde_json::json!(["a.example.test"]));
    assert_eq!(*world.book.new_keys.lock().unwrap(), [false]);
}

#[test]
fn a_refused_key_has_the_next_attempt_made_with_another() {
    for (kind, expected) in [("badCSR", true), ("badPublicKey", true), ("rejectedIdentifier", false)] {
        let kind = format!("urn:ietf:params:acme:error:{kind}");
        let refusal = crate::problem::Problem::new(crate::problem::Class::Protocol, &kind, "no");
        let world = World::new(ready(3_600)).tell(|ca| {
            ca.looks = [seen(Seen::Ready)].into();
            ca.finalize = Some(Err(CaError::Refused(refusal)));
        });
        let outcome = world.run();
        assert!(matches!(outcome, Outcome::Failed(_)), "{kind}: {outcome:?}");
        assert_eq!(*world.book.new_keys.lock().unwrap(), [expected], "{kind}");
    }
}

/// CAs have answered a signing request with an error, and issued.
#[test]
fn a_refusal_to_finalize_counts_only_where_the_order_says_so_too() {
    for refusal in [refused(), gone()] {
        let issued = World::issuing(ready(3_600)).tell(|ca| {
            ca.looks = [seen(Seen::Ready), seen(Seen::Valid)].into();
            ca.finalize = refusal.clone();
        });
        assert_eq!(issued.run(), Outcome::Stored);
        assert_eq!((issued.finalized(), issued.failed()), (1, 0));
        let busy = World::new(ready(3_600)).tell(|ca| {
            ca.looks = [seen(Seen::Ready), seen(Seen::Processing)].into();
            ca.finalize = refusal.clone();
        });
        assert!(again(&busy.run()).is_some());
        let silent = World::new(ready(3_600)).tell(|ca| {
            ca.looks = [seen(Seen::Ready), Some(Err(CaError::Transient(problem())))].into();
            ca.finalize = refusal;
        });
        assert!(again(&silent.run()).is_some());
        assert_eq!((busy.failed(), silent.failed()), (0, 0));
    }
    // A refused key is one whatever the order says behind it.
    let kind = "urn:ietf:params:acme:error:badCSR";
    let refusal = crate::problem::Problem::new(crate::problem::Class::Protocol, kind, "no");
    let world = World::new(ready(3_600)).tell(|ca| {
        ca.looks = [seen(Seen::Ready), seen(Seen::Invalid(problem()))].into();
        ca.finalize = Some(Err(CaError::Refused(refusal)));
    });
    assert!(matches!(world.run(), Outcome::Failed(problem) if problem.kind == kind));
    assert_eq!(*world.book.new_keys.lock().unwrap(), [true]);
}

#[test]
fn a_key_that_was_revoked_while_the_order_was_on_its_way_is_not_certified_again() {
    let challenged = || OrderState::Challenged { placed: placed(3_600), duties: vec![] };
    for (kept, is_bad, finalized) in [(true, true, 0), (true, false, 1), (false, true, 1)] {
        let mut world = World::issuing(challenged());
        world.order.key.kept = kept;
        world.book.key_is_bad = is_bad;
        let outcome = world.run();
        assert_eq!(world.finalized(), finalized, "{outcome:?}");
        if finalized == 0 {
            assert!(matches!(outcome, Outcome::Failed(problem) if problem.kind == "key-not-kept"));
            let next = world.book.last.lock().unwrap().as_ref().unwrap().next_attempt_at;
            assert_eq!(next, world.clock.now(), "nothing has to pass before the next one");
        }
    }
}

/// A replica of the CA that lags shows an order as pending that an earlier run finalized.
#[test]
fn a_refused_challenge_does_not_end_an_order_that_the_ca_may_issue_for() {
    for refusal in [refused(), gone()] {
        let told = |ca: &mut Answers| {
            ca.looks = [seen(Seen::Pending)].into();
            ca.submit = refusal.clone();
        };
        let world = World::new(ready(3_600)).tell(told);
        assert_eq!(again(&world.run()), Some((problem().kind, 1)), "{refusal:?}");
        assert_eq!(world.failed(), 0, "{refusal:?}");
        let challenged = OrderState::Challenged { placed: placed(3_600), duties: vec![] };
        assert_eq!(World::new(challenged).tell(told).run(), Outcome::Failed(problem()), "{refusal:?}");
    }
}

#[test]
fn the_cas_own_word_on_the_order_ends_it() {
    let cases: [(&str, Told); 2] = [
        ("it is invalid", |ca| ca.looks = [seen(Seen::Invalid(problem()))].into()),
        ("it refuses to finalize it", |ca| {
            ca.looks = [seen(Seen::Ready)].into();
            ca.finalize = refused();
        }),
    ];
    for (what, told) in cases {
        let world = World::new(ready(3_600)).tell(told);
        assert_eq!(world.run(), Outcome::Failed(problem()), "{what}");
        assert_eq!(world.failed(), 1, "{what}");
    }
}

#[test]
fn a_refusal_ends_an_order_that_cannot_be_issued() {
    let challenged = OrderState::Challenged { placed: placed(3_600), duties: vec![] };
    let margin = i64::try_from(limits::READY_EXPIRY_MARGIN.as_secs()).unwrap();
    for state in [OrderState::Ordered { placed: placed(3_600) }, challenged, ready(-margin)] {
        let world = World::new(state.clone()).tell(|ca| ca.looks = [refused()].into());
        assert_eq!(world.run(), Outcome::Failed(problem()), "{state:?}");
    }
}

#[test]
fn an_order_that_is_valid_before_it_was_finalized_is_fetched_as_one_that_was() {
    let world = World::new(OrderState::Challenged { placed: placed(3_600), duties: vec![] }).tell(|ca| {
        ca.looks = [seen(Seen::Valid)].into();
        ca.certificate = refused();
    });
    assert!(again(&world.run()).is_some());
    assert!(matches!(world.book.states.lock().unwrap()[..], [OrderState::Ready { .. }]));
    assert_eq!(world.failed(), 0);
}

#[test]
fn that_finalize_is_next_is_written_while_the_ca_is_asked() {
    let invalid = seen(Seen::Invalid(problem()));
    for (look, in_the_way) in [
        (None, Some("ca-slow".into())),
        (refused(), Some(problem().kind)),
        (gone(), Some(problem().kind)),
        (invalid, None),
    ] {
        let challenged = OrderState::Challenged { placed: placed(3_600), duties: vec![] };
        let world = World::new(challenged).tell(|ca| ca.looks = [seen(Seen::Pending), look.clone()].into());
        let outcome = world.run();
        assert!(matches!(world.book.states.lock().unwrap()[..], [OrderState::Ready { .. }]), "{look:?}");
        assert_eq!(world.failed(), usize::from(in_the_way.is_none()), "{look:?}: {outcome:?}");
        assert_eq!(again(&outcome).map(|(kind, _)| kind), in_the_way, "{look:?}");
    }
}

#[test]
fn a_ca_that_says_come_back_at_once_is_asked_less_and_less() {
    let mut world = World::new(ready(3_600));
    let at = world.clock.now();
    world = world.tell(|ca| ca.looks = [Some(Err(CaError::Later { problem: problem(), at }))].into());
    world.claim.setbacks = Some(Setbacks { count: 9, ..Setbacks::none(at) });
    let outcome = world.run();
    assert_eq!(again(&outcome), Some((problem().kind, 10)));
    let Outcome::Settle(Settlement::Again { after, .. }) = outcome else { panic!("{outcome:?}") };
    assert!(after >= limits::TRANSIENT_WAIT_MAX / 2, "{after:?}");
}

#[test]
fn an_act_ends_with_the_lease_that_it_is_made_under() {
    let silent: [Told; 3] = [
        |_| {},
        |ca| ca.looks = [seen(Seen::Processing), None].into(),
        |ca| ca.looks = [seen(Seen::Ready)].into(),
    ];
    for told in silent {
        let mut world = World::new(ready(3_600)).tell(told);
        let lease = Duration::from_secs(4);
        world.mandate = Mandate::new(world.clock.clone(), lease);
        assert_eq!(world.run(), Outcome::Lost);
        assert!(world.clock.boottime() <= lease + limits::MANDATE_LOOK, "{:?}", world.clock.boottime());
    }
}

#[test]
fn an_act_takes_no_longer_than_its_names_may() {
    let took = |names: usize| {
        let mut world = World::new(OrderState::Ordered { placed: placed(3_600) })
            .tell(|ca| ca.looks = [seen(Seen::Pending)].into());
        let names = (0..names).map(|name| format!("n{name}.example.test")).collect();
        world.order.names = Names::parse(names).unwrap();
        let outcome = world.run();
        assert_eq!(again(&outcome), Some(("ca-slow".into(), 1)), "{outcome:?}");
        assert_eq!(world.failed(), 0);
        world.clock.boottime()
    };
    assert_eq!(took(1), limits::ACT + limits::ACT_PER_NAME);
    assert_eq!(took(100), limits::ACT + limits::ACT_PER_NAME * 100);
}

#[test]
fn a_wrong_certificate_is_fetched_again_for_an_hour_before_another_is_bought() {
    let told = |ca: &mut Answers| {
        ca.looks = [seen(Seen::Valid)].into();
        ca.certificate = Some(Ok(wrong_chain()));
    };
    let mut world = World::new(ready(7_200)).tell(told);
    assert_eq!(again(&world.run()), Some(("wrong-certificate".into(), 1)));
    assert_eq!(world.failed(), 0);
    let noted = world.book.noted.lock().unwrap().clone();
    assert!(
        matches!(&noted[..], [leaf] if leaf.contains("certificate.refused") && leaf.contains("issued_spki_sha256"))
    );
    // An hour of the database's, or of an outage of the CA's, is none of mix-ups.
    for cause in [Cause::Other, Cause::Ca] {
        world.clock.set(Duration::ZERO);
        world.claim.setbacks = waits::met(&world, (0..61).map(|minute| (minute, cause)));
        world.clock.set(Duration::from_secs(61 * 60));
        assert_eq!(again(&world.run()), Some(("wrong-certificate".into(), 62)));
    }
    assert_eq!(world.failed(), 0);
    let noted = world.book.noted.lock().unwrap().len();
    world.clock.set(Duration::ZERO);
    after_an_hour_of_mix_ups(&mut world);
    let setbacks = world.claim.setbacks;
    world.clock.set(Duration::from_secs(59 * 60));
    world.claim.setbacks = setbacks.map(|setbacks| Setbacks { last: None, ..setbacks });
    assert_eq!(again(&world.run()), Some(("wrong-certificate".into(), 62)), "it is an hour, and not more");
    assert_eq!(world.book.noted.lock().unwrap().len(), noted, "it is noted at each of the first looks alone");
    world.claim.setbacks = setbacks;
    world.clock.set(Duration::from_secs(61 * 60));
    assert!(matches!(world.run(), Outcome::Failed(problem) if problem.kind == "wrong-certificate"));
    assert_eq!(world.failed(), 1);
    assert!(world.book.last.lock().unwrap().as_ref().unwrap().is_issued, "the CA has counted it");
}

/// An hour in which the CA gave something else than the certificate, and as much later.
fn after_an_hour_of_mix_ups(world: &mut World) {
    let began = world.clock.now();
    let minute = Duration::from_secs(60);
    world.claim.setbacks = (0..61).fold(None, |before, at| {
        let met = Setbacks::met(before, Cause::Ca, minute, crate::clock::later(began, minute * at));
        Some(met.of(Sort::MixUp, before))
    });
    world.clock.set(minute * 61);
}

/// A good certificate, of somebody else's key.
fn wrong_chain() -> String {
    rcgen::generate_simple_self_signed(vec!["a.example.test".to_owned()]).unwrap().cert.pem()
}

#[test]
fn what_needs_a_person_ends_the_job_and_leaves_the_order_for_whoever_goes_on() {
    let challenged = || OrderState::Challenged { placed: placed(3_600), duties: vec![] };
    let margin = i64::try_from(limits::READY_EXPIRY_MARGIN.as_secs()).unwrap();
    let cases: [(&str, OrderState, Told); 4] = [
        ("reading the authorizations", OrderState::Ordered { placed: placed(3_600) }, |ca| {
            ca.looks = [seen(Seen::Pending)].into();
            ca.authorizations = [needs_a_person()].into();
        }),
        ("looking", challenged(), |ca| ca.looks = [needs_a_person()].into()),
        ("submitting", challenged(), |ca| {
            ca.looks = [seen(Seen::Pending)].into();
            ca.submit = needs_a_person();
        }),
        ("looking at what is over", ready(-margin), |ca| ca.looks = [needs_a_person()].into()),
    ];
    for (what, state, told) in cases {
        let world = World::new(state).tell(told);
        assert_eq!(world.run(), Outcome::Settle(Settlement::Dead(problem())), "{what}");
        assert_eq!((world.failed(), world.book.states.lock().unwrap().len()), (0, 0), "{what}");
    }
}

#[test]
fn what_needs_a_person_does_not_end_the_job_of_an_order_that_the_ca_may_issue_for() {
    let cases: [(&str, Told); 4] = [
        ("looking", |ca| ca.looks = [needs_a_person()].into()),
        ("submitting", |ca| {
            ca.looks = [seen(Seen::Pending)].into();
            ca.submit = needs_a_person();
        }),
        ("finalizing", |ca| {
            ca.looks = [seen(Seen::Ready)].into();
            ca.finalize = needs_a_person();
        }),
        ("fetching", |ca| {
            ca.looks = [seen(Seen::Valid)].into();
            ca.certificate = needs_a_person();
        }),
    ];
    for (what, told) in cases {
        let world = World::new(ready(3_600)).tell(told);
        assert_eq!(again(&world.run()), Some((problem().kind, 1)), "{what}");
        assert_eq!(world.failed(), 0, "{what}");
    }
}

/// The database of a worker may be ahead by days, or its host: the one that is not says that the order is not over.
#[test]
fn a_clock_that_is_days_ahead_ends_no_order() {
    let days = Duration::from_secs(2 * 86_400);
    let busy: Told = |ca| ca.looks = [seen(Seen::Processing)].into();
    let waits: [(&str, OrderState, Told); 3] = [
        ("the CA is busy", ready(3_600), busy),
        ("the CA refuses to be asked", ready(3_600), |ca| ca.looks = [refused()].into()),
        ("a person is needed", ready(3_600), |ca| ca.looks = [needs_a_person()].into()),
    ];
    for (what, state, told) in waits {
        let world = World::new(state).tell(told);
        *world.clock.ahead.lock().unwrap() = days;
        assert!(matches!(world.run(), Outcome::Settle(Settlement::Again { .. })), "{what}");
        assert_eq!(world.failed(), 0, "{what}");
    }
    let margin = i64::try_from(limits::READY_EXPIRY_MARGIN.as_secs()).unwrap();
    let over = World::new(ready(-margin)).tell(busy);
    assert!(matches!(over.run(), Outcome::Failed(_)), "one that is over by both clocks is over");
}
