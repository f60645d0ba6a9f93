// SPDX-License-Identifier: Apache-2.0
//! Claims about notices.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::certificate::renewal_time;
use crate::entropy::tests::Seeded;
use crate::problem::Class;

/// Lifetimes from an hour to the longest that public CAs ever issued.
const LIVES_S: std::ops::Range<u64> = 3_600..398 * 86_400;

fn born() -> Timestamp {
    Timestamp::from_second(1_790_000_000).unwrap()
}

proptest! {
    #[test]
    fn a_renewal_is_planned_before_the_first_notice(life_s in LIVES_S, seed: u64) {
        let dies = later(born(), Duration::from_secs(life_s));
        let due = renewal_time(born(), dies, &Seeded::new(seed));
        let first = Threshold::QuarterLeft.at(born(), dies);
        prop_assert!(later(due, Duration::from_secs(life_s) / 13) < first, "{} and {}", due, first);
    }

    /// However seldom somebody looks: each threshold once at most, in order, and the last one always.
    #[test]
    fn whoever_looks_when_told_to_notices_each_threshold_once(
        life_s in LIVES_S,
        late_s in proptest::collection::vec(0_u64..200 * 86_400, 3),
    ) {
        let dies = later(born(), Duration::from_secs(life_s));
        let (mut noticed, mut next) = (Vec::new(), Some(Threshold::QuarterLeft.at(born(), dies)));
        for late in late_s {
            let Some(at) = next else { break };
            let seen = look(born(), dies, later(at, Duration::from_secs(late)));
            noticed.extend(seen.reached);
            next = seen.next;
        }
        prop_assert!(noticed.is_sorted_by(|a, b| a < b), "{:?}", noticed);
        prop_assert_eq!((noticed.last(), next), (Some(&Threshold::Expired), None));
    }

    /// The time of the next look is never one at which nothing new would be seen.
    #[test]
    fn what_is_next_is_later_and_is_reached_then(life_s in LIVES_S, after_s in 0_u64..800 * 86_400) {
        let dies = later(born(), Duration::from_secs(life_s));
        let now = later(born(), Duration::from_secs(after_s));
        let seen = look(born(), dies, now);
        if let Some(next) = seen.next {
            prop_assert!(next > now);
            prop_assert!(look(born(), dies, next).reached > seen.reached);
        } else {
            prop_assert_eq!(seen.reached, Some(Threshold::Expired));
            prop_assert!(dies <= now);
        }
    }

    /// Stored times are milliseconds: a threshold must not lie between two of them.
    #[test]
    fn thresholds_are_whole_milliseconds(life_s in LIVES_S) {
        let dies = later(born(), Duration::from_secs(life_s));
        for threshold in Threshold::ALL {
            prop_assert_eq!(threshold.at(born(), dies).subsec_nanosecond() % 1_000_000, 0);
        }
    }

    #[test]
    fn no_other_text_is_a_notice(text in "\\PC{0,100}") {
        prop_assert!(text.parse::<NoticeId>().is_err());
    }
}

#[test]
fn a_young_certificate_has_no_notice_and_is_looked_at_when_a_quarter_is_left() {
    let dies = later(born(), Duration::from_secs(8 * 3_600));
    let quarter = later(born(), Duration::from_secs(6 * 3_600));
    assert_eq!(look(born(), dies, born()), Look { reached: None, next: Some(quarter) });
    let at = |hours: u64| look(born(), dies, later(born(), Duration::from_secs(hours * 3_600))).reached;
    assert_eq!(
        [at(5), at(6), at(7), at(8)].map(|seen| seen.map(Threshold::as_str)),
        [None, Some("quarter_left"), Some("eighth_left"), Some("expired")]
    );
}

#[test]
fn the_reason_is_what_stands_in_the_way_first() {
    let (own, issuer) =
        (Problem::new(Class::Validation, "dns", "x"), Problem::new(Class::Configuration, "account", "y"));
    assert_eq!(reason(true, Some(&own), Some(&issuer)), (Reason::Failing, Some(own)));
    assert_eq!(reason(true, None, Some(&issuer)), (Reason::IssuerFailing, Some(issuer.clone())));
    assert_eq!(reason(false, None, Some(&issuer)), (Reason::AutoRenewOff, None));
    assert_eq!(reason(true, None, None), (Reason::Late, None));
}

#[test]
fn a_notice_reads_back_from_its_name() {
    let id = |prefix: &str, digit: &str| format!("{prefix}_{}", digit.repeat(32));
    for threshold in Threshold::ALL {
        let notice = NoticeId {
            certificate: id("crt", "1").parse().unwrap(),
            version: id("ver", "2").parse().unwrap(),
            threshold,
        };
        assert_eq!(notice.to_string().parse(), Ok(notice));
    }
}
