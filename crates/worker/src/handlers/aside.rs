// SPDX-License-Identifier: Apache-2.0
//! Orders that the CA processes, or says nothing of, for longer than their certificate can wait (ADR 13): they are set aside and
//! another one is placed. Whoever goes on with the certificate looks at them first, so that what the CA issued after all is not bought again.

use std::time::Duration;

use cap_core::audit::{Action, Draft, Origin};
use cap_core::fault;
use cap_core::id::OrderId;
use cap_core::job::{Claim, Mandate, Settlement};
use cap_core::limits;
use cap_core::order::{
    CaAccount, CaError, Order, OrderState, Outcome, Seen, may_issue, overdue_at, unheard_at,
};
use cap_core::problem::{Class, Problem};
use cap_store::{CertificateRecord, IssuerRecord};
use jiff::Timestamp;

use super::{Stop, Trouble, World};

/// What a run goes on with.
#[derive(Default)]
pub(super) struct Reviewed {
    pub(super) in_flight: Option<Order>,
    /// The URLs of orders that are still watched, and looked at before another one is finalized.
    pub(super) urls: Vec<String>,
    /// Whether anything is watched: these, or an order that cannot come back while another certificate buys the same names.
    pub(super) is_watching: bool,
}

impl Reviewed {
    /// An order beside which nothing that is watched matters now.
    fn just(order: Order) -> Self {
        Self { in_flight: Some(order), ..Self::default() }
    }
}

/// One run's look at what was set aside, or is to be.
pub(super) struct Aside<'a> {
    pub(super) world: &'a World,
    pub(super) claim: &'a Claim,
    pub(super) mandate: &'a Mandate,
    pub(super) certificate: &'a CertificateRecord,
}

