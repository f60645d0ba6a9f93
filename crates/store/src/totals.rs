// SPDX-License-Identifier: Apache-2.0
//! Totals of finished jobs. A job that ends carries a mark until it is counted, and stays until then: it is counted in the
//! transaction that takes the mark away and says when it goes. So each is counted once, whenever it was committed, whatever
//! any clock said, and however long nobody counted.

use std::collections::BTreeMap;

use bson::{DateTime, Document, doc};
use cap_core::clock::later;
use cap_core::fault;
use cap_core::id::{JobId, ProjectId};
use cap_core::job::{JobState, Work};
use cap_core::page::{Page, Slice};
use cap_core::totals::{Hour, TotalId};
use futures_util::StreamExt;
use jiff::Timestamp;
use serde::Deserialize;

use crate::Store;
use crate::document::{database_now_plus, date, read, time};
use crate::duties::Duty;
use crate::error::{Failure, StoreError};
use crate::fact::Fact;
use crate::jobs::{LOOK_KEPT, lists};
use crate::transaction::{Transaction, transact};

/// Jobs counted in one transaction at most: few enough that a slow database still does them within one try.
pub const COUNT_PAGE: u32 = 200;
/// Jobs that ended and cannot be read, behind which others are still counted.
const UNREADABLE_MAX: i64 = 20_000;
/// An hour.
const HOUR: std::time::Duration = std::time::Duration::from_secs(3_600);

/// A job that ended, as far as it counts. Of its work only the kind: a newer build may know more of them.
#[derive(Deserialize)]
struct Finished {
    #[serde(rename = "_id")]
    id: JobId,
    project: ProjectId,
    work: Kind,
    state: JobState,
    finished_at: DateTime,
}

#[derive(Deserialize)]
struct Kind {
    kind: String,
}

#[derive(Deserialize)]
struct TotalDocument {
    #[serde(rename = "_id")]
    id: String,
    jobs: i64,
}

/// How many jobs of a kind ended one way in one hour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TotalRecord {
    /// What it counts.
    pub id: TotalId,
    /// How many.
    pub jobs: u64,
}

impl Store {
    /// Counts up to [`COUNT_PAGE`] jobs that ended and were not counted, as the leader of `epoch`; from now on they expire.
    /// Answers how many.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when a later leader counts; when the database does not answer, counting again is safe.
    pub async fn count_finished(&self, epoch: i64) -> Result<u32, StoreError> {
        const DOING: &str = "count finished jobs";
        transact!(DOING, {
            let mut transaction = self.begin(DOING).await?;
            let finished = self.uncounted(&mut transaction).await?;
            if finished.is_empty() {
                return Ok(0);
            }
            self.stamp_duty(&mut transaction, Duty::Totals, epoch).await?;
            self.mark_counted(&mut transaction, &finished).await?;
            fault::point("totals.within");
            let fact = self.totals_of(&finished);
            self.write_within(&mut transaction, &[fact]).await?;
            transaction.commit().await?;
            Ok(u32::try_from(finished.len()).unwrap_or(u32::MAX))
        })
    }

