// SPDX-License-Identifier: Apache-2.0
//! Asking the holder of a lease to give it up. It does so itself: nobody takes a lease from one who may be writing.

use std::time::Duration;

use bson::{Document, doc};

use super::{LeaseWatch, is_running};
use crate::error::StoreError;
use crate::fact::Fact;
use crate::idempotency::Mutation;
use crate::stream::Changes;
use crate::{Store, bounded};

/// How long the database holds the answer of a stream that has nothing to tell. The holder's heartbeats look as well, so
/// that a stream which broke unnoticed costs time and nothing else.
const QUIET: Duration = Duration::from_secs(30);

impl Store {
    /// Writes down that a holder is to be asked, before it is.
    ///
    /// # Errors
    /// When the database does not answer; [`StoreError::Replayed`] when the same request was written down before.
    pub async fn record_step_down(&self, mutation: Mutation<'_>) -> Result<(), StoreError> {
        let result = self.write(Fact::new("request a step-down").accompanied(&mutation)).await;
        self.replayed(&mutation, result).await
    }

    /// Asks the holder of `epoch` to give the lease up; answers whether it holds it still. A later holder is never meant.
    ///
    /// By itself and not in a transaction: one that stays open, because its process was killed, would keep the holder from
    /// extending the lease and everybody else from winning it.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn ask_step_down(&self, name: &str, epoch: i64) -> Result<bool, StoreError> {
        let held = doc! { "_id": name, "epoch": epoch, "$expr": is_running() };
        let change = doc! { "$set": { "step_down": epoch } };
        let leases = self.collection::<Document>("leases");
        let asked = bounded("ask the leader to step down", leases.update_one(held, change)).await?;
        Ok(asked.matched_count > 0)
    }

    /// Whether the holder of `epoch` was asked, whether it holds the lease still or not. Known until a later holder is asked.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn was_asked_to_step_down(&self, name: &str, epoch: i64) -> Result<bool, StoreError> {
        let asked = doc! { "_id": name, "step_down": epoch };
        let leases = self.collection::<Document>("leases");
        Ok(bounded("read a lease", leases.find_one(asked)).await?.is_some())
    }

    /// Watches whether the holder of a lease is asked to give it up.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn watch_step_down(&self, name: &str) -> Result<LeaseWatch, StoreError> {
        let stages = vec![doc! { "$match": {
            "documentKey._id": name, "updateDescription.updatedFields.step_down": { "$exists": true },
        } }];
        let leases = self.collection::<Document>("leases");
        Changes::open(&leases, stages, QUIET, || Duration::ZERO, "watch a lease").await.map(LeaseWatch)
    }
}
