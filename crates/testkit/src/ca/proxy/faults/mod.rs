// SPDX-License-Identifier: Apache-2.0
//! The fault injector: outside the gate, so that nothing of it holds up the CA.
//!
//! Signed requests are not ours to change. A fault is an answer that is kept, changed, or made up.

mod answers;
mod orders;
mod rule;
mod wrong;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, LOCATION};
use http::{HeaderValue, Response, StatusCode};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

pub use rule::{Fault, FaultRule, Wrong};

use super::route::Route;
use orders::Orders;
use rule::Armed;

/// How a connection ends instead of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// Closed.
    Closed,
    /// Reset.
    Reset,
}

impl fmt::Display for Cut {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("the answer is lost on purpose")
    }
}

impl std::error::Error for Cut {}

/// One request, as far as faults care.
#[derive(Clone, Debug)]
pub(super) struct Asking {
    pub(super) route: Route,
    pub(super) names: Option<String>,
    pub(super) body: Bytes,
}

/// The rules at work, and what they did.
#[derive(Debug, Default)]
pub(super) struct Faults {
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    armed: Vec<Armed>,
    injected: BTreeMap<String, u64>,
    orders: Orders,
    /// Until when a set of names was told to wait with its next order.
    parked: HashMap<String, Timestamp>,
    too_early: u64,
}

