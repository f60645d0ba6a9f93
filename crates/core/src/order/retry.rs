// SPDX-License-Identifier: Apache-2.0
//! When to try again.

use std::time::Duration;

use jiff::Timestamp;

use crate::clock::until;
use crate::entropy::{self, Entropy};
use crate::job::{Cause, Setbacks, Settlement};
use crate::limits;
use crate::problem::{Class, Problem};

/// The waits after the first, second and third failed attempt; from then on daily.
const ATTEMPT_WAITS: [Duration; 3] =
    [Duration::from_secs(60), Duration::from_secs(600), Duration::from_secs(6_000)];
/// The wait after every later failed attempt.
const ATTEMPT_WAIT_MAX: Duration = Duration::from_secs(86_400);
/// The wait after it has expired: nothing is served any more, and CAs count failures by the hour.
const EXPIRED_WAIT_MAX: Duration = Duration::from_secs(3_600);
/// How often a wait is doubled at most: by then it is beyond any bound.
const DOUBLINGS_MAX: u32 = 16;
/// The part of a wait by which it is shorter at most: what waits together comes back apart.
const JITTER_DIVISOR: u32 = 10;

/// How long to wait after the `failures`-th failed attempt in a row (1 is the first), with up to a tenth of jitter.
#[must_use]
pub fn attempt_delay(
    failures: u32,
    expires: Option<Timestamp>,
    now: Timestamp,
    entropy: &dyn Entropy,
) -> Duration {
    let index = usize::try_from(failures.saturating_sub(1)).unwrap_or(usize::MAX);
    let wait = ATTEMPT_WAITS.get(index).copied().unwrap_or(ATTEMPT_WAIT_MAX);
    let wait = match expires {
        Some(expires) if expires > now => wait.min(until(now, expires) / limits::LIFE_LEFT_DIVISOR),
        Some(_) => wait.min(EXPIRED_WAIT_MAX),
        None => wait,
    };
    let wait = wait.max(limits::ATTEMPT_WAIT_MIN);
    jittered(wait, entropy)
}

fn jittered(wait: Duration, entropy: &dyn Entropy) -> Duration {
    wait - entropy::between(entropy, Duration::ZERO, wait / JITTER_DIVISOR)
}

fn doubled(first: Duration, times: u32) -> Duration {
    first * 2_u32.pow(times.min(DOUBLINGS_MAX))
}

/// How long to wait after the `count`-th passing fault in a row (1 is the first): 1, 2, 4 up to 60 s, halved at most
/// by jitter.
#[must_use]
pub fn transient_delay(count: u32, entropy: &dyn Entropy) -> Duration {
    let wait = doubled(limits::TRANSIENT_WAIT_FIRST, count.saturating_sub(1)).min(limits::TRANSIENT_WAIT_MAX);
    entropy::between(entropy, wait / 2, wait)
}

/// The longest wait that a rate limit may impose, where the version in use `expires` then: a part of the life that is left,
/// and not less than between any two looks.
#[must_use]
pub fn limit_wait_max(expires: Option<Timestamp>, now: Timestamp) -> Duration {
    match expires {
        Some(expires) if expires > now => (until(now, expires) / limits::LIFE_LEFT_DIVISOR)
            .clamp(limits::TRANSIENT_WAIT_MAX, limits::RATE_LIMIT_MAX),
        _ => limits::RATE_LIMIT_MAX,
    }
}

/// The problem types by which a CA refuses a key, or what was signed with it (RFC 8555, 6.7).
const KEY_REFUSED: [&str; 2] =
    ["urn:ietf:params:acme:error:badCSR", "urn:ietf:params:acme:error:badPublicKey"];

/// Whether an attempt failed for its key: the same one would be refused again.
#[must_use]
pub(super) fn needs_new_key(problem: &Problem) -> bool {
    KEY_REFUSED.contains(&&*problem.kind)
}

/// How long to wait before a CA that is busy with an order is asked again, after so many `waits` before: 1, 2, 4 up to 60 s,
/// with up to a tenth of jitter, and no longer than a tenth of what is left until any of these `ends`.
#[must_use]
pub fn poll_delay(
    waits: u32,
    ends: [Option<Timestamp>; 2],
    now: Timestamp,
    entropy: &dyn Entropy,
) -> Duration {
    let wait = doubled(limits::POLL_WAIT_FIRST, waits).min(limits::POLL_WAIT_MAX);
    let ends = ends.into_iter().flatten().filter(|end| *end > now);
    let most =
        ends.map(|end| until(now, end) / limits::LIFE_LEFT_DIVISOR).min().unwrap_or(limits::POLL_WAIT_MAX);
    let wait = wait.min(most).max(limits::POLL_WAIT_FIRST);
    jittered(wait, entropy)
}

