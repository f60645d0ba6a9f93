// SPDX-License-Identifier: Apache-2.0
//! The CA as the engine sees it: each act is a request on the wire, and each may fail in the ways that CAs fail.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cap_core::certificate::{Profile, RevocationReason};
use cap_core::clock::later;
use cap_core::limits;
use cap_core::name::Identifier;
use cap_core::order::{Authorization, CaAccount, CaError, Chain, Found, Placed, RemoteOrder, Reply, Seen};
use cap_core::problem::{Class, Problem};
use cap_core::renewal_info::{AriId, RenewalInfo};

use super::ca::{CaOrder, Check, Status};
use super::keys::Keys;
use super::tell::short;
use super::world::{Inner, Process, Travel, World, at};

/// A request to a CA, at most, when nothing is wrong.
const QUICK: Duration = Duration::from_millis(20);
/// Longer than any act on an order of ours may take.
const STALL: Duration = Duration::from_secs(120);
/// How long a replica of the CA may not know what another one was sent.
const LAG: Duration = Duration::from_secs(10);

/// How long the CA takes to issue, at most, when the storm is over.
const CALM_PROCESSING: Duration = Duration::from_secs(2);

/// The account, as one process uses it.
pub(super) struct Account {
    pub(super) world: Arc<World>,
    pub(super) process: Process,
    pub(super) keys: &'static Keys,
}

struct Remote {
    world: Arc<World>,
    process: Process,
    keys: &'static Keys,
    url: String,
}

fn problem(class: Class, kind: &str) -> Problem {
    Problem::new(class, kind, "said by the CA of the simulation")
}

/// How a request to the CA travels.
fn travel(inner: &mut Inner) -> Travel {
    let plan = inner.plan.ca;
    let mut quick = || inner.luck.between(Duration::ZERO, QUICK);
    let mut travel = Travel { arrives: Some(quick()), returns: Some(quick()), limit: limits::CA_REQUEST };
    if inner.strikes(plan.request_lost) {
        travel.arrives = None;
    } else if inner.strikes(plan.answer_lost) {
        travel.returns = None;
    } else if inner.strikes(plan.stalls) {
        travel.arrives = Some(inner.luck.between(Duration::ZERO, STALL));
        travel.limit = STALL;
    }
    if inner.luck.permille(500) && (travel.arrives.is_none() || travel.returns.is_none()) {
        // The connection is reset, which is noticed at once.
        travel.limit = QUICK * 2;
    }
    travel
}

/// What may be wrong with any request.
fn any_fault(inner: &mut Inner) -> Result<(), CaError> {
    let plan = inner.plan.ca;
    if inner.ca.is_out(inner.now) || inner.strikes(plan.transient) {
        return Err(CaError::Transient(problem(Class::Transient, "serverInternal")));
    }
    if inner.strikes(plan.later) {
        let at = later(inner.time(), inner.luck.between(Duration::ZERO, Duration::from_secs(600)));
        return Err(CaError::Later { problem: problem(Class::RateLimited, "rateLimited"), at });
    }
    Ok(())
}

/// What may be wrong with a question about an order; else its number.
fn ask(inner: &mut Inner, url: &str) -> Result<usize, CaError> {
    inner.ca_goes_on();
    any_fault(inner)?;
    if inner.strikes(inner.plan.ca.mute) {
        return Err(CaError::Refused(problem(Class::Configuration, "unauthorized")));
    }
    inner.ca.find(url).ok_or_else(|| CaError::Gone(problem(Class::Protocol, "malformed")))
}

fn seen(order: &CaOrder, now: Duration) -> Seen {
    if now < order.lags_until {
        return Seen::Ready;
    }
    match order.status {
        Status::Pending => Seen::Pending,
        Status::Ready => Seen::Ready,
        Status::Processing(..) => Seen::Processing,
        Status::Valid => Seen::Valid,
        Status::Invalid => Seen::Invalid(problem(Class::Validation, "orderInvalid")),
    }
}

/// An answer, sometimes with the wish not to be asked again at once.
fn reply<T>(inner: &mut Inner, said: T) -> Reply<T> {
    let asks = inner.strikes(inner.plan.ca.asks_for_time);
    let retry_at =
        asks.then(|| later(inner.time(), inner.luck.between(Duration::ZERO, Duration::from_secs(90))));
    Reply { said, retry_at }
}

