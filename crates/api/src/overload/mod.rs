// SPDX-License-Identifier: Apache-2.0
//! What a replica takes on: so much from each caller, so much from all of them, and the rest is refused at once, with the
//! time after which it is worth another try. docs/adr/0008-overload.md has the sums.

mod answers;
mod asker;
mod bucket;
mod known;
mod lists;
mod refuse;
mod share;
pub(crate) mod waiting;

use std::net::IpAddr;
use std::time::Duration;

use axum::extract::Request;
use axum::http::Method;
use axum::response::Response;
use cap_runtime::config::{ApiLimits, Network};

use crate::app::App;
use crate::problem::{ApiError, OVERLOADED, RATE_LIMITED, TOO_MANY_AT_ONCE, TOO_MANY_FAILURES};

pub(crate) use asker::{Asker, Who};
use bucket::{Buckets, Rate};
use known::Known;
use lists::{LISTS, Lists, Turn};
pub(crate) use refuse::{REASONS, Reason};
pub(crate) use share::Share;
use share::{Full, Shares};
use waiting::Waiting;

/// Octets of bodies in memory, of all requests.
const BODIES_OCTETS: usize = 64 * 1024 * 1024;
/// Octets of answers in memory, of all that are made and not yet taken.
const ANSWERS_OCTETS: usize = 64 * 1024 * 1024;
/// What one caller may have of each of these: with four of them misbehaving at once, a fifth is refused.
const CALLERS: usize = 4;
/// What is asked for again after a second will mostly be there.
const SOON: Duration = Duration::from_secs(1);

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// What a replica takes on.
#[derive(Debug)]
pub struct Overload {
    /// How long a body may take.
    pub(crate) body: Duration,
    trusted_proxies: Vec<Network>,
    fingerprints: asker::Fingerprints,
    known: Known,
    per_token: Option<Buckets<u64>>,
    per_address: Option<Buckets<IpAddr>>,
    failures: Option<Buckets<IpAddr>>,
    places: Shares,
    bodies: Shares,
    answers: Shares,
    lists: Lists,
    list_shares: Shares,
    waiting: Waiting,
}

impl Overload {
    /// With these limits for each caller.
    #[must_use]
    pub fn new(limits: &ApiLimits) -> Self {
        let twice = |rate: u32| rate.saturating_mul(2);
        let second = |many| Rate::new(many, SECOND, twice(many));
        Self {
            body: limits.body,
            trusted_proxies: limits.trusted_proxies.clone(),
            fingerprints: asker::Fingerprints::default(),
            known: Known::default(),
            per_token: second(limits.per_token).map(Buckets::new),
            per_address: second(limits.per_address).map(Buckets::new),
            failures: Rate::new(limits.failures, MINUTE, limits.failures).map(Buckets::new),
            places: Shares::new(limits.places, limits.places / CALLERS),
            bodies: Shares::new(BODIES_OCTETS, BODIES_OCTETS / CALLERS),
            answers: Shares::new(ANSWERS_OCTETS, ANSWERS_OCTETS / CALLERS),
            lists: Lists::new(),
            list_shares: Shares::new(limits.places.max(LISTS), LISTS / CALLERS),
            waiting: Waiting::new(limits.waiting),
        }
    }

    /// Who asks.
    pub(crate) fn asker(&self, request: &Request, now: Duration) -> Asker {
        let address = asker::address(request, &self.trusted_proxies);
        let network = asker::network(address);
        let token = self.fingerprints.of(request.headers());
        let known = token.filter(|token| self.known.has(*token, now));
        Asker { address, network, token, who: known.map_or(Who::Address(network), Who::Token) }
    }
}

impl App {
    /// A place for a request, within its caller's rate and share.
    pub(crate) fn admit(&self, asker: &Asker) -> Result<Share, ApiError> {
        let (now, overload) = (self.clock.boottime(), &self.overload);
        let within = match asker.who {
            Who::Token(token) => overload.per_token.as_ref().map_or(Ok(()), |rate| rate.take(token, now)),
            Who::Address(at) => overload.per_address.as_ref().map_or(Ok(()), |rate| rate.take(at, now)),
        };
        within.map_err(|wait| match asker.who {
            Who::Token(_) => {
                let detail = "this token asks for more than it may in a second; send fewer requests";
                self.shed(Reason::TokenRate, RATE_LIMITED, detail, wait)
            }
            Who::Address(_) => {
                let detail = "more is asked for from this address, by callers that are not known here, than may be \
                              in a second; send fewer requests";
                self.shed(Reason::AddressRate, RATE_LIMITED, detail, wait)
            }
        })?;
        overload.places.take(asker.who, 1).map_err(|full| match full {
            Full::Own => {
                let detail = format!(
                    "{} requests of this caller are being answered, as many as may be at once; wait for their answers",
                    overload.places.each
                );
                self.shed(Reason::Share, TOO_MANY_AT_ONCE, detail, SOON)
            }
            Full::All => {
                let detail = "this replica answers as many requests as it can hold; try again soon";
                self.shed(Reason::Places, OVERLOADED, detail, SOON)
            }
        })
    }

