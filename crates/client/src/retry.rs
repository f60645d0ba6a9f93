// SPDX-License-Identifier: Apache-2.0
//! When a call is made again: decided on plain values.

use std::time::Duration;

use reqwest::header::{self, HeaderMap};
use reqwest::{Method, StatusCode};

/// Further tries after the first one.
const RETRIES: u32 = 3;
/// The wait before the first further try; it doubles from there.
const WAIT_FIRST: Duration = Duration::from_millis(200);
/// The longest wait that an answer's Retry-After may impose: somebody may be watching the cursor blink.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// How one try ended, as far as another one is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// No connection was made: nothing was sent.
    NotSent,
    /// The connection broke behind the request.
    Broken,
    /// An answer came.
    Answered {
        /// Its status.
        status: StatusCode,
        /// How long it asks us to wait.
        retry_after: Option<Duration>,
    },
}

/// How long to wait before the next try; nothing when this was the last.
///
/// GET changes nothing and POST carries an idempotency key, so both may be sent twice. Others are sent again only where
/// nothing was done before: nothing was sent, or what was sent was refused for a limit's sake.
pub(crate) fn wait(method: &Method, tries: u32, outcome: Outcome) -> Option<Duration> {
    let repeatable = method == Method::GET || method == Method::POST;
    let wanted = match outcome {
        Outcome::NotSent => true,
        Outcome::Broken => repeatable,
        Outcome::Answered { status: StatusCode::TOO_MANY_REQUESTS, .. } => true,
        Outcome::Answered { status, .. } => repeatable && status == StatusCode::SERVICE_UNAVAILABLE,
    };
    if !wanted || tries > RETRIES {
        return None;
    }
    let own = WAIT_FIRST * 2_u32.pow(tries.saturating_sub(1));
    Some(match outcome {
        Outcome::Answered { retry_after: Some(asked), .. } => asked.min(WAIT_MAX),
        Outcome::Answered { retry_after: None, .. } | Outcome::NotSent | Outcome::Broken => own,
    })
}

/// Reads Retry-After (RFC 9110, 10.2.3) as seconds. A date is not read: the two clocks may differ.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, retry_after: Option<u64>) -> Outcome {
        let status = StatusCode::from_u16(status).unwrap();
        Outcome::Answered { status, retry_after: retry_after.map(Duration::from_secs) }
    }

    #[test]
    fn three_further_tries_and_no_more() {
        let waits: Vec<_> = (1..=4).map(|tries| wait(&Method::GET, tries, Outcome::Broken)).collect();
        let ms = |ms| Some(Duration::from_millis(ms));
        assert_eq!(waits, [ms(200), ms(400), ms(800), None]);
    }

    #[test]
    fn the_wait_asked_for_is_kept_within_its_bound() {
        let asked = |seconds| wait(&Method::POST, 1, answered(503, Some(seconds)));
        assert_eq!(asked(2), Some(Duration::from_secs(2)));
        assert_eq!(asked(3600), Some(WAIT_MAX));
    }

    #[test]
    fn an_answer_that_says_no_is_final() {
        for status in [200, 400, 401, 404, 409, 500] {
            assert_eq!(wait(&Method::GET, 1, answered(status, None)), None, "{status}");
        }
    }

    #[test]
    fn what_may_not_be_sent_twice_is_not() {
        for method in [Method::DELETE, Method::PATCH] {
            assert_eq!(wait(&method, 1, Outcome::Broken), None);
            assert_eq!(wait(&method, 1, answered(503, None)), None);
            assert!(wait(&method, 1, answered(429, None)).is_some(), "a limit lets nothing happen");
            assert!(wait(&method, 1, Outcome::NotSent).is_some());
        }
    }

    #[test]
    fn only_seconds_are_read_from_retry_after() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, text.parse().unwrap());
            retry_after(&headers)
        };
        assert_eq!(read("7"), Some(Duration::from_secs(7)));
        assert_eq!(read("Wed, 21 Oct 2026 07:28:00 GMT"), None);
        assert_eq!(read("-1"), None);
    }
}