fn place(
    inner: &mut Inner,
    names: &str,
    replaces: Option<AriId>,
) -> Result<(Placed, Option<Reply<Seen>>), CaError> {
    inner.ca_goes_on();
    any_fault(inner)?;
    let plan = inner.plan.ca;
    if plan.holds_a_grudge || inner.strikes(plan.refuses_order) {
        return Err(CaError::Refused(problem(Class::Validation, "rejectedIdentifier")));
    }
    if inner.strikes(plan.needs_person) {
        return Err(CaError::NeedsPerson(problem(Class::Configuration, "rateLimited")));
    }
    if let Some(replaces) = &replaces
        && (inner.ca.is_replaced(replaces) || inner.strikes(plan.refuses_replaces))
    {
        let kind = "urn:ietf:params:acme:error:alreadyReplaced";
        return Err(CaError::Refused(problem(Class::Protocol, kind)));
    }
    let (number, is_new) = inner.ca.place(names, replaces, inner.now, &mut inner.luck);
    if is_new {
        inner.tally.placed += 1;
    }
    let order = &inner.ca.orders[number];
    let (expires, said) = (plan.tells_expiry.then(|| at(order.expires)), seen(order, inner.now));
    let placed = Placed { url: format!("https://ca.example.test/order/{number}"), expires };
    let mumbles = inner.strikes(plan.mumbles);
    Ok((placed, (!mumbles).then(|| reply(inner, said))))
}

fn authorizations(inner: &mut Inner, url: &str) -> Result<Vec<Authorization>, CaError> {
    let number = ask(inner, url)?;
    let order = &inner.ca.orders[number];
    Ok(vec![match order.authorization {
        Check::Right => Authorization::Valid,
        Check::Wrong => Authorization::Unusable(problem(Class::Validation, "unauthorized")),
        Check::Open | Check::Running(..) => Authorization::Pending {
            token: order
                .token
                .clone()
                .try_into()
                .map_err(|_| CaError::Gone(problem(Class::Protocol, "token")))?,
            key_authorization: format!("{}.thumbprint", order.token),
        },
    }])
}

fn look(inner: &mut Inner, url: &str) -> Result<Reply<Seen>, CaError> {
    let number = ask(inner, url)?;
    let said = seen(&inner.ca.orders[number], inner.now);
    Ok(reply(inner, said))
}

fn submit(inner: &mut Inner, url: &str) -> Result<Reply<()>, CaError> {
    let number = ask(inner, url)?;
    let plan = inner.plan.ca;
    let fails = inner.strikes(plan.fails_validation);
    let until = match inner.strikes(plan.leaves_open) {
        true => Duration::MAX,
        false => inner.now + plan.validating,
    };
    let order = &mut inner.ca.orders[number];
    if order.status == Status::Pending && order.authorization == Check::Open {
        // The CA looks at once, and finds an answer if it was stored before it was told.
        let is_answered = inner.database.answers.contains(&order.token);
        order.authorization = Check::Running(until, is_answered && !fails);
        if !is_answered {
            inner.tally.unanswered += 1;
        }
    }
    Ok(reply(inner, ()))
}

fn withdraw(inner: &mut Inner, url: &str) -> Result<usize, CaError> {
    let number = ask(inner, url)?;
    let order = &mut inner.ca.orders[number];
    let is_open = order.status == Status::Pending;
    if is_open {
        order.status = Status::Invalid;
        inner.tally.withdrawn += 1;
    }
    Ok(usize::from(is_open))
}

fn finalize(inner: &mut Inner, url: &str, key: Option<usize>) -> Result<Reply<Seen>, CaError> {
    inner.tally.finalizes += 1;
    let number = ask(inner, url).map_err(|error| match error {
        // What it refuses to anybody it refuses here with a 403, which is how it says that the order is not ready.
        CaError::Refused(problem) => CaError::OutOfStep(problem),
        error => error,
    })?;
    let plan = inner.plan.ca;
    if inner.ca.orders[number].status != Status::Ready {
        return Err(CaError::OutOfStep(problem(Class::Protocol, "orderNotReady")));
    }
    if inner.strikes(plan.refuses_finalize) {
        inner.ca.orders[number].status = Status::Invalid;
        return Err(CaError::Refused(problem(Class::Protocol, "badCSR")));
    }
    let is_good = !inner.strikes(plan.fails_late);
    let is_wrong = is_good && inner.strikes(plan.wrong_certificate);
    let now = inner.now;
    // When the storm is over it does not take its time any more.
    let processing = if inner.is_stormy() { plan.processing } else { plan.processing.min(CALM_PROCESSING) };
    inner.ca.first_finalize.get_or_insert(now);
    let order = &mut inner.ca.orders[number];
    (order.key, order.is_wrong) = (key, is_wrong);
    order.status = Status::Processing(now + processing, is_good);
    if inner.strikes(plan.lags) {
        inner.ca.orders[number].lags_until = now + inner.luck.between(Duration::ZERO, LAG);
    }
    inner.ca_goes_on();
    let said = seen(&inner.ca.orders[number], now);
    Ok(reply(inner, said))
}