impl Faults {
    /// Adds a rule. Of several that are about a request, the first one whose lot falls has it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn arm(&self, rule: FaultRule) -> Result<(), String> {
        rule.check()?;
        self.book().armed.push(Armed::new(rule));
        Ok(())
    }

    /// Takes every rule away; orders that were held say the truth again.
    pub(super) fn disarm(&self) {
        let mut book = self.book();
        book.armed.clear();
        book.orders.release();
    }

    /// The rules at work.
    pub(super) fn rules(&self) -> Vec<FaultRule> {
        self.book().armed.iter().map(|armed| armed.rule().clone()).collect()
    }

    /// What was injected, by kind, and how many orders were asked for too early.
    pub(super) fn counts(&self) -> (BTreeMap<String, u64>, u64) {
        let book = self.book();
        (book.injected.clone(), book.too_early)
    }

    /// Learns from a true answer.
    pub(super) fn learn(&self, asking: &Asking, status: StatusCode, location: Option<&str>, answer: &Value) {
        self.book().orders.learn(&asking.route, &asking.body, status, location, answer);
    }

    /// Which fault this request gets.
    pub(super) fn draw(&self, asking: &Asking) -> Option<Fault> {
        let mut book = self.book();
        let Book { armed, injected, orders, .. } = &mut *book;
        let names = asking.names.as_deref();
        for armed in armed {
            let fault = &armed.rule().fault;
            // Without an order there is none to share, to refuse a look at, to hold up or to fail.
            let is_possible = match fault {
                Fault::SharedOrder => orders.open_for(&asking.body).is_some(),
                Fault::Refused => orders.was_finalized(&asking.route),
                Fault::Processing { .. } | Fault::LateFailure => orders.of_finalize(&asking.route).is_some(),
                _ => true,
            };
            if is_possible && armed.aims_at(asking.route.asked(), names) && armed.falls(names) {
                let fault = armed.rule().fault.clone();
                *injected.entry(fault.kind().to_owned()).or_default() += 1;
                return Some(fault);
            }
        }
        None
    }

    /// Takes note of an order that is asked for although its names were told to wait.
    pub(super) fn note_time(&self, asking: &Asking) {
        let (Route::NewOrder, Some(names)) = (&asking.route, &asking.names) else { return };
        let mut book = self.book();
        if book.parked.get(names).is_some_and(|until| now() < *until) {
            book.too_early += 1;
        }
    }

    /// A finalize of an order that failed late is refused: the CA, which knows nothing of it, is not asked.
    pub(super) fn refuse(&self, asking: &Asking) -> Option<Response<Bytes>> {
        let book = self.book();
        let order = book.orders.of_finalize(&asking.route)?;
        book.orders.has_failed(order).then(|| {
            let nonce = answers::unused_nonce(&asking.body);
            answers::problem(StatusCode::FORBIDDEN, "orderNotReady", "the order is invalid", nonce)
        })
    }

    /// Puts into a true answer what its order says instead.
    pub(super) fn distort(&self, asking: &Asking, answer: Response<Bytes>) -> Response<Bytes> {
        if answer.status() != StatusCode::OK {
            return answer;
        }
        let Ok(mut json) = serde_json::from_slice::<Value>(answer.body()) else { return answer };
        if !self.book().orders.distort(&asking.route, &mut json) {
            return answer;
        }
        with_body(answer, json.to_string())
    }

    /// Says this in the place of what the CA would have: of the faults, those that do not ask it.
    fn instead(&self, fault: &Fault, asking: &Asking) -> Option<Response<Bytes>> {
        let nonce = answers::unused_nonce(&asking.body);
        let answer = match fault {
            Fault::BadNonce => {
                answers::problem(StatusCode::BAD_REQUEST, "badNonce", "the nonce is refused", nonce)
            }
            Fault::RateLimited { retry_after_s, as_date } => {
                self.rate_limited(asking, *retry_after_s, *as_date, nonce)
            }
            Fault::Refused => answers::problem(
                StatusCode::FORBIDDEN,
                "unauthorized",
                "this account may not ask that now",
                nonce,
            ),
            Fault::ServerError { status, acts: false } => server_error(*status, nonce),
            Fault::Unvalidated => answers::challenge(nonce),
            Fault::LateFailure => {
                let mut book = self.book();
                let order = book.orders.of_finalize(&asking.route)?.to_owned();
                answers::order(StatusCode::OK, &book.orders.fail(&order)?, nonce)
            }
            Fault::SharedOrder => {
                answers::order(StatusCode::CREATED, self.book().orders.open_for(&asking.body)?, nonce)
            }
            Fault::LostResponse
            | Fault::Reset
            | Fault::ServerError { acts: true, .. }
            | Fault::Stall { .. }
            | Fault::Processing { .. }
            | Fault::WrongCertificate { .. } => return None,
        };
        Some(answer)
    }

    fn rate_limited(
        &self,
        asking: &Asking,
        seconds: u32,
        as_date: bool,
        nonce: Option<HeaderValue>,
    ) -> Response<Bytes> {
        let mut at = now() + SignedDuration::from_secs(seconds.into());
        if as_date {
            at = Timestamp::from_second(at.as_second()).unwrap_or(at);
        }
        if let (Route::NewOrder, Some(names)) = (&asking.route, &asking.names) {
            self.book().parked.insert(names.clone(), at);
        }
        let status = StatusCode::TOO_MANY_REQUESTS;
        let mut answer = answers::problem(status, "rateLimited", "too many requests", nonce);
        answers::retry_after(answer.headers_mut(), at, seconds, as_date);
        answer
    }

    fn hold(&self, asking: &Asking, looks: u32) {
        let mut book = self.book();
        if let Some(order) = book.orders.of_finalize(&asking.route).map(str::to_owned) {
            book.orders.hold(&order, looks);
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers a request in the way of this fault. `ask` asks the CA.
pub(super) async fn inject(
    faults: &Faults,
    fault: &Fault,
    asking: &Asking,
    ask: impl Future<Output = Response<Bytes>>,
) -> Result<Response<Bytes>, Cut> {
    if let Some(answer) = faults.instead(fault, asking) {
        return Ok(answer);
    }
    // Before the CA is asked: it may be looked at as soon as it has acted.
    if let Fault::Processing { looks } = fault {
        faults.hold(asking, *looks);
    }
    let answer = ask.await;
    match fault {
        Fault::LostResponse => Err(Cut::Closed),
        Fault::Reset => Err(Cut::Reset),
        Fault::ServerError { status, .. } => {
            Ok(server_error(*status, answer.headers().get(answers::REPLAY_NONCE).cloned()))
        }
        Fault::Stall { ms } => {
            tokio::time::sleep(Duration::from_millis(*ms)).await;
            Ok(faults.distort(asking, answer))
        }
        Fault::WrongCertificate { wrong } if answer.status() == StatusCode::OK => {
            Ok(match wrong::instead_of(answer.body(), *wrong) {
                Ok(chain) => with_body(answer, chain),
                Err(error) => {
                    let detail = format!("no wrong certificate could be made: {error:#}");
                    answers::problem(StatusCode::INTERNAL_SERVER_ERROR, "serverInternal", &detail, None)
                }
            })
        }
        Fault::Processing { .. }
        | Fault::WrongCertificate { .. }
        | Fault::BadNonce
        | Fault::RateLimited { .. }
        | Fault::Refused
        | Fault::Unvalidated
        | Fault::LateFailure
        | Fault::SharedOrder => Ok(faults.distort(asking, answer)),
    }
}

#[expect(clippy::disallowed_methods, reason = "the proxy speaks for a CA, whose clock is its host's")]
fn now() -> Timestamp {
    Timestamp::now()
}

/// A CA says 500 in its own words; what is 502 or 503 comes from a gateway.
fn server_error(status: u16, nonce: Option<HeaderValue>) -> Response<Bytes> {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if status == StatusCode::INTERNAL_SERVER_ERROR {
        answers::problem(status, "serverInternal", "something is wrong with the CA", nonce)
    } else {
        answers::gateway(status, nonce)
    }
}

fn with_body(answer: Response<Bytes>, body: String) -> Response<Bytes> {
    let (mut parts, _) = answer.into_parts();
    parts.headers.remove(CONTENT_LENGTH);
    Response::from_parts(parts, Bytes::from(body))
}

/// The `Location` of an answer.
pub(super) fn location(answer: &http::response::Parts) -> Option<&str> {
    answer.headers.get(LOCATION).and_then(|value| value.to_str().ok())
}
