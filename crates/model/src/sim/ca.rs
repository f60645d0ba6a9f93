// SPDX-License-Identifier: Apache-2.0
//! A CA in memory (RFC 8555): what it remembers of its orders, and how they go on by themselves.

use std::time::Duration;

use cap_core::renewal_info::AriId;

use super::luck::Luck;
use super::plan::CaPlan;

/// The CA's orders, by number.
#[derive(Debug)]
pub(super) struct Ca {
    pub(super) plan: CaPlan,
    pub(super) orders: Vec<CaOrder>,
    /// When the first signing request came.
    pub(super) first_finalize: Option<Duration>,
}

#[derive(Debug, Clone)]
pub(super) struct CaOrder {
    pub(super) names: String,
    pub(super) token: String,
    pub(super) authorization: Check,
    pub(super) status: Status,
    pub(super) expires: Duration,
    /// The key of the signing request that it took.
    pub(super) key: Option<usize>,
    /// Whether the certificate is for another key.
    pub(super) is_wrong: bool,
    /// The certificate that it replaces.
    pub(super) replaces: Option<AriId>,
    /// Until when replicas of the CA do not know that it was finalized.
    pub(super) lags_until: Duration,
}

/// How an authorization is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    Open,
    /// The CA looks at the answer until then, and whether it will find it right.
    Running(Duration, bool),
    Right,
    Wrong,
}

/// How an order is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Pending,
    Ready,
    /// Until then, and whether it ends with a certificate.
    Processing(Duration, bool),
    Valid,
    Invalid,
}

impl Ca {
    pub(super) fn new(plan: CaPlan) -> Self {
        Self { plan, orders: Vec::new(), first_finalize: None }
    }

    /// What has happened by itself until `now`. Answers the orders that a certificate was issued for.
    pub(super) fn go_on(&mut self, now: Duration) -> Vec<usize> {
        let mut issued = Vec::new();
        for (number, order) in self.orders.iter_mut().enumerate() {
            if let Check::Running(until, is_right) = order.authorization
                && until <= now
            {
                order.authorization = if is_right { Check::Right } else { Check::Wrong };
            }
            order.status = match (order.status, order.authorization) {
                (Status::Pending | Status::Ready, _) if order.expires <= now => Status::Invalid,
                (Status::Pending, Check::Right) => Status::Ready,
                (Status::Pending, Check::Wrong) => Status::Invalid,
                // What it has not issued when the order expires, it never issues.
                (Status::Processing(until, _), _) if order.expires <= until.min(now) => Status::Invalid,
                (Status::Processing(until, false), _) if until <= now => Status::Invalid,
                (Status::Processing(until, true), _) if until <= now => {
                    issued.push(number);
                    Status::Valid
                }
                (status, _) => status,
            };
        }
        issued
    }

    /// An order for these names: a new one, or the one that is open.
    pub(super) fn place(
        &mut self,
        names: &str,
        replaces: Option<AriId>,
        now: Duration,
        luck: &mut Luck,
    ) -> (usize, bool) {
        let is_open =
            |order: &CaOrder| order.names == names && matches!(order.status, Status::Pending | Status::Ready);
        if self.plan.reuses_orders
            && let Some(number) = self.orders.iter().position(is_open)
        {
            return (number, false);
        }
        let is_authorized = luck.permille(self.plan.authorized);
        let (authorization, status) =
            if is_authorized { (Check::Right, Status::Ready) } else { (Check::Open, Status::Pending) };
        let number = self.orders.len();
        self.orders.push(CaOrder {
            names: names.to_owned(),
            token: format!("token-{number}"),
            authorization,
            status,
            expires: now + self.plan.life,
            key: None,
            is_wrong: false,
            replaces,
            lags_until: Duration::ZERO,
        });
        (number, true)
    }

    /// Whether another order that is not over replaces the same certificate (RFC 9773, 5).
    pub(super) fn is_replaced(&self, replaces: &AriId) -> bool {
        let is_it = |order: &CaOrder| order.replaces.as_ref() == Some(replaces);
        self.orders.iter().any(|order| is_it(order) && order.status != Status::Invalid)
    }

    /// The order at `url`, unless it is over and forgotten.
    pub(super) fn find(&self, url: &str) -> Option<usize> {
        let number = number_of(url)?;
        let order = self.orders.get(number)?;
        let is_gone = self.plan.forgets && order.status == Status::Invalid;
        (!is_gone).then_some(number)
    }

    /// Whether it answers nobody.
    pub(super) fn is_out(&self, now: Duration) -> bool {
        let Some((after, lasts)) = self.plan.outage else { return false };
        self.first_finalize.is_some_and(|first| (first + after..first + after + lasts).contains(&now))
    }
}

/// The number of the order at `url`.
pub(super) fn number_of(url: &str) -> Option<usize> {
    url.rsplit('/').next()?.parse().ok()
}