/// The longest that a CA which is busy with an order of this `age` may ask to be left alone, where the order and the version in use
/// end then. Some ask for a day and are done in minutes, so it is an hour, and for as long again as the order is older than that; half
/// of what is left of the order, which is of no use once it has expired; and as with rate limits a part of the version's life.
#[must_use]
pub fn asked_wait_max(
    age: Duration,
    order_ends: Option<Timestamp>,
    expires: Option<Timestamp>,
    now: Timestamp,
) -> Duration {
    let left = order_ends.filter(|end| *end > now).map(|end| until(now, end) / 2);
    let most = age.clamp(limits::ASKED_WAIT_MIN, limits::RETRY_AFTER_MAX).min(limit_wait_max(expires, now));
    left.map_or(most, |left| most.min(left))
}

/// Which fault in a row it is, behind these.
fn nth(before: Option<Setbacks>) -> u32 {
    before.map_or(0, |before| before.count).saturating_add(1)
}

/// What becomes of a job after one more passing fault than `before`: the same step again, later.
#[must_use]
pub fn postponed(
    before: Option<Setbacks>,
    cause: Cause,
    problem: Problem,
    now: Timestamp,
    entropy: &dyn Entropy,
) -> Settlement {
    let after = transient_delay(nth(before), entropy);
    let setbacks = Some(Setbacks::met(before, cause, after, now));
    Settlement::Again { after, problem: Some(problem), setbacks }
}

