// SPDX-License-Identifier: Apache-2.0
//! The ledger of the order engine: each write under the fence of its claim.

use async_trait::async_trait;
use bson::{Document, doc};
use cap_core::audit::Row;
use cap_core::challenge::ChallengeAnswer;
use cap_core::expiry::Threshold;
use cap_core::job::{Claim, Settlement};
use cap_core::order::{FailedAttempt, IssuedVersion, Ledger, LedgerError, Order, OrderState};
use cap_core::problem::{Class, Problem};
use jiff::Timestamp;

use super::{certificate_filter, fenced};
use crate::certificates::{VersionDocument, VersionRecord};
use crate::document::{bson, date, document};
use crate::drift::rescan_stage;
use crate::error::StoreError;
use crate::fact::Fact;
use crate::renewals::plan;
use crate::{Store, bounded};

/// Looks at an order whose write was refused, and the wait between two: a new primary's majority lags for less.
const LAG_LOOKS: u32 = 20;
const LAG_LOOK: std::time::Duration = std::time::Duration::from_millis(100);

#[async_trait]
impl Ledger for Store {
    async fn advance(
        &self,
        order: &Order,
        next: OrderState,
        answers: &[ChallengeAnswer],
    ) -> Result<Order, LedgerError> {
        let advanced = Order { revision: order.revision + 1, state: next, ..order.clone() };
        let set = doc! { "state": bson("orders", &advanced.state)?, "revision": advanced.revision };
        let fact =
            Fact::new("advance an order").give("orders", fenced(order), set, vec![]).answering(answers);
        match self.write(fact).await {
            // Refused: perhaps by the same write, whose outcome an earlier try did not learn.
            Err(StoreError::Fenced) => match self.moved_on(order).await? {
                Some(stored) if stored == advanced => Ok(advanced),
                _ => Err(LedgerError::Fenced),
            },
            result => Ok(result.map(|()| advanced)?),
        }
    }

    async fn may_keep_key(&self, order: &Order) -> Result<bool, LedgerError> {
        let certificates = self.collection::<Document>("certificates");
        let bad = doc! { "_id": order.certificate.to_string(), "new_key": true };
        let found = bounded("look whether a key may be kept", certificates.find_one(bad));
        Ok(found.await.map_err(LedgerError::from)?.is_none())
    }

    async fn note(&self, order: &Order, audit: &Row) -> Result<(), LedgerError> {
        // As long as the order is ours: whoever lost it notes nothing.
        let mine = doc! { "$set": { "fence": order.fence } };
        let fact = Fact::new("note what was not taken").must("orders", fenced(order), mine).audited(audit);
        match self.write(fact).await {
            // By an earlier try.
            Err(StoreError::Conflict { .. }) => Ok(()),
            result => Ok(result?),
        }
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
        let fact = Fact::new("store a certificate")
            .within("record-issued.within")
            .ending_order(order, &state, audit.time, self.retention.orders)?
            .with_version(claim, order, version, audit)?
            .resolving(order.certificate, order.made_for, self.retention.notices)
            .ending(claim, "succeeded")
            .audited(audit);
        self.ended(order, &state, self.write(fact).await).await
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
        let mut change = doc! {
            "status": "failing", "problem": bson("certificates", &failed.problem)?, "order": null,
            "next_attempt_at": date(failed.next_attempt_at), "fence": claim.fence,
            "updated_at": date(audit.time), "last_event": audit.event.to_string(),
        };
        if failed.needs_new_key {
            change.insert("new_key", true);
        }
        let change = doc! { "$set": change };
        let fact = Fact::new("record a failed attempt")
            .ending_order(order, &state, audit.time, self.retention.orders)?
            .must("certificates", certificate_filter(order, claim.fence), change)
            .postponing(claim, failed.next_attempt_at, audit.time, &failed.problem)?
            .audited(audit);
        let fact = if failed.is_issued { fact } else { fact.uncounted(order) };
        self.ended(order, &state, self.write(fact).await).await
    }

    async fn bury(
        &self,
        claim: &Claim,
        order: &Order,
        problem: &Problem,
        audit: &Row,
    ) -> Result<(), LedgerError> {
        let state = OrderState::Failed { placed: None, problem: problem.clone() };
        let change = doc! { "$set": {
            "order": null, "updated_at": date(audit.time), "last_event": audit.event.to_string(),
        } };
        let fact = Fact::new("record an attempt that needs a person")
            .ending_order(order, &state, audit.time, self.retention.orders)?
            .must("certificates", certificate_filter(order, claim.fence), change)
            .settling(claim, &Settlement::Dead(problem.clone()), audit.time)?
            .uncounted(order)
            .audited(audit);
        self.ended(order, &state, self.write(fact).await).await
    }
}

