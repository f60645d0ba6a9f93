// SPDX-License-Identifier: Apache-2.0
//! The wake-up stream: tells a worker that a job was queued, so that it need not poll fast.

use std::time::Duration;

use bson::{Document, doc};

use crate::error::StoreError;
use crate::stream::Changes;
use crate::{STREAM_WAIT, Store};

/// Tells when jobs become due sooner than they were.
pub struct JobWatch(Changes);

impl Store {
    /// Watches for jobs that were queued, brought forward or handed back. Open it before the first look. Who has no use for more
    /// news yet leaves the database alone for a `pause` behind each.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn watch_jobs(
        &self,
        pause: impl Fn() -> Duration + Send + 'static,
    ) -> Result<JobWatch, StoreError> {
        let stages = vec![
            doc! { "$match": { "$or": [
                { "operationType": "insert" },
                { "operationType": "update", "updateDescription.updatedFields.state": "queued" },
                { "operationType": "update", "updateDescription.updatedFields.hastened": { "$exists": true } },
            ] } },
            // The news is enough; what is due is read when there is room for it.
            doc! { "$project": { "_id": 1, "operationType": 1, "ns": 1, "documentKey": 1 } },
        ];
        let jobs = self.collection::<Document>("jobs");
        Changes::open(&jobs, stages, STREAM_WAIT, pause, "watch the queue").await.map(JobWatch)
    }
}

impl JobWatch {
    /// Waits until a job was queued.
    ///
    /// # Errors
    /// When the stream broke or hangs; a new one must be opened.
    pub async fn queued(&mut self) -> Result<(), StoreError> {
        self.0.next().await
    }
}
