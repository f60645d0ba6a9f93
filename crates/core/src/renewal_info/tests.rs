// SPDX-License-Identifier: Apache-2.0
//! Names of certificates, and when certificates are renewed in the end: lives of an hour to 398 days, planned as the leader
//! plans, with a CA that says when, one that says nothing, one that fails, and one that changes its mind.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::certificate::{left_at_renewal, renewal_time};
use crate::clock::{later, until};
use crate::duty::{Candidate, renewal};
use crate::entropy::Entropy;
use crate::entropy::tests::Seeded;
use crate::order::CaError;
use crate::problem::{Class, Problem};

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
/// The lives that are looked at, in seconds.
const LIVES_S: std::ops::Range<u64> = 3_600..398 * 86_400;

/// The example of RFC 9773, 4.1.
#[test]
fn an_id_is_made_as_the_standard_shows() {
    let key = hex::decode("69885b6b87464041e1b37b847ba0ae2cde01c8d4").unwrap();
    let serial = hex::decode("0087654321").unwrap();
    let id = AriId::new(&key, &serial).unwrap();
    assert_eq!(id.to_string(), "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE");
    assert_eq!(id.parts(), ("aYhba4dGQEHhs3uEe6CuLN4ByNQ", "AIdlQyE"));
    assert_eq!(AriId::try_from(id.to_string()), Ok(id));
}

#[test]
fn what_is_no_id_is_not_taken_for_one() {
    assert_eq!(AriId::new(&[], &[1]), None);
    assert_eq!(AriId::new(&[1], &[]), None);
    assert_eq!(AriId::new(&[1; 200], &[1]), None);
    for wrong in ["", ".", "AA", "AA.", ".AA", "AA==.AA", "AA.AA.AA", "A A.AA", "../AA.AA"] {
        assert!(AriId::try_from(wrong.to_owned()).is_err(), "{wrong:?}");
    }
}

fn born() -> Timestamp {
    Timestamp::from_second(1_790_000_000).unwrap()
}

fn info(start: Timestamp, end: Timestamp) -> RenewalInfo {
    RenewalInfo { start, end, explanation_url: None, retry_after: None }
}

fn broken() -> CaError {
    CaError::Transient(Problem::new(Class::Transient, "ca-unreachable", "connection refused"))
}

/// A certificate that lives for `life` from when it is stored, until the planner finds it due. Answers when it would be due by
/// its life alone, and when it is due with a CA that answers `ask` at each look.
fn planned(
    life: Duration,
    entropy: &dyn Entropy,
    mut ask: impl FnMut(Timestamp) -> Result<RenewalInfo, CaError>,
) -> (Timestamp, Timestamp) {
    let dies = later(born(), life);
    let by_life = renewal_time(born(), dies, entropy);
    let mut of = Watched { not_before: born(), not_after: dies, suggestion: None, explanation_url: None };
    let (mut renew_at, mut look_at) = (by_life, later(born(), first_look(born(), dies, entropy).unwrap()));
    while look_at < renew_at {
        let judged = judge(ask(look_at), &of, look_at, entropy);
        if let Some(suggestion) = judged.suggestion.filter(|_| judged.is_new) {
            renew_at = suggestion.renew_at.max(look_at);
        }
        of.suggestion = judged.suggestion;
        look_at = later(look_at, judged.after);
    }
    let candidate = Candidate {
        certificate: format!("crt_{}", "0".repeat(32)).parse().unwrap(),
        project: format!("prj_{}", "0".repeat(32)).parse().unwrap(),
        current: format!("ver_{}", "0".repeat(32)).parse().ok(),
        expires: Some(dies),
        renew_at,
        auto_renew: true,
        fence: 1,
        is_suggested: of.suggestion.is_some(),
    };
    let early = renew_at - Duration::from_millis(1);
    assert_eq!(renewal(&candidate, early), None, "planned before it is due");
    assert!(renewal(&candidate, renew_at).is_some(), "not planned although it is due");
    (by_life, renew_at)
}

