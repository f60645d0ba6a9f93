// SPDX-License-Identifier: Apache-2.0
//! How deep the queue is: counted by the leader, kept in one document, read by everybody.

use std::time::Duration;

use bson::{DateTime, Document, doc};
use cap_core::clock::until;
use cap_core::limits::{JOB_PARTITIONS, QUEUE_COUNT};
use cap_core::queue::{Counted, Depth, Sample};
use futures_util::TryStreamExt;
use mongodb::options::Hint;
use serde::Deserialize;

use crate::document::{date, read, time};
use crate::error::StoreError;
use crate::{Store, bounded};

/// The gauge's id.
const QUEUE: &str = "queue";

#[derive(Deserialize)]
struct GaugeDocument {
    depth: i64,
    capped: bool,
    oldest_age_ms: i64,
    measured_at: DateTime,
    /// The database's time at the reading.
    now: DateTime,
}

impl Store {
    /// Looks at the queue: a few counts that end at a bound, whatever waits in it. Its time is the database's from before
    /// the first of them, so that a look is never younger than it says.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn sample_queue(&self) -> Result<Sample, StoreError> {
        const DOING: &str = "read the database's time";
        let hello = bounded(DOING, self.database.run_command(doc! { "hello": 1 })).await?;
        let now = *hello.get_datetime("localTime").map_err(|error| StoreError::Unavailable {
            doing: DOING,
            cause: format!("its answer has no time: {error}"),
        })?;
        let oldest = self.oldest_due(now).await?;
        let running = self.count_running(now).await?;
        let waiting = if oldest.is_some() { self.count_jobs(due(now, 0..JOB_PARTITIONS)).await? } else { 0 };
        let counted = Counted { due: waiting, running };
        let due_in_one = if counted.is_capped() { self.count_jobs(due(now, 0..1)).await? } else { 0 };
        let measured_at = time(now);
        let oldest_age = oldest.map_or(Duration::ZERO, |since| until(time(since), measured_at));
        Ok(Sample { depth: counted.depth(due_in_one), oldest_age, measured_at })
    }

    /// Writes a sample down for everybody, as the leader of `epoch`.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when a later leader has written one: nothing changes then.
    pub async fn record_queue(&self, sample: &Sample, epoch: i64) -> Result<(), StoreError> {
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let earlier = doc! { "_id": QUEUE, "fence": { "$lte": epoch } };
        let change = doc! { "$set": {
            "fence": epoch, "depth": number(sample.depth.jobs), "capped": sample.depth.capped,
            "oldest_age_ms": i64::try_from(sample.oldest_age.as_millis()).unwrap_or(i64::MAX),
            "measured_at": date(sample.measured_at),
        } };
        let gauges = self.collection::<Document>("gauges");
        let write = gauges.update_one(earlier, change).upsert(true);
        match bounded("write down how deep the queue is", write).await {
            Ok(_) => Ok(()),
            // It is there and does not match, so that it was to be made a second time.
            Err(StoreError::Conflict { .. }) => Err(StoreError::Fenced),
            Err(error) => Err(error),
        }
    }

    /// The leader's last sample, unless it is too old to be told.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn queue_sample(&self) -> Result<Option<Sample>, StoreError> {
        let stages = vec![doc! { "$match": { "_id": QUEUE } }, doc! { "$set": { "now": "$$NOW" } }];
        let found: Option<Document> = bounded("read how deep the queue is", async {
            self.collection::<Document>("gauges").aggregate(stages).await?.try_next().await
        })
        .await?;
        let Some(document) = found else { return Ok(None) };
        let gauge: GaugeDocument = read("gauges", document)?;
        let number = |number: i64| u64::try_from(number).unwrap_or(0);
        let sample = Sample {
            depth: Depth { jobs: number(gauge.depth), capped: gauge.capped },
            oldest_age: Duration::from_millis(number(gauge.oldest_age_ms)),
            measured_at: time(gauge.measured_at),
        };
        Ok(sample.is_current(time(gauge.now)).then_some(sample))
    }

    /// Since when the oldest job that is due has been due.
    async fn oldest_due(&self, now: DateTime) -> Result<Option<DateTime>, StoreError> {
        let jobs = self.collection::<Document>("jobs");
        let oldest = jobs.find_one(due(now, 0..JOB_PARTITIONS)).sort(doc! { "claim_at": 1 });
        let found = bounded("look for the oldest job", oldest.projection(doc! { "claim_at": 1 })).await?;
        Ok(found.and_then(|job| job.get_datetime("claim_at").ok().copied()))
    }

    /// How many jobs workers have, of those that work for a CA: drift scans are in no depth, waiting or running, since who
    /// scales workers by it would scale for what has places of its own.
    async fn count_running(&self, now: DateTime) -> Result<u64, StoreError> {
        let running = doc! { "state": "running", "claim_at": { "$gt": now }, "p": { "$lt": i32::from(JOB_PARTITIONS) } };
        let jobs = self.collection::<Document>("jobs");
        let count = jobs.count_documents(running).limit(QUEUE_COUNT + 1);
        // What runs is as many as there are places: to look at each costs less than an index more.
        let count = count.hint(Hint::Name("running".to_owned()));
        bounded("count the queue", count).await
    }

    /// How many jobs match, counted no further than one beyond [`QUEUE_COUNT`].
    async fn count_jobs(&self, filter: Document) -> Result<u64, StoreError> {
        let jobs = self.collection::<Document>("jobs");
        bounded("count the queue", jobs.count_documents(filter).limit(QUEUE_COUNT + 1)).await
    }
}

/// Jobs of these partitions whose time has come at `now`, the database's: in the index alone, without a look at the jobs.
fn due(now: DateTime, partitions: std::ops::Range<u16>) -> Document {
    let partitions: Vec<i32> = partitions.map(i32::from).collect();
    doc! { "p": { "$in": partitions }, "state": { "$in": ["queued", "running"] }, "claim_at": { "$lte": now } }
}