impl Store {
    /// A refused end may be the trace of the same end, whose outcome an earlier try did not learn.
    async fn ended(
        &self,
        order: &Order,
        state: &OrderState,
        result: Result<(), StoreError>,
    ) -> Result<(), LedgerError> {
        match result {
            Err(StoreError::Fenced | StoreError::Conflict { .. }) => match self.moved_on(order).await? {
                Some(stored) if stored.state == *state && stored.fence == order.fence => Ok(()),
                _ => Err(LedgerError::Fenced),
            },
            result => Ok(result?),
        }
    }

    /// What became of an order whose write was refused. After an election a majority may know less for a moment than the
    /// primary, which refused it: as long as the order looks as the write found it, it is read again.
    async fn moved_on(&self, order: &Order) -> Result<Option<Order>, StoreError> {
        for _ in 1..LAG_LOOKS {
            match self.order(order.id).await? {
                Some(stored) if stored == *order => tokio::time::sleep(LAG_LOOK).await,
                found => return Ok(found),
            }
        }
        self.order(order.id).await
    }
}

impl Fact {
    /// With an order's last state; its lock and its key are gone from then on.
    pub(crate) fn ending_order(
        self,
        order: &Order,
        state: &OrderState,
        at: Timestamp,
        kept: std::time::Duration,
    ) -> Result<Self, StoreError> {
        let wiped = bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: vec![] };
        let set = doc! {
            "state": bson("orders", state)?, "revision": order.revision + 1, "live": false,
            "expire_at": date(cap_core::clock::later(at, kept)),
        };
        let without_key = vec![doc! { "$set": { "key.sealed.ct": wiped } }];
        Ok(self.give("orders", fenced(order), set, without_key))
    }

    /// With a version that becomes the certificate's current one, as long as the one before is what the order was for.
    fn with_version(
        self,
        claim: &Claim,
        order: &Order,
        version: &IssuedVersion,
        audit: &Row,
    ) -> Result<Self, StoreError> {
        let record = record(order, version, audit.time);
        let mut change = doc! { "$set": {
            "status": "valid", "problem": null, "next_attempt_at": null, "order": null,
            "versions": version.number, "version": bson("certificates", &record)?,
            "renew_at": date(version.renew_at),
            "notice_at": date(Threshold::QuarterLeft.at(version.issued.not_before, version.issued.not_after)),
            "fence": claim.fence + 1,
            "updated_at": date(audit.time), "last_event": audit.event.to_string(),
        } };
        // What was set aside for this version has no use any more.
        let mut unset = doc! { "watched": "" };
        if !order.key.kept {
            unset.insert("new_key", "");
        }
        change.insert("$unset", unset);
        crate::renewal_info::renew(&mut change, version);
        let mut filter = certificate_filter(order, claim.fence);
        filter.insert("versions", version.number - 1);
        let stored = VersionDocument {
            record_id: version.id,
            certificate: order.certificate,
            project: order.project,
            order: order.id,
            version: record,
            chain_pem: version.issued.chain_pem.clone(),
            key: version.key.clone(),
        };
        let stored: Document = document("certificate_versions", &stored)?;
        // The version before was planned for, and this one was not.
        let (set, mut then) = plan::given(change);
        if order.key.kept {
            then.extend(replaced_if_its_key_is_bad()?);
        }
        then.push(rescan_stage());
        Ok(self.give("certificates", filter, set, then).insert("certificate_versions", stored))
    }
}

/// Stages behind a version: one whose key somebody had revoked when it was under way already is replaced at once, and says so. When that is
/// stands in the record already: a time in here would make the stages of each certificate its own.
fn replaced_if_its_key_is_bad() -> Result<[Document; 2], StoreError> {
    let detail = "the key of this version was revoked or refused while it was issued: it is replaced at once where it is \
                  renewed by itself; renew it otherwise, and it gets a new key";
    let problem = bson("certificates", &Problem::new(Class::Protocol, "key-not-kept", detail))?;
    let is_bad = doc! { "$eq": ["$new_key", true] };
    let replaced = doc! { "$set": {
        "renew_at": { "$cond": [&is_bad, "$updated_at", "$renew_at"] },
        "problem": { "$cond": [is_bad, { "$literal": problem }, "$problem"] },
    } };
    Ok([replaced, plan::stage()])
}

fn record(order: &Order, version: &IssuedVersion, issued_at: Timestamp) -> VersionRecord {
    let issued = &version.issued;
    VersionRecord {
        id: version.id,
        number: version.number,
        serial: issued.serial.clone(),
        fingerprint_sha256: issued.fingerprint_sha256.clone(),
        spki_sha256: Some(hex::encode(&order.key.spki_sha256)),
        not_before: issued.not_before,
        not_after: issued.not_after,
        issued_at,
        issuer: Some(version.issuer),
        ari_id: issued.ari_id.clone(),
        chain_issuer: issued.chain_issuer.clone(),
        revocation: None,
    }
}
