// SPDX-License-Identifier: Apache-2.0
//! Orders: how they begin, how a claim takes them over; how they go on is in `ledger`.

mod aside;
pub(crate) mod budget;
mod fuse;
mod ledger;

use bson::{Document, doc};
use cap_core::certificate::{Names, Profile};
use cap_core::id::{CertificateId, IssuerId, OrderId, ProjectId, VersionId};
use cap_core::order::{Fuse, Order, OrderKey, OrderState};
use jiff::Timestamp;
use mongodb::options::ReturnDocument;
use serde::{Deserialize, Serialize};

use crate::document::{date, document, read};
use crate::error::StoreError;
use crate::fact::Fact;
use crate::{Store, bounded};

pub use budget::Parked;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct OrderDocument {
    #[serde(rename = "_id")]
    id: OrderId,
    project: ProjectId,
    certificate: CertificateId,
    made_for: Option<VersionId>,
    issuer: IssuerId,
    names: Names,
    profile: Option<Profile>,
    key: OrderKey,
    fence: i64,
    revision: i64,
    state: OrderState,
    /// Whether the order holds its lock: account, profile and names.
    live: bool,
    lock: String,
}

/// An order that is about to begin.
#[derive(Debug, Clone)]
pub struct OpenOrder {
    /// The order, in its first state.
    pub order: Order,
    /// How many may be begun for its names.
    pub fuse: Fuse,
    /// When it begins.
    pub at: Timestamp,
}

/// What became of beginning an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// It is ours.
    Order(Box<Order>),
    /// Another order for the same names at the same account is in flight, this certificate's, where it was found; orders are
    /// serialised.
    Busy(Option<CertificateId>),
    /// Too many orders for these names were begun; the next may be then.
    Blown(Timestamp),
    /// The certificate has another version by now, or is gone: nothing is to be done.
    Superseded,
}

impl Store {
    /// Takes over the certificate's order in flight, if there is one: from here on only this claim may write it.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when a later claim has it.
    pub async fn take_order(
        &self,
        certificate: CertificateId,
        fence: i64,
    ) -> Result<Option<Order>, StoreError> {
        let orders = self.collection::<Document>("orders");
        let live = doc! { "certificate": certificate.to_string(), "live": true };
        let mut filter = live.clone();
        filter.insert("fence", doc! { "$lte": fence });
        let take = orders
            .find_one_and_update(filter, doc! { "$set": { "fence": fence } })
            .return_document(ReturnDocument::After);
        if let Some(document) = bounded("take an order", take).await? {
            return read::<OrderDocument>("orders", document).map(|found| Some(found.into()));
        }
        match bounded("look for an order", orders.find_one(live)).await? {
            None => Ok(None),
            Some(_) => Err(StoreError::Fenced),
        }
    }

    /// Begins an order, unless the certificate moved on or the same names are being bought already.
    ///
    /// # Errors
    /// When the database does not answer; asking again with the same order is safe.
    pub async fn open_order(&self, open: &OpenOrder) -> Result<Opened, StoreError> {
        let order = &open.order;
        let status = if order.made_for.is_some() { "renewing" } else { "issuing" };
        let set = doc! {
            "status": status, "fence": order.fence, "order": order.id.to_string(), "updated_at": date(open.at),
        };
        let fact = Fact::new("begin an order")
            .give("certificates", certificate_filter(order, order.fence), set, vec![])
            .fused(order, open.fuse, open.at)
            .insert("orders", document("orders", &OrderDocument::from(order.clone()))?);
        match self.write(fact).await {
            Ok(()) => Ok(Opened::Order(Box::new(order.clone()))),
            Err(StoreError::Fenced) => Ok(Opened::Superseded),
            Err(StoreError::Conflict { .. }) => match self.order(order.id).await? {
                // The try before this one was committed after all.
                Some(_) => Ok(Opened::Order(Box::new(order.clone()))),
                None => match self.blown_until(order, open.fuse, open.at).await? {
                    Some(again_at) => Ok(Opened::Blown(again_at)),
                    None => Ok(Opened::Busy(self.holder(order).await?)),
                },
            },
            Err(error) => Err(error),
        }
    }

    /// The certificate whose order in flight has what this one would lock.
    async fn holder(&self, order: &Order) -> Result<Option<CertificateId>, StoreError> {
        let orders = self.collection::<Document>("orders");
        let held = orders.find_one(doc! { "lock": lock(order), "live": true });
        let found = bounded("look for an order", held.projection(doc! { "certificate": 1 })).await?;
        Ok(found.and_then(|holder| holder.get_str("certificate").ok()?.parse().ok()))
    }

    /// An order, whatever its state.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn order(&self, id: OrderId) -> Result<Option<Order>, StoreError> {
        let found = self.find_record("read an order", "orders", &id.to_string()).await?;
        found.map(|document| read::<OrderDocument>("orders", document).map(Order::from)).transpose()
    }
}

/// The order, as long as nobody took it over and nothing was written since.
pub(crate) fn fenced(order: &Order) -> Document {
    doc! { "_id": order.id.to_string(), "fence": order.fence, "revision": order.revision, "live": true }
}

/// The certificate, as long as its current version is the one that the order was made for and no later claim wrote it.
fn certificate_filter(order: &Order, fence: i64) -> Document {
    doc! {
        "_id": order.certificate.to_string(),
        "version.id": order.made_for.map(|version| version.to_string()),
        "fence": { "$lte": fence },
    }
}

/// What no two orders in flight have both: account, profile and names.
fn lock(order: &Order) -> String {
    let profile = order.profile.as_ref().map_or("", |profile| profile.as_str());
    format!("{}/{profile}/{}", order.issuer, hex::encode(order.names.set_sha256()))
}

impl From<Order> for OrderDocument {
    fn from(order: Order) -> Self {
        let lock = lock(&order);
        let Order { id, project, certificate, made_for, issuer, names, profile, key, fence, revision, state } =
            order;
        let live = state.is_live();
        Self {
            id,
            project,
            certificate,
            made_for,
            issuer,
            names,
            profile,
            key,
            fence,
            revision,
            state,
            live,
            lock,
        }
    }
}

impl From<OrderDocument> for Order {
    fn from(document: OrderDocument) -> Self {
        let OrderDocument {
            id,
            project,
            certificate,
            made_for,
            issuer,
            names,
            profile,
            key,
            fence,
            revision,
            state,
            ..
        } = document;
        Self { id, project, certificate, made_for, issuer, names, profile, key, fence, revision, state }
    }
}
