// SPDX-License-Identifier: Apache-2.0
//! Instances: each process keeps one document of its own fresh; it goes with the process, or a day after it was seen.

use bson::{DateTime, Document, doc};
use cap_core::clock::Clock;
use cap_core::id::InstanceId;
use cap_core::instance::{Doing, INSTANCES_MAX, Instance, LOST_AFTER, Roll, State};
use futures_util::TryStreamExt;
use jiff::{SignedDuration, Timestamp};
use mongodb::options::ReturnDocument;
use serde::Deserialize;

use crate::document::{bson, date, millis, read, time};
use crate::duties::Duty;
use crate::error::StoreError;
use crate::transaction::transact;
use crate::{Store, bounded};

/// What a process tells of itself at each beat.
#[derive(Debug, Clone)]
pub struct Beat<'a> {
    /// Its id.
    pub id: InstanceId,
    /// Its name.
    pub name: &'a str,
    /// Its version.
    pub version: &'a str,
    /// The commit that it was built from.
    pub commit: Option<&'a str>,
    /// The host's name.
    pub host: &'a str,
    /// Its process id there.
    pub pid: u32,
    /// When its first beat was, as the database said; nothing at the first.
    pub started_at: Option<Timestamp>,
    /// How far it is.
    pub state: State,
    /// What it does.
    pub doing: Doing,
}

#[derive(Deserialize)]
struct InstanceDocument {
    #[serde(rename = "_id")]
    id: InstanceId,
    name: String,
    doing: Doing,
    state: State,
    version: String,
    commit: Option<String>,
    host: String,
    pid: u32,
    started_at: DateTime,
    seen_at: DateTime,
    skew_ms: i64,
}

#[derive(Deserialize)]
struct Started {
    started_at: DateTime,
}

impl Store {
    /// Writes down that a process is there; answers when its first beat was. An entry that is gone is made anew, with the
    /// first beat that it had.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn beat(&self, beat: &Beat<'_>, clock: &dyn Clock) -> Result<Timestamp, StoreError> {
        let first = beat.started_at.map_or_else(|| "$$NOW".into(), |at| bson::Bson::from(date(at)));
        let change = vec![doc! { "$set": {
            "role": beat.doing.role(),
            "name": { "$literal": beat.name },
            "doing": { "$literal": bson("instances", &beat.doing)? },
            "state": beat.state.as_str(),
            "version": { "$literal": beat.version },
            "commit": { "$literal": beat.commit },
            "host": { "$literal": beat.host },
            "pid": i64::from(beat.pid),
            "started_at": { "$ifNull": ["$started_at", first] },
            "seen_at": "$$NOW",
            "skew_ms": { "$subtract": ["$$NOW", date(clock.now())] },
        } }];
        let instances = self.collection::<Document>("instances");
        let write = instances
            .find_one_and_update(doc! { "_id": beat.id.to_string() }, change)
            .upsert(true)
            .return_document(ReturnDocument::After)
            .projection(doc! { "started_at": 1 });
        let written = bounded("write down that this process is there", write).await?;
        let gone =
            || StoreError::Corrupt { collection: "instances", cause: "what was made is not there".into() };
        Ok(time(read::<Started>("instances", written.ok_or_else(gone)?)?.started_at))
    }

    /// Forgets earlier processes of the same name that were not seen since this one, of `id`, started.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn forget_replaced(
        &self,
        id: InstanceId,
        role: &str,
        name: &str,
        started_at: Timestamp,
    ) -> Result<u64, StoreError> {
        let replaced = doc! {
            "role": role, "name": name, "_id": { "$ne": id.to_string() },
            "started_at": { "$lt": date(started_at) }, "seen_at": { "$lte": date(started_at) },
        };
        let instances = self.collection::<Document>("instances");
        Ok(bounded("forget replaced instances", instances.delete_many(replaced)).await?.deleted_count)
    }

    /// Forgets processes that were seen later than it is now: the primary's clock was wrong when it stamped them, and they
    /// would be lost, and listed, until that time comes. One that lives tells again at its next beat. Up to `limit` of them, as
    /// the leader of `epoch`. Answers how many.
    ///
    /// # Errors
    /// When the database does not answer; doing it again is safe. [`StoreError::Fenced`] when a later leader was here.
    pub async fn forget_ahead(&self, now: Timestamp, limit: u32, epoch: i64) -> Result<u64, StoreError> {
        const DOING: &str = "forget instances from the future";
        // The database's clock decides; the other narrows the search.
        let slack = millis(LOST_AFTER);
        let ahead = doc! {
            "seen_at": { "$gt": date(now) }, "$expr": { "$gt": ["$seen_at", { "$add": ["$$NOW", slack] }] },
        };
        let ids = self.page_of_ids("instances", ahead.clone(), "seen_at", limit).await?;
        if ids.is_empty() {
            return Ok(0);
        }
        let mut still = doc! { "_id": { "$in": ids } };
        still.extend(ahead);
        let instances = self.collection::<Document>("instances");
        transact!(DOING, {
            let mut transaction = self.begin(DOING).await?;
            let failed = transaction.failed();
            self.stamp_duty(&mut transaction, Duty::Cleanup, epoch).await?;
            let delete = instances.delete_many(still.clone()).session(&mut transaction.session);
            let deleted = delete.await.map_err(failed)?.deleted_count;
            transaction.commit().await?;
            Ok(deleted)
        })
    }

    /// Forgets a process that says goodbye.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn forget_instance(&self, id: InstanceId) -> Result<(), StoreError> {
        let instances = self.collection::<Document>("instances");
        bounded("forget an instance", instances.delete_one(doc! { "_id": id.to_string() })).await?;
        Ok(())
    }

    /// All instances at this moment, and the moment by the database's clock.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn roll(&self) -> Result<(Roll, Timestamp), StoreError> {
        // By the index of the times: where there are more than can be read, those are left out that were seen longest ago.
        self.called(vec![doc! { "$sort": { "seen_at": -1 } }]).await
    }

    /// The instances of this role and name.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn roll_of(&self, role: &str, name: &str) -> Result<(Roll, Timestamp), StoreError> {
        self.called(vec![doc! { "$match": { "role": role, "name": name } }]).await
    }

    async fn called(&self, mut stages: Vec<Document>) -> Result<(Roll, Timestamp), StoreError> {
        stages.push(doc! { "$limit": i64::from(INSTANCES_MAX) });
        stages.push(doc! { "$set": { "now": "$$NOW" } });
        let found: Vec<Document> = bounded("read the instances", async {
            self.collection::<Document>("instances").aggregate(stages).await?.try_collect().await
        })
        .await?;
        // Without an instance there is nothing whose age anybody could ask for.
        let now = found.first().and_then(|first| first.get_datetime("now").ok().copied());
        let now = now.map_or(Timestamp::UNIX_EPOCH, time);
        let readable = |document| match instance(document) {
            Ok(instance) => Some(instance),
            Err(error) => {
                tracing::warn!(%error, "an instance cannot be read, so it is not shown; a newer build may have written it");
                None
            }
        };
        Ok((Roll::call(found.into_iter().filter_map(readable).collect(), now), now))
    }
}

fn instance(document: Document) -> Result<Instance, StoreError> {
    let found: InstanceDocument = read("instances", document)?;
    Ok(Instance {
        id: found.id,
        name: found.name,
        doing: found.doing,
        state: found.state,
        version: found.version,
        commit: found.commit,
        host: found.host,
        pid: found.pid,
        started_at: time(found.started_at),
        seen_at: time(found.seen_at),
        skew: SignedDuration::from_millis(found.skew_ms),
    })
}