    /// The totals of a project, by hour, from the one that `since` is in.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn job_totals(
        &self,
        project: ProjectId,
        since: Option<Timestamp>,
        page: &Page,
    ) -> Result<Slice<TotalRecord>, StoreError> {
        let from =
            since.map_or_else(|| format!("{project}/"), |since| format!("{project}/{}", Hour::of(since)));
        let filter = doc! { "project": project.to_string(), "$and": [{ "_id": { "$gte": from } }] };
        let found = self.list("job_totals", filter, page, |total: &TotalDocument| total.id.clone()).await?;
        let read_one = |total: TotalDocument| {
            let corrupt = |cause: String| StoreError::Corrupt { collection: "job_totals", cause };
            let id = total.id.parse().map_err(|error| corrupt(format!("{}: {error}", total.id)))?;
            Ok(TotalRecord { id, jobs: u64::try_from(total.jobs).unwrap_or(0) })
        };
        let items = found.items.into_iter().map(read_one).collect::<Result<_, StoreError>>()?;
        Ok(Slice { items, next_cursor: found.next_cursor })
    }

    /// Those that ended first, behind as many as cannot be read, up to [`UNREADABLE_MAX`] of these.
    async fn uncounted(&self, transaction: &mut Transaction) -> Result<Vec<Finished>, Failure> {
        let failed = transaction.failed();
        let jobs = self.collection::<Document>("jobs");
        let oldest = jobs.find(doc! { "uncounted": true }).sort(doc! { "finished_at": 1 });
        let shown = doc! { "project": 1, "work.kind": 1, "state": 1, "finished_at": 1 };
        let oldest = oldest.limit(i64::from(COUNT_PAGE) + UNREADABLE_MAX).batch_size(COUNT_PAGE);
        let oldest = oldest.projection(shown).session(&mut transaction.session);
        let mut oldest = oldest.await.map_err(&failed)?;
        let (mut finished, mut unreadable) = (Vec::new(), Vec::new());
        while finished.len() < COUNT_PAGE as usize
            && let Some(document) = oldest.stream(&mut transaction.session).next().await
        {
            let document = document.map_err(&failed)?;
            let id = document.get_str("_id").unwrap_or_default().to_owned();
            match read::<Finished>("jobs", document) {
                Ok(job) => finished.push(job),
                Err(error) => unreadable.push((id, error)),
            }
        }
        if let Some((first, error)) = unreadable.first() {
            let count = unreadable.len();
            tracing::error!(count, first, %error, "jobs that ended cannot be read, so they are neither counted nor removed");
        }
        match (finished.is_empty(), unreadable.pop()) {
            (true, Some((_, error))) => Err(error.into()),
            _ => Ok(finished),
        }
    }

    async fn mark_counted(
        &self,
        transaction: &mut Transaction,
        finished: &[Finished],
    ) -> Result<(), Failure> {
        let failed = transaction.failed();
        let ids: Vec<String> = finished.iter().map(|job| job.id.to_string()).collect();
        let kept = |time: std::time::Duration| database_now_plus(time.min(self.retention.jobs));
        let is_look = doc! { "$in": ["$work.kind", Work::LOOKS.to_vec()] };
        let expire_at = doc! { "$cond": [is_look, kept(LOOK_KEPT), kept(self.retention.jobs)] };
        // A build from before there were lists did not change them with the state.
        let counted = doc! { "expire_at": expire_at, "lists": lists::when("$state") };
        let counted = vec![doc! { "$set": counted }, doc! { "$unset": "uncounted" }];
        let jobs = self.collection::<Document>("jobs");
        let update = jobs.update_many(doc! { "_id": { "$in": ids }, "uncounted": true }, counted);
        let marked = update.session(&mut transaction.session).await.map_err(failed)?.matched_count;
        match usize::try_from(marked).ok() == Some(finished.len()) {
            true => Ok(()),
            false => Err(StoreError::Fenced.into()),
        }
    }

    fn totals_of(&self, finished: &[Finished]) -> Fact {
        let mut totals = BTreeMap::<TotalId, i64>::new();
        for job in finished {
            match TotalId::of(job.project, &job.work.kind, job.state, time(job.finished_at)) {
                Some(id) => *totals.entry(id).or_default() += 1,
                None => {
                    tracing::error!(job = %job.id, "a job is marked as finished and is not; it is not counted")
                }
            }
        }
        totals.into_iter().fold(Fact::new("count finished jobs"), |fact, (id, jobs)| {
            let expire_at = later(id.hour.start(), HOUR + self.retention.totals);
            let change = doc! {
                "$inc": { "jobs": jobs },
                "$set": { "project": id.project.to_string(), "expire_at": date(expire_at) },
            };
            fact.upsert("job_totals", doc! { "_id": id.to_string() }, change)
        })
    }
}
