// SPDX-License-Identifier: Apache-2.0
//! Who counts as there, as lost, as replaced, as a second one of the same name.

use super::*;
use crate::clock::later;

fn at(seconds: u64) -> Timestamp {
    later(Timestamp::from_second(1_790_000_000).unwrap(), Duration::from_secs(seconds))
}

/// An instance that started and was last seen at these seconds.
fn instance(number: u8, name: &str, doing: Doing, started: u64, seen: u64) -> Instance {
    Instance {
        id: format!("ins_{}{number:02}", "0".repeat(30)).parse().unwrap(),
        name: name.into(),
        doing,
        state: State::Ready,
        version: "1.0.0".into(),
        commit: None,
        host: "host".into(),
        pid: number.into(),
        started_at: at(started),
        seen_at: at(seen),
        skew: SignedDuration::ZERO,
    }
}

fn names(roll: &Roll) -> Vec<(&str, u32, State)> {
    roll.instances().iter().map(|one| (one.name.as_str(), one.pid, one.state)).collect()
}

const STANDS_BY: Doing = Doing::Scheduler(Standing::StandsBy);

#[test]
fn who_is_silent_for_three_beats_is_lost() {
    assert!((BEAT + BEAT_JITTER) * 3 < LOST_AFTER && LOST_AFTER < BEAT * 4);
    let one = instance(1, "a", Doing::Api, 0, 100);
    assert!(!one.is_lost(at(135)));
    assert!(one.is_lost(at(136)));
    assert!(!one.is_lost(at(65)) && one.is_lost(at(64)), "stamped by a clock that was wrong");
}

#[test]
fn a_process_that_is_started_again_replaces_the_one_before() {
    let old = instance(1, "a", Doing::Api, 0, 100);
    let new = instance(2, "a", Doing::Api, 101, 105);
    assert_eq!(names(&Roll::call(vec![old.clone(), new.clone()], at(105))), [("a", 2, State::Ready)]);
    // A later start alone replaces: the older one is never the successor.
    assert!(!new.is_replaced_by(&old));
    let of_another_role = instance(3, "a", STANDS_BY, 101, 105);
    assert_eq!(Roll::call(vec![old, of_another_role], at(105)).instances().len(), 2);
}

#[test]
fn two_living_processes_of_one_name_are_both_shown_and_warned_of() {
    let old = instance(1, "a", Doing::Api, 0, 110);
    let new = instance(2, "a", Doing::Api, 101, 105);
    let roll = Roll::call(vec![new, old], at(111));
    assert_eq!(names(&roll), [("a", 1, State::Ready), ("a", 2, State::Ready)]);
    assert_eq!(roll.namesakes().len(), 1);
    let [warning] = roll.warnings(at(111)).try_into().unwrap();
    assert!(
        warning.contains("2 living api processes are called a (pid 1 on host, pid 2 on host)"),
        "{warning}"
    );
    // When one of them is gone without a word, it is that one who is lost, and there are no two any more.
    let roll = Roll::call(roll.instances().to_vec(), at(143));
    assert_eq!(names(&roll), [("a", 1, State::Ready), ("a", 2, State::Lost)]);
    assert!(roll.namesakes().is_empty());
}