proptest! {
    #[test]
    fn without_a_word_of_the_ca_it_is_renewed_by_its_life(life_s in LIVES_S, seed: u64) {
        let life = Duration::from_secs(life_s);
        let (by_life, renewed) = planned(life, &Seeded::new(seed), |_| Err(broken()));
        prop_assert_eq!(renewed, by_life, "a look that failed moved the renewal");
        let age = until(born(), renewed);
        let last = life - left_at_renewal(life);
        prop_assert!(age <= last, "late: {age:?} of {life:?}");
        prop_assert!(age + life / 20 >= last, "early: {age:?} of {life:?}");
    }

    /// Windows as CAs suggest them: about a fiftieth of the life around two thirds of it, or half of it where it is short.
    #[test]
    fn where_the_ca_says_when_it_is_renewed_then_and_not_earlier(life_s in LIVES_S, seed: u64) {
        let life = Duration::from_secs(life_s);
        let middle = life - left_at_renewal(life);
        let (start, end) = (later(born(), middle - life / 100), later(born(), middle + life / 100));
        let (_, renewed) = planned(life, &Seeded::new(seed), |_| Ok(info(start, end)));
        prop_assert!(renewed + Duration::from_millis(1) > start, "{renewed} is before {start}");
        prop_assert!(renewed < end, "{renewed} is not before {end}");
    }

    /// The certificate was revoked, for one: the window moves into the past at some moment of the life.
    #[test]
    fn where_the_ca_changes_its_mind_it_is_renewed_at_the_next_look(
        life_s in LIVES_S, seed: u64, share in 1_u32..50,
    ) {
        let life = Duration::from_secs(life_s);
        let moved_at = later(born(), life * share / 100);
        let (start, end) = (later(born(), life * 60 / 100), later(born(), life * 62 / 100));
        let (by_life, renewed) = planned(life, &Seeded::new(seed), |now| {
            Ok(if now < moved_at { info(start, end) } else { info(born() - HOUR, born()) })
        });
        // One interval and its jitter.
        let interval = (life / 24).clamp(Duration::from_secs(60), 6 * HOUR) * 11 / 10;
        let soon = later(moved_at, interval);
        prop_assert!(renewed >= moved_at.min(by_life), "{renewed} is before the CA said so at {moved_at}");
        prop_assert!(renewed <= soon, "{renewed} is long after the CA said so at {moved_at}");
    }
}

/// The fullest hour of the plan against the mean of the time over which it shall be spread: nothing is spread by being all in
/// one hour.
fn crowding(due: impl Iterator<Item = Timestamp>, over: Duration) -> f64 {
    let mut hours: BTreeMap<i64, u32> = BTreeMap::new();
    for at in due {
        *hours.entry(at.as_second().div_euclid(3_600)).or_default() += 1;
    }
    let mean = f64::from(hours.values().sum::<u32>()) / over.div_duration_f64(HOUR);
    f64::from(*hours.values().max().unwrap()) / mean
}

/// The worst that can be: all of them were issued in the same moment. Renewal by life spreads them over a twentieth of it.
#[test]
fn a_hundred_thousand_certificates_issued_at_once_are_not_renewed_at_once() {
    const CERTIFICATES: u64 = 100_000;
    for life in [160 * HOUR, 45 * DAY, 90 * DAY, 398 * DAY] {
        let dies = later(born(), life);
        let luck = Seeded::new(life.as_secs());
        let by_life = crowding((0..CERTIFICATES).map(|_| renewal_time(born(), dies, &luck)), life / 20);
        // A window of a day and a half, about as Pebble suggests for any life that is long enough.
        let middle = later(born(), life - left_at_renewal(life));
        let window = Window::new(middle - DAY, later(middle, DAY / 2)).unwrap();
        let drawn = |_| Suggestion::draw(window, None, born(), dies, &luck).unwrap().renew_at;
        let suggested = crowding((0..CERTIFICATES).map(drawn), 36 * HOUR);
        let look = |_| later(born(), first_look(born(), dies, &luck).unwrap());
        let looks = crowding((0..CERTIFICATES).map(look), 6 * HOUR);
        let figures = format!("{life:?}: by life {by_life:.2}, by window {suggested:.2}, looks {looks:.2}");
        assert!(by_life <= 1.5 && suggested <= 1.5 && looks <= 1.5, "{figures}");
    }
}

/// And as it is in the long run: issued at any time, all hours alike but for chance.
#[test]
fn a_hundred_thousand_certificates_issued_one_after_the_other_are_renewed_so() {
    for life in [160 * HOUR, 45 * DAY] {
        let luck = Seeded::new(1);
        let over = life - left_at_renewal(life);
        let due = (0..100_000_u32).map(|n| {
            let issued = later(born(), over / 100_000 * n);
            renewal_time(issued, later(issued, life), &luck)
        });
        let crowding = crowding(due, over);
        assert!(crowding <= 1.5, "{life:?}: {crowding:.2}");
    }
}