/// What becomes of a job whose CA asked us to come back `at`, after the passing faults `before`: not sooner than it
/// said, and not sooner than after any other passing fault, since some CAs say "at once" each time. What it asks for because
/// of a limit is no fault of its.
#[must_use]
pub fn deferred(
    before: Option<Setbacks>,
    problem: Problem,
    at: Timestamp,
    now: Timestamp,
    entropy: &dyn Entropy,
) -> Settlement {
    let (cause, most) = match problem.class {
        Class::RateLimited => (Cause::Other, limits::RATE_LIMIT_MAX),
        Class::Transient | Class::Validation | Class::Configuration | Class::Protocol => {
            (Cause::Ca, limits::RETRY_AFTER_MAX)
        }
    };
    let asked = until(now, at).min(most);
    let after = asked.max(transient_delay(nth(before), entropy));
    let setbacks = Some(Setbacks::met(before, cause, after, now));
    Settlement::Again { after, problem: Some(problem), setbacks }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::later;
    use crate::entropy::tests::Seeded;

    #[test]
    fn a_busy_ca_is_left_alone_for_an_hour_at_first_and_for_no_longer_than_the_order_is_of_use() {
        let now = Timestamp::from_second(1_790_000_000).unwrap();
        let hours = |hours: u64| Duration::from_secs(hours * 3_600);
        let end = |after| Some(later(now, hours(after)));
        for (age, most) in [(0, 1), (1, 1), (3, 3), (99, 24)] {
            assert_eq!(asked_wait_max(hours(age), None, None, now), hours(most), "an order of {age} hours");
        }
        assert_eq!(asked_wait_max(hours(9), end(8), None, now), hours(4), "half of the order's life");
        assert_eq!(asked_wait_max(hours(9), end(8), end(20), now), hours(2), "a tenth of the version's");
        let over = Some(now - Duration::from_secs(1));
        assert_eq!(asked_wait_max(hours(0), over, over, now), hours(1));
    }

    #[test]
    fn waits_grow_and_then_stay() {
        let luck = Seeded::new(1);
        let now = Timestamp::from_second(1_790_000_000).unwrap();
        let seconds = |failures| attempt_delay(failures, None, now, &luck).as_secs();
        assert!((54..=60).contains(&seconds(1)));
        assert!((540..=600).contains(&seconds(2)));
        assert!((5_400..=6_000).contains(&seconds(3)));
        assert!((77_760..=86_400).contains(&seconds(4)));
        assert!((77_760..=86_400).contains(&seconds(u32::MAX)));
        assert!(transient_delay(1, &luck) <= Duration::from_secs(1));
        assert!(transient_delay(u32::MAX, &luck) <= Duration::from_secs(60));
    }

    #[test]
    fn the_less_life_is_left_the_sooner_the_next_attempt() {
        let luck = Seeded::new(1);
        let now = Timestamp::from_second(1_790_000_000).unwrap();
        let an_hour_left = later(now, Duration::from_secs(3_600));
        assert!(attempt_delay(9, Some(an_hour_left), now, &luck) <= Duration::from_secs(360));
        let expired = attempt_delay(9, Some(now), now, &luck).as_secs();
        assert!((3_240..=3_600).contains(&expired), "nor hammered, nor left alone for a day: {expired}");
        let a_moment_left = later(now, Duration::from_secs(1));
        assert!(attempt_delay(9, Some(a_moment_left), now, &luck) >= Duration::from_secs(13));
    }

    #[test]
    fn a_refused_key_is_not_used_again_and_no_other_refusal_costs_a_key() {
        let failed = |kind: &str| needs_new_key(&Problem::new(Class::Protocol, kind, ""));
        assert!(KEY_REFUSED.into_iter().all(failed));
        for other in
            ["badCSR", "wrong-certificate", "urn:ietf:params:acme:error:unauthorized", "order-expired"]
        {
            assert!(!failed(other), "{other}");
        }
    }

    fn defer(count: u32, asked: Duration) -> (Duration, Option<u32>) {
        let now = Timestamp::from_second(1_790_000_000).unwrap();
        let before = (count > 0).then_some(Setbacks { count, ..Setbacks::none(now) });
        let problem = Problem::new(Class::RateLimited, "rateLimited", "slow down");
        match deferred(before, problem, later(now, asked), now, &Seeded::new(1)) {
            Settlement::Again { after, setbacks, .. } => (after, setbacks.map(|setbacks| setbacks.count)),
            settlement => panic!("{settlement:?}"),
        }
    }

    #[test]
    fn a_ca_that_always_says_at_once_is_asked_less_and_less() {
        let (mut count, mut waits) = (0, Vec::new());
        for _ in 0..10 {
            let (after, next) = defer(count, Duration::ZERO);
            waits.push(after);
            count = next.unwrap();
        }
        assert_eq!(count, 10, "each one is remembered");
        assert!(waits[0] <= Duration::from_secs(1));
        assert!(waits[9] >= limits::TRANSIENT_WAIT_MAX / 2, "{waits:?}");
    }

    #[test]
    fn a_ca_is_given_the_time_that_it_asks_for_up_to_a_bound() {
        assert_eq!(defer(0, Duration::from_secs(20)), (Duration::from_secs(20), Some(1)));
        assert_eq!(defer(5, Duration::from_secs(3_600)), (Duration::from_secs(3_600), Some(6)));
        assert_eq!(defer(5, limits::RATE_LIMIT_MAX * 9).0, limits::RATE_LIMIT_MAX);
        let now = Timestamp::from_second(1_790_000_000).unwrap();
        let closed = Problem::new(Class::Transient, "serverInternal", "closed for a year");
        let settlement = deferred(None, closed, Timestamp::MAX, now, &Seeded::new(1));
        assert!(matches!(settlement, Settlement::Again { after, .. } if after == limits::RETRY_AFTER_MAX));
    }

    #[test]
    fn a_limit_leaves_most_of_the_life_that_is_left() {
        let now = Timestamp::from_second(1_790_000_000).unwrap();
        let most = |left_s| limit_wait_max(Some(later(now, Duration::from_secs(left_s))), now);
        assert_eq!(most(1_000_000), Duration::from_secs(100_000));
        assert_eq!(most(1), limits::TRANSIENT_WAIT_MAX);
        assert_eq!(most(400 * 86_400), limits::RATE_LIMIT_MAX);
        assert_eq!((limit_wait_max(None, now), most(0)), (limits::RATE_LIMIT_MAX, limits::RATE_LIMIT_MAX));
    }

    #[test]
    fn a_busy_ca_is_asked_less_and_less_and_not_too_seldom_for_what_ends_soon() {
        let luck = Seeded::new(1);
        let now = Timestamp::from_second(1_790_000_000).unwrap();
        let ends = |in_s| [Some(later(now, Duration::from_secs(in_s))), None];
        let wait = |waits, ends| poll_delay(waits, ends, now, &luck).as_secs_f64();
        for (waits, at_most) in [(0, 1.0), (1, 2.0), (5, 32.0), (6, 60.0), (u32::MAX, 60.0)] {
            assert!((at_most * 0.9..=at_most).contains(&wait(waits, [None, None])), "{waits}");
        }
        assert!(wait(9, ends(100)) <= 10.0);
        assert!(wait(9, ends(1)) >= 0.9, "what ends in a moment is not hammered");
        assert!(wait(9, ends(0)) >= 54.0, "nor is what is over");
    }
}