impl Aside<'_> {
    /// What to go on with, `in_flight` if nothing speaks against it. The CA is asked only where there is something to ask.
    pub(super) async fn review(
        &self,
        issuer: &IssuerRecord,
        account_url: &str,
        in_flight: Option<Order>,
    ) -> Result<Reviewed, Stop> {
        let now = self.world.clock.surely();
        let may_issue = in_flight.as_ref().is_some_and(|order| may_issue(&order.state, now));
        let is_overdue = may_issue && in_flight.as_ref().is_some_and(|order| self.is_overdue(order));
        // While the CA issues in time for the order in flight, nobody needs the others.
        let looks_back = (!may_issue || is_overdue) && !self.certificate.watched.is_empty();
        if !is_overdue && !looks_back {
            return Ok(Reviewed { in_flight, ..Reviewed::default() });
        }
        let request = self.world.ca_request(issuer).await?;
        let account = match self.world.ca.account(&request, account_url).await {
            Ok(account) => account,
            // What was set aside is asked for before anything is placed beside it; an order in flight goes on meanwhile.
            Err(error) if !may_issue => {
                return Err(Stop::settled(self.world.passing(self.claim, error, self.expires())));
            }
            Err(_) => return Ok(Reviewed { in_flight, ..Reviewed::default() }),
        };
        let reviewing = async {
            match in_flight {
                Some(order) if is_overdue => self.overdue(order, account.as_ref()).await,
                in_flight => Ok(self.look_back(in_flight, account.as_ref()).await?),
            }
        };
        tokio::select! {
            reviewed = reviewing => reviewed,
            outcome = self.world.ended(self.mandate) => Err(Stop::end(outcome)),
        }
    }

    fn is_overdue(&self, order: &Order) -> bool {
        let OrderState::Ready { since, .. } = &order.state else { return false };
        self.world.clock.surely() >= overdue_at(*since, self.expires())
    }

    /// Whether one more may be watched.
    fn has_room(&self) -> bool {
        self.certificate.watched.len() < limits::WATCHED_ORDERS
    }

    fn expires(&self) -> Option<Timestamp> {
        self.certificate.version.as_ref().map(|version| version.not_after)
    }

    /// What to go on with instead of an order that is overdue: itself where the CA has issued, one that was set aside where it has issued for
    /// that, and another one where it is stuck with this.
    async fn overdue(&self, order: Order, account: &dyn CaAccount) -> Result<Reviewed, Stop> {
        let OrderState::Ready { placed, .. } = &order.state else { return Ok(Reviewed::just(order)) };
        let said = account.resume(&placed.url).await.map(|(reply, _)| reply.said);
        if said == Ok(Seen::Valid) {
            return Ok(Reviewed::just(order));
        }
        let id = order.id;
        let reviewed = self.look_back(Some(order), account).await?;
        // One that is the last is waited for: no other one is placed.
        let is_stuck = |order: &Order| order.id == id && self.has_room() && !self.claim.is_last;
        match reviewed.in_flight {
            Some(order) if is_stuck(&order) => self.set_aside(order, said).await,
            in_flight => Ok(Reviewed { in_flight, ..reviewed }),
        }
    }

    /// Only what the CA says that it processes, and much later what it does not say anything of, whatever it answers instead: one that
    /// waits for something else, it may hand out again to whoever orders the same names, and of one that is gone the engine sees to it.
    async fn set_aside(&self, order: Order, said: Result<Seen, CaError>) -> Result<Reviewed, Stop> {
        let (world, OrderState::Ready { placed, since }) = (self.world, &order.state) else {
            return Ok(Reviewed::just(order));
        };
        let is_unheard = world.clock.surely() >= unheard_at(*since, self.expires());
        let why = match said {
            Ok(Seen::Processing) => "has been processing the order",
            Ok(_) | Err(CaError::Gone(_)) => return Ok(Reviewed::just(order)),
            Err(_) if is_unheard => "does not say what became of the order that it got",
            Err(_) => return Ok(Reviewed::just(order)),
        };
        let detail = format!(
            "the CA {why} since {since}, which is longer than the certificate can wait; it stays watched, and another one is \
             placed"
        );
        let problem = Problem::new(Class::Transient, "order-overdue", detail);
        let draft = Draft::new(Action::CertificateAttemptFailed, Some(order.project), order.certificate)
            .failed()
            .names(&order.names)
            .detail("problem", problem.kind.clone())
            .detail("order_url", placed.url.clone());
        let audit = world.auditor.row(&Origin::service("worker"), &draft).await?;
        let again = Settlement::after(Duration::ZERO, Some(problem.clone()));
        let write = || world.store.set_aside(self.claim, &order, &again, world.clock.now(), &audit);
        fault::point("set-aside.before");
        world.persisted(self.mandate, write).await?;
        fault::point("set-aside.after");
        Err(Stop::end(Outcome::Failed(problem)))
    }

    /// What the CA has issued for after all is the order to go on with, and `in_flight` otherwise, beside those that are still watched.
    async fn look_back(
        &self,
        in_flight: Option<Order>,
        account: &dyn CaAccount,
    ) -> Result<Reviewed, Trouble> {
        let World { store, clock, .. } = self.world;
        let (mut urls, mut is_watching) = (Vec::new(), false);
        let made_for = self.certificate.version.as_ref().map(|version| version.id);
        for id in &self.certificate.watched {
            let order = store.order(*id).await?.filter(|order| order.made_for == made_for);
            let Some((order, url)) = order.as_ref().and_then(watched) else {
                self.end_watch(*id, None).await?;
                continue;
            };
            match account.resume(url).await.map(|(reply, _)| reply.said) {
                Ok(Seen::Valid) => {
                    fault::point("take-back.before");
                    let taken = store.take_back(self.claim, order, in_flight.as_ref(), clock.now()).await?;
                    fault::point("take-back.after");
                    if let Some(order) = taken {
                        tracing::info!(order = %order.id, "the CA has issued for an order that was set aside");
                        return Ok(Reviewed::just(order));
                    }
                    is_watching = true;
                }
                Ok(Seen::Invalid(problem)) | Err(CaError::Gone(problem)) => {
                    self.end_watch(*id, Some((order, &problem))).await?;
                }
                Ok(_) | Err(_) if !may_issue(&order.state, clock.surely()) => {
                    let detail = "the CA did not finish the order before it expired";
                    let problem = Problem::new(Class::Protocol, "order-expired", detail);
                    self.end_watch(*id, Some((order, &problem))).await?;
                }
                Ok(_) | Err(_) => urls.push(url.to_owned()),
            }
        }
        is_watching |= !urls.is_empty();
        Ok(Reviewed { in_flight, urls, is_watching })
    }

    async fn end_watch(&self, id: OrderId, order: Option<(&Order, &Problem)>) -> Result<(), Trouble> {
        let World { store, clock, .. } = self.world;
        fault::point("end-watch.before");
        store.end_watch(self.claim, self.certificate.id, id, order, clock.now()).await?;
        fault::point("end-watch.after");
        Ok(())
    }
}

/// The order and its URL, if the CA may issue for it.
fn watched(order: &Order) -> Option<(&Order, &str)> {
    match &order.state {
        OrderState::Ready { placed, .. } => Some((order, &placed.url)),
        OrderState::Keyed { .. }
        | OrderState::Ordered { .. }
        | OrderState::Challenged { .. }
        | OrderState::Stored { .. }
        | OrderState::Failed { .. } => None,
    }
}