#[test]
fn only_a_ready_scheduler_that_is_a_candidate_stands_by() {
    let leader = instance(1, "s-0", Doing::Scheduler(Standing::Leads { epoch: 3 }), 0, 100);
    let one = |number, name: &str, standing| instance(number, name, Doing::Scheduler(standing), 0, 100);
    let standbys = |others: Vec<Instance>| {
        let all = [vec![leader.clone(), instance(9, "w", Doing::Api, 0, 100)], others].concat();
        Roll::call(all, at(101)).standbys("s-0")
    };
    assert_eq!(standbys(vec![]), 0);
    assert_eq!(standbys(vec![one(2, "s-1", Standing::StandsBy)]), 1);
    assert_eq!(standbys(vec![one(2, "s-0", Standing::StandsBy)]), 1, "of the same name");
    assert_eq!(standbys(vec![one(2, "s-1", Standing::StandsBack)]), 0);
    assert_eq!(standbys(vec![Instance { state: State::Draining, ..one(2, "s-1", Standing::StandsBy) }]), 0);
    assert_eq!(standbys(vec![Instance { seen_at: at(10), ..one(2, "s-1", Standing::StandsBy) }]), 0);
    assert_eq!(standbys(vec![one(2, "s-1", Standing::Leads { epoch: 2 })]), 0, "it led until just now");
    let just_won =
        Roll::call(vec![one(1, "s-0", Standing::StandsBy), one(2, "s-1", Standing::StandsBy)], at(101));
    assert_eq!(just_won.standbys("s-0"), 1, "the holder is no standby, whatever it said last");
    assert_eq!(Roll::default().standbys("s-0"), 0);
}

#[test]
fn several_versions_lost_instances_and_wrong_clocks_are_warned_of() {
    let mut new = instance(1, "a", Doing::Api, 0, 100);
    let worker = Doing::Worker { running: 1, concurrency: 32 };
    let lost = instance(2, "w", worker, 0, 40);
    let mut wrong = instance(3, "s", STANDS_BY, 0, 100);
    assert!(Roll::call(vec![new.clone(), wrong.clone()], at(100)).warnings(at(100)).is_empty());
    new.version = "2.0.0".into();
    wrong.skew = SignedDuration::from_secs(-31);
    let roll = Roll::call(vec![wrong, lost, new], at(100));
    assert_eq!(names(&roll).iter().map(|(name, ..)| *name).collect::<Vec<_>>(), ["a", "w", "s"]);
    let warnings = roll.warnings(at(100));
    assert_eq!(warnings.len(), 3, "{warnings:#?}");
    assert!(warnings[0].contains("2 versions run (1.0.0: s; 2.0.0: a)"), "{warnings:#?}");
    assert!(warnings[1].contains("worker w is lost: it was last seen 60 s ago"), "{warnings:#?}");
    assert!(warnings[2].contains("scheduler s is 31 s"), "{warnings:#?}");
    assert_eq!((roll.count("worker", State::Lost), roll.count("worker", State::Ready)), (1, 0));
}

#[test]
fn a_state_follows_from_what_the_process_was_asked_and_is() {
    assert_eq!(State::of(false, false, false), State::Starting);
    assert_eq!(State::of(false, true, false), State::Ready);
    assert_eq!(State::of(false, false, true), State::Unready);
    assert_eq!(State::of(true, true, true), State::Draining);
}

#[test]
fn a_change_of_the_lead_is_news_and_another_job_is_not() {
    let busy = |running| Doing::Worker { running, concurrency: 32 };
    assert!(!busy(1).differs_in_kind(busy(2)));
    assert!(STANDS_BY.differs_in_kind(Doing::Scheduler(Standing::Leads { epoch: 1 })));
    let led = |epoch| Doing::Scheduler(Standing::Leads { epoch });
    assert!(led(1).differs_in_kind(led(2)) && !led(1).differs_in_kind(led(1)));
}

#[test]
fn what_a_process_does_is_one_flat_object() {
    for (doing, json) in [
        (Doing::Api, r#"{"role":"api"}"#),
        (Doing::Worker { running: 1, concurrency: 2 }, r#"{"role":"worker","running":1,"concurrency":2}"#),
        (
            Doing::Scheduler(Standing::Leads { epoch: 3 }),
            r#"{"role":"scheduler","standing":"leads","epoch":3}"#,
        ),
        (STANDS_BY, r#"{"role":"scheduler","standing":"stands_by"}"#),
    ] {
        assert_eq!(serde_json::to_string(&doing).unwrap(), json);
        assert_eq!(serde_json::from_str::<Doing>(json).unwrap(), doing);
        assert!(Doing::ROLES.contains(&doing.role()));
    }
}
