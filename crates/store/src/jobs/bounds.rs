// SPDX-License-Identifier: Apache-2.0
//! The bounds of the claimers' index: a document behind the jobs of each partition and state, at which a look ends. A
//! migration makes them; whoever removes one makes looks dear, and nothing says so.

use bson::{DateTime, Document, doc};
use cap_core::limits::PARTITIONS;
use futures_util::TryStreamExt;

use crate::duties::Duty;
use crate::error::StoreError;
use crate::transaction::transact;
use crate::{Store, bounded};

/// The states behind which there is one.
const STATES: [&str; 2] = ["queued", "running"];
/// Later than any job is due: the year 9999.
const BEHIND_ALL_MS: i64 = 253_402_214_400_000;

impl Store {
    /// Puts the bounds back that are missing, as the leader of `epoch`. Answers how many were.
    ///
    /// # Errors
    /// When the database does not answer; doing it again is safe. [`StoreError::Fenced`] when a later leader was here.
    pub async fn restore_bounds(&self, epoch: i64) -> Result<usize, StoreError> {
        const DOING: &str = "put back the bounds of the queue";
        let jobs = self.collection::<Document>("jobs");
        let all = (0..PARTITIONS).flat_map(|p| STATES.map(|state| bound(p, state)));
        let mut missing: Vec<Document> = all.collect();
        let ids: Vec<&str> = missing.iter().filter_map(|bound| bound.get_str("_id").ok()).collect();
        let there: Vec<Document> = bounded(DOING, async {
            jobs.find(doc! { "_id": { "$in": ids } }).projection(doc! { "_id": 1 }).await?.try_collect().await
        })
        .await?;
        let there: Vec<Option<&str>> = there.iter().map(|bound| bound.get_str("_id").ok()).collect();
        missing.retain(|bound| !there.contains(&bound.get_str("_id").ok()));
        if missing.is_empty() {
            return Ok(0);
        }
        let restored = transact!(DOING, {
            let mut transaction = self.begin(DOING).await?;
            let failed = transaction.failed();
            self.stamp_duty(&mut transaction, Duty::Cleanup, epoch).await?;
            jobs.insert_many(&missing).session(&mut transaction.session).await.map_err(failed)?;
            transaction.commit().await?;
            Ok(missing.len())
        });
        match restored {
            // Somebody else puts the same ones back.
            Err(StoreError::Conflict { .. }) => Ok(0),
            restored => restored,
        }
    }
}

/// As the migrations make it.
fn bound(p: u16, state: &str) -> Document {
    doc! {
        "_id": format!("bound/{p}/{state}/end"), "p": i32::from(p), "state": format!("{state}/end"),
        "claim_at": DateTime::from_millis(BEHIND_ALL_MS),
    }
}