    /// Refuses a token that was not good lately where the address has shown too many that are none. The look takes nothing, so
    /// requests that are under way together may all pass it: as many as have places.
    pub(crate) fn may_try(&self, asker: &Asker) -> Result<(), ApiError> {
        if matches!(asker.who, Who::Token(_)) {
            return Ok(());
        }
        let Some(failures) = &self.overload.failures else { return Ok(()) };
        failures.look(&asker.network, self.clock.boottime()).map_err(|wait| {
            let detail = "too many tokens from this address were refused, so those that were not good here lately are not \
                          looked at for a while; use a valid token, and try again later";
            self.shed(Reason::Failures, TOO_MANY_FAILURES, detail, wait)
        })
    }

    /// Notes how it went with a token that was looked up.
    pub(crate) fn tried(&self, asker: &Asker, good: bool) {
        let (now, overload) = (self.clock.boottime(), &self.overload);
        let Some(token) = asker.token else { return };
        if good {
            overload.known.add(token, now);
            return;
        }
        overload.known.remove(token);
        let Some(failures) = &overload.failures else { return };
        // Beyond the limit nothing is taken, and nothing need be.
        let _ = failures.take(asker.network, now);
        // Once for each token that the limit lets through from then on, and not for each that is refused.
        if failures.look(&asker.network, now).is_err() {
            tracing::warn!(address = %asker.address, "an address shows too many tokens that are none");
        }
    }

    /// Room in memory for so many octets of a body.
    pub(crate) fn room_for_body(&self, who: Who, octets: usize) -> Result<Share, ApiError> {
        self.overload.bodies.take(who, octets).map_err(|full| self.no_room(Reason::Bodies, full, "bodies"))
    }

    /// A list's turn, and the place that it takes of its caller's; nothing for what is no list.
    pub(crate) async fn turn(
        &self,
        who: Who,
        method: &Method,
        route: &str,
    ) -> Result<Option<(Share, Turn<'_>)>, ApiError> {
        if !lists::is_list(method, route) {
            return Ok(None);
        }
        // Those that wait are counted as well, or one caller's would stand before everybody else's.
        let share = self.overload.list_shares.take(who, 1).map_err(|_| {
            let detail = format!(
                "{} lists of this caller are being read, as many as may be at once; wait for their answers",
                self.overload.list_shares.each
            );
            self.shed(Reason::Lists, TOO_MANY_AT_ONCE, detail, SOON)
        })?;
        let turn = self.overload.lists.turn(self.clock.as_ref()).await.ok_or_else(|| {
            let detail = "as many lists are being read as may be at once, and none ended within a second; try again soon";
            self.shed(Reason::Lists, OVERLOADED, detail, SOON)
        })?;
        Ok(Some((share, turn)))
    }

    /// Counts a large answer until the peer has taken it. The answer to a change is never refused: the change is made.
    pub(crate) async fn hold_answer(
        &self,
        who: Who,
        reads: bool,
        response: Response,
    ) -> Result<Response, ApiError> {
        match answers::hold(&self.overload.answers, who, reads, response).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(full)) => Err(self.no_room(Reason::Answers, full, "answers")),
            Err(error) => Err(ApiError::internal(error)),
        }
    }

    fn no_room(&self, reason: Reason, full: Full, what: &str) -> ApiError {
        match full {
            Full::Own => {
                let detail = format!(
                    "the {what} of this caller's requests take as much memory as they may; wait for their end"
                );
                self.shed(reason, TOO_MANY_AT_ONCE, detail, SOON)
            }
            Full::All => {
                let detail =
                    format!("{what} take as much memory as they may on this replica; try again soon");
                self.shed(reason, OVERLOADED, detail, SOON)
            }
        }
    }
}
