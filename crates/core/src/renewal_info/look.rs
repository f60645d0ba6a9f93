// SPDX-License-Identifier: Apache-2.0
//! What becomes of one look at a CA's renewal information, and when the next one is.

use std::time::Duration;

use jiff::Timestamp;

use crate::clock::until;
use crate::entropy::{self, Entropy};
use crate::limits;
use crate::order::CaError;
use crate::problem::{Class, Problem};
use crate::renewal_info::{BadWindow, RenewalInfo, Suggestion, Window};

/// The part of a life in which it is looked at least once, so that a short one is, too.
const LIFE_DIVISOR: u32 = 24;
/// The part of a wait by which it is longer at most: certificates that were issued together are asked for apart.
const JITTER_DIVISOR: u32 = 10;

/// A version whose renewal information is looked at, with what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// From when it is valid.
    pub not_before: Timestamp,
    /// Until when.
    pub not_after: Timestamp,
    /// The window that the CA named last, and the time drawn in it.
    pub suggestion: Option<Suggestion>,
    /// The page that told why.
    pub explanation_url: Option<String>,
}

/// What a look led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// The window that holds from now on, if any does: what an answer that cannot be used leaves as it was.
    pub suggestion: Option<Suggestion>,
    /// Whether it is another one than before, so that the certificate is renewed at another time.
    pub is_new: bool,
    /// The page that tells why.
    pub explanation_url: Option<String>,
    /// Why the answer could not be used.
    pub problem: Option<Problem>,
    /// How long until the next look.
    pub after: Duration,
}

/// Judges an answer that came at `now`. One that cannot be used changes nothing about when the certificate is renewed.
#[must_use]
pub fn judge(
    said: Result<RenewalInfo, CaError>,
    of: &Watched,
    now: Timestamp,
    entropy: &dyn Entropy,
) -> Judged {
    let kept = |problem, after| Judged {
        suggestion: of.suggestion,
        is_new: false,
        explanation_url: of.explanation_url.clone(),
        problem: Some(problem),
        after: jittered(after, entropy),
    };
    let usual = interval(until(of.not_before, of.not_after));
    let info = match said {
        Ok(info) => info,
        Err(CaError::Later { problem, at }) => return kept(problem, clamped(until(now, at))),
        Err(CaError::Transient(problem) | CaError::OutOfStep(problem)) => {
            return kept(problem, usual.min(limits::ARI_AGAIN));
        }
        Err(
            CaError::Refused(problem)
            | CaError::NeedsPerson(problem)
            | CaError::Gone(problem)
            | CaError::Account(problem),
        ) => {
            return kept(problem, usual);
        }
    };
    // A CA may say "now" as a window that moves with the clock. It is renewed already, or waits for its next attempt.
    let has_come = |suggestion: Option<Suggestion>| suggestion.is_some_and(|it| it.renew_at <= now);
    let after = info.retry_after.map_or(usual, |at| clamped(until(now, at)));
    let drawn = Window::new(info.start, info.end)
        .and_then(|window| Suggestion::draw(window, of.suggestion, of.not_before, of.not_after, entropy));
    match drawn {
        Ok(suggestion) => Judged {
            suggestion: Some(suggestion),
            is_new: of.suggestion != Some(suggestion)
                && !(has_come(of.suggestion) && has_come(Some(suggestion))),
            explanation_url: info.explanation_url,
            problem: None,
            after: jittered(after, entropy),
        },
        Err(bad) => kept(ignored(bad), after),
    }
}

/// How long after a version was stored it is looked at first: at any moment of the usual interval, so that what is issued
/// together is asked for apart, and a CA that sees every certificate as overdue has each renewed a few times a day at most.
/// Never, in a life that is too short to be asked about often: it would be over before the CA's word could be heard.
#[must_use]
pub fn first_look(not_before: Timestamp, not_after: Timestamp, entropy: &dyn Entropy) -> Option<Duration> {
    let life = until(not_before, not_after);
    let has_room = life / LIFE_DIVISOR >= limits::ARI_POLL_MIN;
    has_room.then(|| entropy::between(entropy, Duration::ZERO, interval(life)))
}

/// The wait where the CA does not say how long to wait.
fn interval(life: Duration) -> Duration {
    (life / LIFE_DIVISOR).clamp(limits::ARI_POLL_MIN, limits::ARI_POLL_DEFAULT)
}

fn clamped(wait: Duration) -> Duration {
    wait.clamp(limits::ARI_POLL_MIN, limits::ARI_POLL_MAX)
}

/// Never sooner than it is: a CA that says when to come back means it.
fn jittered(wait: Duration, entropy: &dyn Entropy) -> Duration {
    wait + entropy::between(entropy, Duration::ZERO, wait / JITTER_DIVISOR)
}

