// SPDX-License-Identifier: Apache-2.0
//! One call through `instant-acme`, and what our HTTP client saw beneath it.
//!
//! `instant-acme` hands up neither status nor headers, and its accounts are shared by many calls. So each call carries
//! its own record in a task-local, which the HTTP client fills.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use cap_core::clock::later;
use http::{HeaderMap, Method, StatusCode, header};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use jiff::tz::TimeZone;
use tokio::time::Instant;

use crate::link;

tokio::task_local! {
    static CALL: Arc<Call>;
}

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    Directory,
    Nonce,
    Account,
    Binding,
    KeyChange,
    Deactivation,
    NewOrder,
    Order,
    Authorization,
    Challenge,
    Withdrawal,
    Finalize,
    Certificate,
    RenewalInfo,
    Revocation,
}

struct Call {
    action: Action,
    deadline: Instant,
    answer: Mutex<Answer>,
}

/// The last answer within a call; no status when there was none.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answer {
    pub(crate) action: Option<Action>,
    pub(crate) url: String,
    pub(crate) status: Option<StatusCode>,
    pub(crate) retry_after: Option<Timestamp>,
    pub(crate) location: Option<String>,
    /// Where other forms of the same are.
    pub(crate) alternates: Vec<String>,
    pub(crate) body: Bytes,
}

impl Action {
    pub(crate) const ALL: [Self; 15] = [
        Self::Directory,
        Self::Nonce,
        Self::Account,
        Self::Binding,
        Self::KeyChange,
        Self::Deactivation,
        Self::NewOrder,
        Self::Order,
        Self::Authorization,
        Self::Challenge,
        Self::Withdrawal,
        Self::Finalize,
        Self::Certificate,
        Self::RenewalInfo,
        Self::Revocation,
    ];

    /// As a label of metrics.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::Nonce => "nonce",
            Self::Account => "account",
            Self::Binding => "binding",
            Self::KeyChange => "key_change",
            Self::Deactivation => "deactivation",
            Self::NewOrder => "new_order",
            Self::Order => "order",
            Self::Authorization => "authorization",
            Self::Challenge => "challenge",
            Self::Withdrawal => "withdrawal",
            Self::Finalize => "finalize",
            Self::Certificate => "certificate",
            Self::RenewalInfo => "renewal_info",
            Self::Revocation => "revocation",
        }
    }

    /// Whether certificates are issued and renewed without it.
    pub(crate) fn is_optional(self) -> bool {
        matches!(self, Self::KeyChange | Self::Deactivation | Self::Revocation)
    }

    /// As people say it, at the head of "... failed".
    pub(crate) fn phrase(self) -> &'static str {
        match self {
            Self::Directory => "reading the CA's directory",
            Self::Nonce => "fetching a nonce",
            Self::Account => "registering the account",
            Self::Binding => "binding the account to the external one",
            Self::KeyChange => "changing the account's key",
            Self::Deactivation => "deactivating the account",
            Self::NewOrder => "placing the order",
            Self::Order => "reading the order",
            Self::Authorization => "reading an authorization",
            Self::Challenge => "submitting a challenge",
            Self::Withdrawal => "giving an authorization up",
            Self::Finalize => "finalizing the order",
            Self::Certificate => "fetching the certificate",
            Self::RenewalInfo => "reading renewal information",
            Self::Revocation => "revoking the certificate",
        }
    }
}

impl Answer {
    /// Keeps what the headers say at `now`.
    pub(crate) fn read(&mut self, status: StatusCode, headers: &HeaderMap, now: Timestamp) {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        self.status = Some(status);
        self.retry_after = text(header::RETRY_AFTER).and_then(|value| retry_after(value, now));
        self.location = text(header::LOCATION).map(str::to_owned);
        self.alternates = link::alternates(headers, &self.url);
    }
}

/// Runs `act`, whose POSTs are for `action` and whose exchanges share `time`, and says what the last answer within it
/// was.
pub(crate) async fn watched<T>(action: Action, time: Duration, act: impl Future<Output = T>) -> (T, Answer) {
    let call = Arc::new(Call { action, deadline: Instant::now() + time, answer: Mutex::default() });
    let output = CALL.scope(call.clone(), act).await;
    let answer = std::mem::take(&mut *call.answer.lock().unwrap_or_else(PoisonError::into_inner));
    (output, answer)
}

