// SPDX-License-Identifier: Apache-2.0
//! Transactions that a dead process left open.
//!
//! MongoDB keeps a transaction, and its locks on documents, for `transactionLifetimeLimitSeconds` (60 s, and up to 30 s
//! more until it looks) although the connection is gone. A worker that is killed between a claim's first write and its
//! commit would hold up to a batch of the most urgent jobs that long, for everybody.

use std::time::Duration;

use bson::{Bson, Document, doc};
use futures_util::TryStreamExt;
use mongodb::options::ReadConcern;

use crate::error::StoreError;
use crate::{Store, TRY_BOUND, bounded};

/// Each try of a transaction of ours ends after [`TRY_BOUND`], by its commit or with the future that made it. One that
/// has been open for twice as long has nobody behind it.
const ABANDONED_AFTER: Duration = TRY_BOUND.saturating_mul(2);
/// What the application names of our processes begin with.
const APPLICATIONS: &str = "^certautopilot";

impl Store {
    /// Ends the transactions that dead processes of ours left open; answers how many. A user may see and end the
    /// sessions of its own without any privilege.
    ///
    /// # Errors
    /// When the database does not answer, or does not show its sessions.
    pub async fn end_abandoned_transactions(&self) -> Result<usize, StoreError> {
        let open_us = i64::try_from(ABANDONED_AFTER.as_micros()).unwrap_or(i64::MAX);
        let stages = vec![
            doc! { "$currentOp": { "allUsers": false, "idleSessions": true } },
            doc! { "$match": {
                "type": "idleSession", "appName": { "$regex": APPLICATIONS },
                "transaction.timeOpenMicros": { "$gte": open_us },
            } },
            doc! { "$project": { "lsid": 1 } },
        ];
        let admin = self.client.database("admin");
        let abandoned: Vec<Document> = bounded("look for abandoned transactions", async {
            // The only read concern that this stage takes.
            admin.aggregate(stages).read_concern(ReadConcern::local()).await?.try_collect().await
        })
        .await?;
        let sessions: Vec<Bson> = abandoned.iter().filter_map(session).collect();
        let count = sessions.len();
        if count > 0 {
            let kill = admin.run_command(doc! { "killSessions": sessions });
            bounded("end abandoned transactions", kill).await?;
        }
        Ok(count)
    }
}

/// The session as `killSessions` wants it: without the user that is shown beside its id.
fn session(operation: &Document) -> Option<Bson> {
    let id = operation.get_document("lsid").ok()?.get("id")?;
    Some(Bson::Document(doc! { "id": id.clone() }))
}
