// SPDX-License-Identifier: Apache-2.0
//! The mark that each write of the leader leaves, on the record or on its duty: a leader of an earlier epoch finds it, and changes
//! nothing.

use bson::{Document, doc};
use cap_core::fault::{self, Mutant};
use futures_util::TryStreamExt;
use jiff::Timestamp;

use crate::document::date;
use crate::error::{Failure, StoreError};
use crate::transaction::Transaction;
use crate::{Store, bounded};

/// Duties that work in transactions of their own; each has one at a time, so that they meet nobody but another leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Duty {
    Totals,
    Orders,
    Cleanup,
}

impl Duty {
    fn as_str(self) -> &'static str {
        match self {
            Self::Totals => "totals",
            Self::Orders => "orders",
            Self::Cleanup => "cleanup",
        }
    }
}

/// Records that one look at what is due reads at most, however many of them cannot be read.
const DUE_MAX: u32 = 20_000;

/// Certificates of which something is due.
pub(crate) struct DueBy {
    /// What an error says was attempted.
    pub(crate) doing: &'static str,
    /// What else is true of them.
    pub(crate) which: Document,
    /// The time by which it is due.
    pub(crate) field: &'static str,
    /// Before when, by the leader's clock, which only narrows the search: whether it is due is for the database's to say.
    pub(crate) before: Timestamp,
    /// What is read of each; all of it when nothing is said.
    pub(crate) projection: Option<Document>,
    /// What does not happen to one that cannot be read, for the log.
    pub(crate) left_out: &'static str,
}

/// The condition that no leader of an epoch after `epoch` was here, who would have left it in `field`.
pub(crate) fn in_turn(field: &str, epoch: i64) -> Document {
    if fault::is(Mutant::NoEpoch) {
        return doc! {};
    }
    doc! { "$or": [{ field: null }, { field: { "$lte": epoch } }] }
}

/// A leader's change of many records: `which` of them, unless a later leader was there, and the stages that change and stamp them.
pub(crate) fn led(
    field: &str,
    epoch: i64,
    which: Document,
    mut change: Vec<Document>,
) -> (Document, Vec<Document>) {
    change.push(doc! { "$set": { field: epoch } });
    (doc! { "$and": [which, in_turn(field, epoch)] }, change)
}

impl Store {
    /// Up to `limit` certificates of which something is due, the longest due first, as `make` reads them. One that it cannot
    /// read is named in the log and keeps nobody else waiting.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn due<T>(
        &self,
        by: &DueBy,
        limit: u32,
        make: impl Fn(Document) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let mut wanted = limit;
        loop {
            let found = self.longest_due(by, wanted).await?;
            let is_all = found.len() < wanted as usize;
            let (mut made, mut unread) = (Vec::with_capacity(found.len()), Vec::new());
            for document in found {
                let id = document.get_str("_id").unwrap_or_default().to_owned();
                match make(document) {
                    Ok(one) => made.push(one),
                    Err(error) => unread.push((id, error)),
                }
            }
            if !is_all && made.len() < limit as usize && wanted < DUE_MAX {
                let of_them = u32::try_from(unread.len()).unwrap_or(DUE_MAX);
                wanted = limit.saturating_add(of_them).saturating_mul(2).min(DUE_MAX);
                continue;
            }
            if let Some((first, error)) = unread.first() {
                let count = unread.len();
                tracing::error!(count, first, %error, "certificates cannot be read, so they are not {}", by.left_out);
            }
            made.truncate(limit as usize);
            return Ok(made);
        }
    }

    async fn longest_due(&self, by: &DueBy, limit: u32) -> Result<Vec<Document>, StoreError> {
        let mut filter = by.which.clone();
        filter.extend(doc! {
            by.field: { "$lte": date(by.before) }, "$expr": { "$lte": [format!("${}", by.field), "$$NOW"] },
        });
        bounded(by.doing, async {
            let certificates = self.collection::<Document>("certificates");
            let due = certificates.find(filter).sort(doc! { by.field: 1 }).limit(i64::from(limit));
            let due = match &by.projection {
                Some(projection) => due.projection(projection.clone()),
                None => due,
            };
            due.await?.try_collect().await
        })
        .await
    }

    /// Stamps a duty with the leader's epoch, inside the transaction that does a part of it.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when a later leader has stamped it.
    pub(crate) async fn stamp_duty(
        &self,
        transaction: &mut Transaction,
        duty: Duty,
        epoch: i64,
    ) -> Result<(), Failure> {
        let failed = transaction.failed();
        let mut earlier = doc! { "_id": duty.as_str() };
        earlier.extend(in_turn("fence", epoch));
        let duties = self.collection::<Document>("duties");
        let stamp = duties
            .update_one(earlier, doc! { "$set": { "fence": epoch } })
            .upsert(true)
            .session(&mut transaction.session);
        match stamp.await.map_err(failed) {
            Ok(_) => Ok(()),
            // It is there and does not match, so that it was to be made a second time.
            Err(Failure { error: StoreError::Conflict { .. }, .. }) => Err(StoreError::Fenced.into()),
            Err(failure) => Err(failure),
        }
    }
}