/// What a request is for: `instant-acme` sends HEAD for nonces and GET for directories only, and renewal information is
/// asked for by us.
pub(crate) fn action(method: &Method) -> Action {
    let of_call = CALL.try_with(|call| call.action).unwrap_or(Action::Account);
    match *method {
        Method::HEAD => Action::Nonce,
        Method::GET if of_call == Action::RenewalInfo => of_call,
        Method::GET => Action::Directory,
        _ => of_call,
    }
}

/// When the exchanges of the call must have ended; outside of one, each has `time` for itself.
pub(crate) fn deadline(time: Duration) -> Instant {
    CALL.try_with(|call| call.deadline).unwrap_or_else(|_| Instant::now() + time)
}

/// Hands an answer up to the call; outside of one, nobody asks.
pub(crate) fn note(answer: Answer) {
    let _outside = CALL.try_with(|call| {
        *call.answer.lock().unwrap_or_else(PoisonError::into_inner) = answer;
    });
}

/// The two older forms of a date that are still to be read (RFC 9110, 5.6.7), both of UTC.
const OLD_DATES: [&str; 2] = ["%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];

/// Both forms of `Retry-After` (RFC 9110, 10.2.3): seconds from now, or a date.
fn retry_after(value: &str, now: Timestamp) -> Option<Timestamp> {
    let value = value.trim();
    if value.is_empty() {
        return None;
    }
    if value.bytes().all(|octet| octet.is_ascii_digit()) {
        let seconds = value.parse().unwrap_or(u64::MAX);
        return Some(later(now, std::time::Duration::from_secs(seconds)));
    }
    let old = |form| jiff::civil::DateTime::strptime(form, value).ok()?.to_zoned(TimeZone::UTC).ok();
    let today = DateTimeParser::new().parse_timestamp(value).ok();
    today.or_else(|| OLD_DATES.into_iter().find_map(old).map(|date| date.timestamp()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn now() -> Timestamp {
        "2026-10-21T07:28:00Z".parse().unwrap()
    }

    #[test]
    fn both_forms_of_retry_after_are_read() {
        let at = |text: &str| Some(text.parse::<Timestamp>().unwrap());
        assert_eq!(retry_after("120", now()), at("2026-10-21T07:30:00Z"));
        assert_eq!(retry_after(" 0 ", now()), at("2026-10-21T07:28:00Z"));
        assert_eq!(retry_after("Sunday, 06-Dec-26 08:49:37 GMT", now()), at("2026-12-06T08:49:37Z"));
        assert_eq!(retry_after("Sun Dec  6 08:49:37 2026", now()), at("2026-12-06T08:49:37Z"));
        assert_eq!(retry_after("Wed, 21 Oct 2026 08:00:00 GMT", now()), at("2026-10-21T08:00:00Z"));
        assert_eq!(retry_after("99999999999999999999999", now()), Some(Timestamp::MAX));
    }

    #[test]
    fn other_texts_are_no_retry_after() {
        for wrong in ["", "soon", "-1", "1.5", "Thu, 32 Oct 2026 08:00:00 GMT"] {
            assert_eq!(retry_after(wrong, now()), None, "{wrong:?} was read");
        }
    }

    #[tokio::test]
    async fn each_call_sees_its_own_answer() {
        let noted = |url: &str| Answer { url: url.to_owned(), ..Answer::default() };
        let act = |action, url: &'static str| {
            watched(action, Duration::from_secs(1), async move {
                note(noted(url));
                tokio::task::yield_now().await;
                self::action(&Method::POST)
            })
        };
        let (one, two) = tokio::join!(act(Action::NewOrder, "a"), act(Action::Finalize, "b"));
        assert_eq!((one.0, one.1.url.as_str()), (Action::NewOrder, "a"));
        assert_eq!((two.0, two.1.url.as_str()), (Action::Finalize, "b"));
    }

    proptest! {
        #[test]
        fn any_retry_after_is_read_or_ignored(text in "\\PC{0,40}|[0-9]{0,30}") {
            let _ = retry_after(&text, now());
        }
    }
}