fn ignored(bad: BadWindow) -> Problem {
    Problem::new(Class::Protocol, "renewal-window-ignored", bad.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::later;
    use crate::entropy::tests::Seeded;

    const HOUR: Duration = Duration::from_secs(3_600);
    const DAY: Duration = Duration::from_secs(86_400);

    fn born() -> Timestamp {
        Timestamp::from_second(1_790_000_000).unwrap()
    }

    fn watched(life: Duration) -> Watched {
        let (not_before, not_after) = (born(), later(born(), life));
        Watched { not_before, not_after, suggestion: None, explanation_url: None }
    }

    fn info(start: Duration, end: Duration) -> RenewalInfo {
        let explanation_url = Some("https://ca.example.test/why".to_owned());
        RenewalInfo {
            start: later(born(), start),
            end: later(born(), end),
            explanation_url,
            retry_after: None,
        }
    }

    fn problem() -> Problem {
        Problem::new(Class::Transient, "ca-unreachable", "connection refused")
    }

    fn look(said: Result<RenewalInfo, CaError>, of: &Watched) -> Judged {
        judge(said, of, later(born(), HOUR), &Seeded::new(1))
    }

    #[test]
    fn what_the_ca_says_is_followed_and_said_again_it_changes_nothing() {
        let of = watched(90 * DAY);
        let first = look(Ok(info(59 * DAY, 61 * DAY)), &of);
        assert!(first.is_new && first.problem.is_none());
        assert_eq!(first.explanation_url.as_deref(), Some("https://ca.example.test/why"));
        let known = Watched { suggestion: first.suggestion, ..of.clone() };
        let again = look(Ok(info(59 * DAY, 61 * DAY)), &known);
        assert_eq!((again.is_new, again.suggestion), (false, first.suggestion));
        let moved = look(Ok(info(Duration::ZERO, HOUR)), &known);
        assert!(moved.is_new && moved.suggestion.unwrap().renew_at <= later(born(), HOUR));
    }

    #[test]
    fn an_answer_that_cannot_be_used_leaves_everything_as_it_was_and_says_why() {
        let of = watched(90 * DAY);
        let known = Watched {
            suggestion: look(Ok(info(59 * DAY, 61 * DAY)), &of).suggestion,
            explanation_url: Some("https://ca.example.test/old".into()),
            ..of.clone()
        };
        let answers = [
            Err(CaError::Transient(problem())),
            Err(CaError::OutOfStep(problem())),
            Err(CaError::Refused(problem())),
            Err(CaError::NeedsPerson(problem())),
            Err(CaError::Gone(problem())),
            Err(CaError::Later { problem: problem(), at: born() }),
            Ok(info(2 * HOUR, HOUR)),
            Ok(info(HOUR, HOUR)),
            Ok(info(91 * DAY, 92 * DAY)),
        ];
        for said in answers {
            for of in [&of, &known] {
                let judged = look(said.clone(), of);
                assert_eq!(judged.suggestion, of.suggestion, "{said:?}");
                assert_eq!(judged.explanation_url, of.explanation_url, "{said:?}");
                assert!(!judged.is_new && judged.problem.is_some(), "{said:?}");
            }
        }
    }

    #[test]
    fn the_next_look_is_when_the_ca_says_within_a_minute_and_a_day_and_never_sooner() {
        let now = later(born(), HOUR);
        for (asked, wait) in
            [(Duration::ZERO, 60), (Duration::from_secs(90), 90), (6 * HOUR, 21_600), (90 * DAY, 86_400)]
        {
            let wait = Duration::from_secs(wait);
            for seed in 0..50 {
                let said = RenewalInfo { retry_after: Some(later(now, asked)), ..info(59 * DAY, 61 * DAY) };
                let limited = CaError::Later { problem: problem(), at: later(now, asked) };
                for said in [Ok(said), Err(limited)] {
                    let judged = judge(said, &watched(90 * DAY), now, &Seeded::new(seed));
                    assert!(judged.after >= wait && judged.after <= wait * 11 / 10, "{asked:?}: {judged:?}");
                }
            }
        }
    }

    #[test]
    fn without_a_word_of_the_ca_it_is_every_six_hours_and_more_often_in_a_short_life() {
        for (life, usual) in
            [(90 * DAY, 6 * HOUR), (160 * HOUR, 6 * HOUR), (24 * HOUR, HOUR), (HOUR, HOUR / 24)]
        {
            let of = watched(life);
            let after = look(Ok(info(life / 2, life * 2 / 3)), &of).after;
            assert!(after >= usual && after <= usual * 11 / 10, "{life:?}: {after:?}");
            let refused = look(Err(CaError::Refused(problem())), &of).after;
            assert!(refused >= usual, "{life:?}: {refused:?}");
            let passing = look(Err(CaError::Transient(problem())), &of).after;
            assert!(passing >= usual.min(limits::ARI_AGAIN) && passing <= usual * 11 / 10, "{passing:?}");
            for seed in 0..50 {
                assert!(first_look(of.not_before, of.not_after, &Seeded::new(seed)).unwrap() < usual);
            }
        }
    }

    #[test]
    fn a_life_of_minutes_is_not_asked_about() {
        let look = |life| first_look(born(), later(born(), life), &Seeded::new(1));
        let least = limits::ARI_POLL_MIN * LIFE_DIVISOR;
        assert!(look(least).is_some());
        assert_eq!(look(least - Duration::from_secs(1)), None);
        assert_eq!(look(Duration::ZERO), None);
    }
}
