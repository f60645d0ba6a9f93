// SPDX-License-Identifier: Apache-2.0
//! The mark that each duty of the leader leaves: a leader of an earlier epoch finds it, and changes nothing.

use bson::{Document, doc};
use cap_core::fault::{self, Mutant};

use crate::Store;
use crate::error::{Failure, StoreError};
use crate::transaction::Transaction;

/// Duties that work in transactions of their own; each has one at a time, so that they meet nobody but another leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Duty {
    Totals,
    Orders,
}

impl Duty {
    fn as_str(self) -> &'static str {
        match self {
            Self::Totals => "totals",
            Self::Orders => "orders",
        }
    }
}

/// The condition that no leader of an epoch after `epoch` was here, who would have left it in `field`.
pub(crate) fn in_turn(field: &str, epoch: i64) -> Document {
    if fault::is(Mutant::NoEpoch) {
        return doc! {};
    }
    doc! { "$or": [{ field: null }, { field: { "$lte": epoch } }] }
}

impl Store {
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
