// SPDX-License-Identifier: Apache-2.0
//! The wake-up stream: tells a worker that a job was queued, so that it need not poll fast.

use bson::{Document, doc};
use futures_util::StreamExt;
use mongodb::change_stream::ChangeStream;
use mongodb::change_stream::event::ChangeStreamEvent;

use crate::error::{StoreError, classify};
use crate::{STREAM_WAIT, Store, bounded};

/// Tells when jobs become due sooner than they were.
pub struct JobWatch(ChangeStream<ChangeStreamEvent<Document>>);

impl Store {
    /// Watches for jobs that were queued, brought forward or handed back. Open it before the first look.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn watch_jobs(&self) -> Result<JobWatch, StoreError> {
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
        let watch = jobs.watch().pipeline(stages).max_await_time(STREAM_WAIT);
        bounded("watch the queue", watch).await.map(JobWatch)
    }
}

impl JobWatch {
    /// Waits until a job was queued.
    ///
    /// # Errors
    /// When the stream broke; a new one must be opened.
    pub async fn queued(&mut self) -> Result<(), StoreError> {
        match self.0.next().await {
            Some(Ok(_)) => Ok(()),
            Some(Err(error)) => Err(classify("watch the queue", &error).error),
            None => {
                Err(StoreError::Unavailable { doing: "watch the queue", cause: "the stream ended".into() })
            }
        }
    }
}
