// SPDX-License-Identifier: Apache-2.0
//! Orders: the ledger of the order engine, each write under the fence of its claim.

use async_trait::async_trait;
use bson::{Document, doc};
use cap_core::audit::Row;
use cap_core::certificate::{Names, Profile};
use cap_core::challenge::ChallengeAnswer;
use cap_core::fault;
use cap_core::id::{CertificateId, IssuerId, OrderId, ProjectId, VersionId};
use cap_core::job::Claim;
use cap_core::order::{FailedAttempt, IssuedVersion, Ledger, LedgerError, Order, OrderKey, OrderState};
use jiff::Timestamp;
use mongodb::options::ReturnDocument;
use serde::{Deserialize, Serialize};

use crate::certificates::{VersionDocument, VersionRecord};
use crate::document::{bson, date, read};
use crate::error::{Failure, StoreError};
use crate::transaction::Transaction;
use crate::transaction::transact;
use crate::{Store, bounded};

/// How long an order that is over is kept, for whoever asks what happened.
const KEPT: std::time::Duration = std::time::Duration::from_secs(30 * 86_400);

#[derive(Debug, Clone, Serialize, Deserialize)]
struct OrderDocument {
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
    /// When it begins.
    pub at: Timestamp,
}

/// What became of beginning an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// It is ours.
    Order(Box<Order>),
    /// Another order for the same names at the same account is in flight; orders are serialised.
    Busy,
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
        const DOING: &str = "begin an order";
        let order = &open.order;
        let document = OrderDocument::from(order.clone());
        let result = transact!(DOING, {
            let mut transaction = self.begin(DOING).await?;
            let failed = transaction.failed();
            let status = if order.made_for.is_some() { "renewing" } else { "issuing" };
            let change = doc! { "$set": {
                "status": status, "fence": order.fence, "order": order.id.to_string(), "updated_at": date(open.at),
            } };
            let certificates = self.collection::<Document>("certificates");
            let update = certificates
                .update_one(certificate_filter(order, order.fence), change)
                .session(&mut transaction.session);
            if update.await.map_err(&failed)?.matched_count == 0 {
                return Ok(Opened::Superseded);
            }
            let orders = self.collection::<OrderDocument>("orders");
            orders.insert_one(&document).session(&mut transaction.session).await.map_err(&failed)?;
            transaction.commit().await?;
            Ok(Opened::Order(Box::new(order.clone())))
        });
        match result {
            Err(StoreError::Conflict { .. }) => match self.order(order.id).await? {
                // The try before this one was committed after all.
                Some(_) => Ok(Opened::Order(Box::new(order.clone()))),
                None => Ok(Opened::Busy),
            },
            result => result,
        }
    }

    /// An order, whatever its state.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn order(&self, id: OrderId) -> Result<Option<Order>, StoreError> {
        let orders = self.collection::<Document>("orders");
        let found = bounded("read an order", orders.find_one(doc! { "_id": id.to_string() })).await?;
        found.map(|document| read::<OrderDocument>("orders", document).map(Order::from)).transpose()
    }

    async fn try_advance(
        &self,
        order: &Order,
        next: &OrderState,
        answers: &[ChallengeAnswer],
    ) -> Result<Order, StoreError> {
        const DOING: &str = "advance an order";
        let advanced = Order { revision: order.revision + 1, state: next.clone(), ..order.clone() };
        let change = doc! { "$set": { "state": bson("orders", next)?, "revision": advanced.revision } };
        let result = if answers.is_empty() {
            let orders = self.collection::<Document>("orders");
            let update = bounded(DOING, orders.update_one(fenced(order), change)).await;
            update.and_then(|update| if update.matched_count == 0 { Err(StoreError::Fenced) } else { Ok(()) })
        } else {
            transact!(DOING, {
                let mut transaction = self.begin(DOING).await?;
                self.write_order(&mut transaction, order, change.clone()).await?;
                self.insert_answers(&mut transaction, answers).await?;
                transaction.commit().await
            })
        };
        match result {
            Ok(()) => Ok(advanced),
            // Refused: perhaps by the same write, whose outcome an earlier try did not learn.
            Err(StoreError::Fenced | StoreError::Conflict { .. }) => match self.order(order.id).await? {
                Some(stored) if stored == advanced => Ok(advanced),
                _ => Err(StoreError::Fenced),
            },
            Err(error) => Err(error),
        }
    }

    /// Writes an order's last state; what else ends with it goes into the same transaction.
    async fn end_order(
        &self,
        transaction: &mut Transaction,
        order: &Order,
        state: &OrderState,
        at: Timestamp,
    ) -> Result<(), Failure> {
        let wiped = bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: vec![] };
        let change = doc! { "$set": {
            "state": bson("orders", state)?, "revision": order.revision + 1, "live": false, "key.sealed.ct": wiped,
            "expire_at": date(cap_core::clock::later(at, KEPT)),
        } };
        self.write_order(transaction, order, change).await
    }

    /// A refused end may be the trace of the same end, whose outcome an earlier try did not learn.
    async fn ended(
        &self,
        order: &Order,
        state: &OrderState,
        result: Result<(), StoreError>,
    ) -> Result<(), LedgerError> {
        match result {
            Err(StoreError::Fenced | StoreError::Conflict { .. }) => match self.order(order.id).await? {
                Some(stored) if stored.state == *state && stored.fence == order.fence => Ok(()),
                _ => Err(LedgerError::Fenced),
            },
            result => Ok(result?),
        }
    }

    /// Writes an order under its fence and revision; refused when either moved on.
    async fn write_order(
        &self,
        transaction: &mut Transaction,
        order: &Order,
        change: Document,
    ) -> Result<(), Failure> {
        let failed = transaction.failed();
        let orders = self.collection::<Document>("orders");
        let update = orders.update_one(fenced(order), change).session(&mut transaction.session);
        match update.await.map_err(failed)?.matched_count {
            0 => Err(StoreError::Fenced.into()),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Ledger for Store {
    async fn advance(
        &self,
        order: &Order,
        next: OrderState,
        answers: &[ChallengeAnswer],
    ) -> Result<Order, LedgerError> {
        Ok(self.try_advance(order, &next, answers).await?)
    }

    async fn store(
        &self,
        claim: &Claim,
        order: &Order,
        version: &IssuedVersion,
        audit: &Row,
    ) -> Result<(), LedgerError> {
        let placed = order.state.placed().cloned();
        let placed = placed.ok_or_else(|| LedgerError::Corrupt(format!("order {} has no URL", order.id)))?;
        let state = OrderState::Stored { placed, version: version.id };
        let result = transact!("store a certificate", {
            let mut transaction = self.begin("store a certificate").await?;
            self.end_order(&mut transaction, order, &state, audit.time).await?;
            fault::point("record-issued.within");
            self.write_version(&mut transaction, claim, order, version, audit).await?;
            self.end_job(&mut transaction, claim, "succeeded").await?;
            self.outbox(&mut transaction, audit).await?;
            transaction.commit().await
        });
        self.ended(order, &state, result).await
    }

    async fn fail(
        &self,
        claim: &Claim,
        order: &Order,
        failed: &FailedAttempt,
        audit: &Row,
    ) -> Result<(), LedgerError> {
        let state =
            OrderState::Failed { placed: order.state.placed().cloned(), problem: failed.problem.clone() };
        let result = transact!("record a failed attempt", {
            let mut transaction = self.begin("record a failed attempt").await?;
            let driver = transaction.failed();
            self.end_order(&mut transaction, order, &state, audit.time).await?;
            let change = doc! { "$set": {
                "status": "failing", "problem": bson("certificates", &failed.problem)?, "order": null,
                "next_attempt_at": date(failed.next_attempt_at), "fence": claim.fence,
                "updated_at": date(audit.time), "last_event": audit.event.to_string(),
            } };
            let certificates = self.collection::<Document>("certificates");
            let update = certificates
                .update_one(certificate_filter(order, claim.fence), change)
                .session(&mut transaction.session);
            if update.await.map_err(driver)?.matched_count == 0 {
                return transaction.abort(StoreError::Fenced).await;
            }
            self.postpone_job(&mut transaction, claim, failed.next_attempt_at, audit.time, &failed.problem)
                .await?;
            self.outbox(&mut transaction, audit).await?;
            transaction.commit().await
        });
        self.ended(order, &state, result).await
    }
}

impl Store {
    /// Adds a version and makes it the certificate's current one, as long as the one before is what the order was for.
    async fn write_version(
        &self,
        transaction: &mut Transaction,
        claim: &Claim,
        order: &Order,
        version: &IssuedVersion,
        audit: &Row,
    ) -> Result<(), Failure> {
        let failed = transaction.failed();
        let mut record = version_record(version, 0, audit.time);
        let change = vec![doc! { "$set": {
            "status": "valid", "problem": null, "next_attempt_at": null, "order": null,
            "versions": { "$add": ["$versions", 1_i64] },
            "version": { "$mergeObjects": [
                { "$literal": bson("certificates", &record)? },
                { "number": { "$add": ["$versions", 1_i64] } },
            ] },
            "renew_at": date(version.renew_at), "fence": claim.fence + 1,
            "updated_at": date(audit.time), "last_event": audit.event.to_string(),
        } }];
        let certificates = self.collection::<Document>("certificates");
        let update = certificates
            .find_one_and_update(certificate_filter(order, claim.fence), change)
            .projection(doc! { "versions": 1 })
            .return_document(ReturnDocument::After)
            .session(&mut transaction.session);
        let Some(updated) = update.await.map_err(&failed)? else { return Err(StoreError::Fenced.into()) };
        record.number = updated.get_i64("versions").map_err(|error| StoreError::Corrupt {
            collection: "certificates",
            cause: format!("{}: versions: {error}", order.certificate),
        })?;
        let document = VersionDocument {
            record_id: version.id,
            certificate: order.certificate,
            project: order.project,
            order: order.id,
            version: record,
            chain_pem: version.issued.chain_pem.clone(),
            key: version.key.clone(),
        };
        let versions = self.collection::<VersionDocument>("certificate_versions");
        versions.insert_one(&document).session(&mut transaction.session).await.map_err(&failed)?;
        Ok(())
    }
}

/// The order, as long as nobody took it over and nothing was written since.
fn fenced(order: &Order) -> Document {
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

fn version_record(version: &IssuedVersion, number: i64, issued_at: Timestamp) -> VersionRecord {
    let issued = &version.issued;
    VersionRecord {
        id: version.id,
        number,
        serial: issued.serial.clone(),
        fingerprint_sha256: issued.fingerprint_sha256.clone(),
        not_before: issued.not_before,
        not_after: issued.not_after,
        issued_at,
    }
}

impl From<Order> for OrderDocument {
    fn from(order: Order) -> Self {
        let Order { id, project, certificate, made_for, issuer, names, profile, key, fence, revision, state } =
            order;
        let profile_name = profile.as_ref().map_or("", |profile| profile.as_str());
        let names_hash = hex::encode(names.set_sha256());
        let lock = format!("{issuer}/{profile_name}/{names_hash}");
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