fn certificate(inner: &mut Inner, keys: &Keys, url: &str) -> Result<String, CaError> {
    let number = ask(inner, url)?;
    let order = &inner.ca.orders[number];
    match (order.status, order.key) {
        (Status::Valid, Some(key)) => Ok(keys.chain(if order.is_wrong { keys.other(key) } else { key })),
        _ => Err(CaError::OutOfStep(problem(Class::Protocol, "orderNotReady"))),
    }
}

impl Account {
    fn remote(&self, url: &str) -> Box<dyn RemoteOrder> {
        let (world, process, keys) = (self.world.clone(), self.process, self.keys);
        Box::new(Remote { world, process, keys, url: url.to_owned() })
    }
}

/// Sends a request to the CA; no answer is a passing fault.
async fn request<R: std::fmt::Debug + Send + 'static>(
    world: &Arc<World>,
    process: Process,
    what: &'static str,
    act: impl FnOnce(&mut Inner) -> Result<R, CaError> + Send + 'static,
) -> Result<R, CaError> {
    let act = move |inner: &mut Inner| {
        let result = act(inner);
        inner.note(|| format!("CA: {what} of process {process}: {}", short(&result)));
        result
    };
    match world.call(process, travel, act).await {
        Ok(result) => result,
        Err(_) => {
            let mut inner = world.inner();
            if what == "newOrder" {
                inner.tally.lost_orders += 1;
            }
            inner.note(|| format!("process {process} got no answer to {what}"));
            Err(CaError::Transient(problem(Class::Transient, "connection-lost")))
        }
    }
}

#[async_trait]
impl CaAccount for Account {
    async fn place(
        &self,
        names: &[Identifier],
        _profile: Option<&Profile>,
        replaces: Option<&AriId>,
    ) -> Result<(Placed, Option<Found>), CaError> {
        let names = names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let replaces = replaces.cloned();
        let (placed, said) =
            request(&self.world, self.process, "newOrder", move |inner| place(inner, &names, replaces))
                .await?;
        let found = said.map(|reply| (reply, self.remote(&placed.url)));
        Ok((placed, found))
    }

    async fn resume(&self, url: &str) -> Result<Found, CaError> {
        let mut remote = self.remote(url);
        let seen = remote.look().await?;
        Ok((seen, remote))
    }

    fn offers_renewal_info(&self) -> bool {
        self.world.inner().plan.ca.takes_replaces
    }

    async fn renewal_info(&self, _: &AriId) -> Result<RenewalInfo, CaError> {
        Err(CaError::Refused(problem(Class::Protocol, "no-renewal-info")))
    }

    /// Nor does anybody revoke here.
    async fn revoke(&self, _: &[u8], _: RevocationReason) -> Result<(), CaError> {
        Err(CaError::Refused(problem(Class::Protocol, "no-revocation")))
    }
}

impl Remote {
    async fn request<R: std::fmt::Debug + Send + 'static>(
        &self,
        what: &'static str,
        act: impl FnOnce(&mut Inner, &str) -> Result<R, CaError> + Send + 'static,
    ) -> Result<R, CaError> {
        let url = self.url.clone();
        request(&self.world, self.process, what, move |inner| act(inner, &url)).await
    }
}

#[async_trait]
impl RemoteOrder for Remote {
    async fn look(&mut self) -> Result<Reply<Seen>, CaError> {
        self.request("look", look).await
    }

    async fn authorizations(&mut self) -> Result<Reply<Vec<Authorization>>, CaError> {
        self.request("authorizations", |inner, url| authorizations(inner, url).map(Reply::from)).await
    }

    async fn submit(&mut self) -> Result<Reply<()>, CaError> {
        self.request("submit", submit).await
    }

    async fn withdraw(&mut self) -> Result<usize, CaError> {
        self.request("withdraw", withdraw).await
    }

    async fn finalize(&mut self, csr: &[u8]) -> Result<Reply<Seen>, CaError> {
        let key = self.keys.of_request(csr);
        self.request("finalize", move |inner, url| finalize(inner, url, key)).await
    }

    async fn certificate(&mut self) -> Result<Chain, CaError> {
        let keys = self.keys;
        let pem = self.request("certificate", move |inner, url| certificate(inner, keys, url)).await?;
        Ok(Chain { pem, alternates: Vec::new() })
    }

    /// This CA offers one chain.
    async fn alternate(&mut self, _: &str) -> Result<String, CaError> {
        Err(CaError::Gone(problem(Class::Protocol, "no-alternate")))
    }
}
