// SPDX-License-Identifier: Apache-2.0
//! Orders that are set aside. They hold no lock, so that another one for the same names can be placed; the certificate names
//! them in `watched` until the CA has said what became of them, or a version is stored. None is kept for longer than the CA may issue for it.

use bson::doc;
use cap_core::audit::Row;
use cap_core::id::{CertificateId, OrderId};
use cap_core::job::{Claim, Settlement};
use cap_core::order::{Order, OrderState, watched_until};
use cap_core::problem::{Class, Problem};
use jiff::Timestamp;

use super::{certificate_filter, fenced};
use crate::Store;
use crate::document::{bson, date};
use crate::error::StoreError;
use crate::fact::Fact;

impl Store {
    /// Sets an order aside, and has the job run again as `settlement` says.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when order, certificate or job are not the claim's any more.
    pub async fn set_aside(
        &self,
        claim: &Claim,
        order: &Order,
        settlement: &Settlement,
        now: Timestamp,
        audit: &Row,
    ) -> Result<(), StoreError> {
        let aside = aside(order, watched_until(&order.state).unwrap_or(now));
        let mut certificate = certificate_filter(order, claim.fence);
        certificate.insert("order", order.id.to_string());
        let change = doc! {
            "$set": { "order": null, "updated_at": date(now), "last_event": audit.event.to_string() },
            "$push": { "watched": order.id.to_string() },
        };
        let fact = Fact::new("set an order aside")
            .must("orders", fenced(order), aside)
            .must("certificates", certificate, change)
            .settling(claim, settlement, now)?
            .audited(audit);
        self.write(fact).await
    }

    /// Makes an order that was set aside the one in flight again, in the place of `other`: one that the CA may issue for is set aside
    /// for it, and any other one ends. Nothing where another certificate is buying the same names.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when something of it is not the claim's any more.
    pub async fn take_back(
        &self,
        claim: &Claim,
        order: &Order,
        other: Option<&Order>,
        now: Timestamp,
    ) -> Result<Option<Order>, StoreError> {
        let mut fact = Fact::new("take an order back").progressing(claim);
        let is_other = doc! { "$ne": ["$$this", order.id.to_string()] };
        let mut watched = doc! { "$filter": { "input": "$watched", "cond": is_other } };
        if let Some(other) = other {
            // Its lock is free before the other one takes it.
            fact = match watched_until(&other.state).filter(|until| *until > now) {
                Some(until) => {
                    watched = doc! { "$concatArrays": [watched, [other.id.to_string()]] };
                    fact.must("orders", fenced(other), aside(other, until))
                }
                None => {
                    let detail = "the CA has issued for an earlier order after all";
                    let problem = Problem::new(Class::Protocol, "order-superseded", detail);
                    let over = OrderState::Failed { placed: other.state.placed().cloned(), problem };
                    fact.ending_order(other, &over, now, self.retention.orders)?.uncounted(other)
                }
            };
        }
        let revision = order.revision + 1;
        let change = doc! {
            "$set": { "live": true, "fence": claim.fence, "revision": revision }, "$unset": { "expire_at": "" },
        };
        let own = vec![doc! { "$set": { "order": order.id.to_string(), "watched": watched } }];
        let fact = fact.must("orders", set_aside(order), change).must(
            "certificates",
            certificate_filter(order, claim.fence),
            own,
        );
        match self.write(fact).await {
            Ok(()) => Ok(Some(Order { fence: claim.fence, revision, ..order.clone() })),
            Err(StoreError::Conflict { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Ends an order that nobody wants any more and the CA cannot have issued for. Answers whether it did: not where somebody asked for
    /// the renewal since it was claimed.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn end_unwanted(
        &self,
        claim: &Claim,
        order: &Order,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let fact = Fact::new("end an order that nobody wants").still_last(claim).progressing(claim);
        match self.write(self.ending_cancelled(fact, Some(order), now)?).await {
            Ok(()) => Ok(true),
            Err(StoreError::Fenced) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Watches an order no more: nothing comes of it, because of `problem`; or it is gone.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when the certificate is not the claim's any more.
    pub async fn end_watch(
        &self,
        claim: &Claim,
        certificate: CertificateId,
        id: OrderId,
        order: Option<(&Order, &Problem)>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut fact = Fact::new("watch an order no more").progressing(claim);
        if let Some((order, problem)) = order {
            let state =
                OrderState::Failed { placed: order.state.placed().cloned(), problem: problem.clone() };
            let wiped = bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: vec![] };
            let over = doc! { "$set": {
                "state": bson("orders", &state)?, "revision": order.revision + 1, "key.sealed.ct": wiped,
                "expire_at": date(cap_core::clock::later(now, self.retention.orders)),
            } };
            fact = fact.may("orders", set_aside(order), over);
        }
        let own = doc! { "_id": certificate.to_string(), "fence": { "$lte": claim.fence } };
        let fact = fact.must("certificates", own, doc! { "$pull": { "watched": id.to_string() } });
        self.write(fact).await
    }
}

/// What sets an order aside that the CA may issue for until then.
fn aside(order: &Order, until: Timestamp) -> bson::Document {
    doc! { "$set": { "live": false, "revision": order.revision + 1, "expire_at": date(until) } }
}

/// The order, as long as it is set aside and nothing was written since.
fn set_aside(order: &Order) -> bson::Document {
    doc! { "_id": order.id.to_string(), "revision": order.revision, "live": false }
}
