// SPDX-License-Identifier: Apache-2.0
//! How deep the queue is: counted by the leader, kept in one document, read by everybody.

use std::collections::BTreeMap;
use std::time::Duration;

use bson::{DateTime, Document, doc};
use cap_core::clock::until;
use cap_core::job::Work;
use cap_core::limits::{
    ARI_PARTITION, JOB_PARTITIONS, PARTITIONS, QUEUE_COUNT, QUEUE_COUNT_IN_ONE, REVOCATION_PARTITION,
};
use cap_core::queue::{ByKind, Counted, Depth, OfKind, Sample};
use futures_util::TryStreamExt;
use mongodb::options::Hint;
use serde::{Deserialize, Serialize};

use crate::document::{bson, date, read, time};
use crate::duties::in_turn;
use crate::error::StoreError;
use crate::{Store, bounded};

/// The gauge's id.
const QUEUE: &str = "queue";
/// The kinds of work for CAs, and where they stand in [`Work::KINDS`].
const ISSUING: usize = 0;
const REGISTERING: usize = 1;
/// Everything that works for a CA.
const FOR_CAS: &str = "for-cas";
/// The parts of the queue that have partitions of their own.
const PARTS: [&str; 4] = [FOR_CAS, Work::DRIFT_SCAN, Work::RENEWAL_LOOK, Work::REVOKE];

#[derive(Deserialize)]
struct GaugeDocument {
    depth: i64,
    capped: bool,
    oldest_age_ms: i64,
    measured_at: DateTime,
    /// The numbers by kind, and when they were measured: a leader of an earlier build leaves both as they were.
    #[serde(default)]
    kinds: BTreeMap<String, KindDocument>,
    #[serde(default)]
    kinds_at: Option<DateTime>,
    /// The database's time at the reading.
    now: DateTime,
}

#[derive(Serialize, Deserialize)]
struct KindDocument {
    due: i64,
    running: i64,
    capped: bool,
    oldest_age_ms: i64,
}

/// How many jobs workers have.
#[derive(Debug, Default)]
struct Running {
    /// Of those in the main queue: what stands apart (scans, looks, revocations) is in no depth, waiting or running, since who scales
    /// workers by it would scale for what has places of its own.
    for_cas: u64,
    kinds: BTreeMap<String, u64>,
}

/// Registrations, as far as was looked.
#[derive(Debug, Default)]
struct Registrations {
    /// How many were looked at.
    seen: u64,
    /// How many of them are due, and since when the oldest has been.
    due: u64,
    oldest: Option<DateTime>,
}

impl Registrations {
    fn of(found: &Document) -> Self {
        let of = |field| natural(found.get_i64(field).unwrap_or(0));
        Self { seen: of("seen"), due: of("due"), oldest: found.get_datetime("claim_at").ok().copied() }
    }
}

impl Running {
    fn of(&self, kind: &str) -> u64 {
        self.kinds.get(kind).copied().unwrap_or(0)
    }
}

impl Store {
    /// Looks at the queue: a few counts that end at a bound, whatever waits in it. Its time is the database's from before
    /// the first of them, so that a look is never younger than it says.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn sample_queue(&self) -> Result<Sample, StoreError> {
        let measured_at = self.database_time().await?;
        let now = date(measured_at);
        let (mut oldest, living) = self.oldest_due(now).await?;
        let running = self.count_running(now).await?;
        let waiting = if oldest.contains_key(FOR_CAS) {
            self.count_due(due_of(FOR_CAS, now), QUEUE_COUNT).await?
        } else {
            0
        };
        let counted = Counted { due: waiting, running: running.for_cas };
        let due_in_one =
            if counted.is_capped() { self.count_due(due(now, 0..1), QUEUE_COUNT_IN_ONE).await? } else { 0 };
        let depth = counted.depth(due_in_one);
        let registrations = self.registrations(living, depth, now).await?;
        oldest.extend(registrations.oldest.map(|since| (Work::REGISTER_ISSUER.to_owned(), since)));
        let age = |part| oldest.get(part).map_or(Duration::ZERO, |since| until(time(*since), measured_at));
        let mut kinds = ByKind::default();
        for (kind, of_kind) in Work::KINDS.into_iter().zip(&mut kinds) {
            if kind != Work::ISSUE {
                let due = match kind {
                    Work::REGISTER_ISSUER => registrations.due,
                    _ if oldest.contains_key(kind) => self.count_due(due_of(kind, now), QUEUE_COUNT).await?,
                    _ => 0,
                };
                let running = running.of(kind);
                *of_kind = OfKind { due, running, capped: due > QUEUE_COUNT, oldest_age: age(kind) };
            }
        }
        // Whatever works for a CA and is no registration: nobody counts it in another way beside a million of them.
        let registering = kinds[REGISTERING];
        let due = depth.jobs.saturating_sub(counted.running).saturating_sub(registering.due);
        kinds[ISSUING] = OfKind {
            due,
            running: counted.running.saturating_sub(registering.running),
            capped: due > QUEUE_COUNT,
            oldest_age: match (oldest.get(FOR_CAS), oldest.get(Work::REGISTER_ISSUER)) {
                (Some(all), Some(register)) if register <= all => self.oldest_to_issue(now).await?,
                _ => age(FOR_CAS),
            },
        };
        Ok(Sample { depth, oldest_age: age(FOR_CAS), kinds: Some(kinds), measured_at })
    }

    /// Writes a sample down for everybody, as the leader of `epoch`.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when a later leader has written one: nothing changes then.
    pub async fn record_queue(&self, sample: &Sample, epoch: i64) -> Result<(), StoreError> {
        let kinds = sample.kinds.map(|kinds| {
            Work::KINDS.into_iter().zip(kinds.map(KindDocument::from)).collect::<BTreeMap<_, _>>()
        });
        let mut earlier = doc! { "_id": QUEUE };
        earlier.extend(in_turn("fence", epoch));
        let change = doc! { "$set": {
            "fence": epoch, "depth": number(sample.depth.jobs), "capped": sample.depth.capped,
            "oldest_age_ms": whole_millis(sample.oldest_age), "measured_at": date(sample.measured_at),
            "kinds": bson("gauges", &kinds.unwrap_or_default())?, "kinds_at": date(sample.measured_at),
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
        let measured_by_kind = gauge.kinds_at == Some(gauge.measured_at) && !gauge.kinds.is_empty();
        let of_kind = |kind: &str| gauge.kinds.get(kind).map(OfKind::from).unwrap_or_default();
        let sample = Sample {
            depth: Depth { jobs: natural(gauge.depth), capped: gauge.capped },
            oldest_age: Duration::from_millis(natural(gauge.oldest_age_ms)),
            kinds: measured_by_kind.then(|| Work::KINDS.map(of_kind)),
            measured_at: time(gauge.measured_at),
        };
        Ok(sample.is_current(time(gauge.now)).then_some(sample))
    }

    /// Since when the oldest job of each part that is due has been due, and the registrations that live: one request for all.
    async fn oldest_due(
        &self,
        now: DateTime,
    ) -> Result<(BTreeMap<String, DateTime>, Registrations), StoreError> {
        let oldest = |part: &str| {
            vec![
                doc! { "$match": due_of(part, now) },
                doc! { "$sort": { "claim_at": 1 } },
                doc! { "$limit": 1 },
                doc! { "$project": { "_id": 0, "claim_at": 1, "part": { "$literal": part } } },
            ]
        };
        let mut stages = oldest(FOR_CAS);
        let others = PARTS.iter().filter(|part| **part != FOR_CAS).map(|part| oldest(part));
        for pipeline in others.chain([living_registrations(now)]) {
            stages.push(doc! { "$unionWith": { "coll": "jobs", "pipeline": pipeline } });
        }
        let found: Vec<Document> = bounded("look for the oldest jobs", async {
            self.collection::<Document>("jobs").aggregate(stages).await?.try_collect().await
        })
        .await?;
        let (mut oldest, mut living) = (BTreeMap::new(), Registrations::default());
        for found in found {
            match (found.get_str("part"), found.get_datetime("claim_at")) {
                (Ok(part), Ok(since)) => drop(oldest.insert(part.to_owned(), *since)),
                _ => living = Registrations::of(&found),
            }
        }
        Ok((oldest, living))
    }

    /// The registrations that are due: of those that live, where all of them were looked at. Where there are more, of what is due,
    /// which is few then, or too many as well: one partition stands for all in that case, as it does for the depth.
    async fn registrations(
        &self,
        living: Registrations,
        depth: Depth,
        now: DateTime,
    ) -> Result<Registrations, StoreError> {
        if living.seen <= QUEUE_COUNT {
            return Ok(living);
        }
        let (partitions, most) =
            if depth.capped { (0..1, QUEUE_COUNT_IN_ONE) } else { (0..JOB_PARTITIONS, QUEUE_COUNT) };
        let times = u64::from(JOB_PARTITIONS / partitions.end);
        let is_one = doc! { "$eq": ["$work.kind", Work::REGISTER_ISSUER] };
        let stages = [
            doc! { "$match": due(now, partitions) },
            doc! { "$limit": number(most) },
            doc! { "$group": registrations(&is_one) },
        ];
        let found: Option<Document> = bounded("look for registrations", async {
            self.collection::<Document>("jobs").aggregate(stages).await?.try_next().await
        })
        .await?;
        let found = Registrations::of(&found.unwrap_or_default());
        let oldest = [living.oldest, found.oldest].into_iter().flatten().min();
        Ok(Registrations { due: (found.due * times).max(living.due).min(depth.jobs), oldest, ..found })
    }

    /// How long the oldest job that is due and no registration has been due, where a registration is older; none where so many
    /// registrations are older that it is not looked any further.
    async fn oldest_to_issue(&self, now: DateTime) -> Result<Duration, StoreError> {
        let stages = vec![
            doc! { "$match": due(now, 0..JOB_PARTITIONS) },
            doc! { "$sort": { "claim_at": 1 } },
            doc! { "$limit": number(QUEUE_COUNT) },
            doc! { "$match": { "work.kind": { "$ne": Work::REGISTER_ISSUER } } },
            doc! { "$limit": 1 },
            doc! { "$project": { "claim_at": 1 } },
        ];
        let found: Option<Document> = bounded("look for the oldest job", async {
            self.collection::<Document>("jobs").aggregate(stages).await?.try_next().await
        })
        .await?;
        let since = found.and_then(|job| job.get_datetime("claim_at").ok().copied());
        Ok(since.map_or(Duration::ZERO, |since| until(time(since), time(now))))
    }

    /// How many jobs workers have, by kind.
    async fn count_running(&self, now: DateTime) -> Result<Running, StoreError> {
        let for_cas = doc! { "$lt": ["$p", i32::from(JOB_PARTITIONS)] };
        let stages = vec![
            doc! { "$match": { "p": { "$in": partitions(0..PARTITIONS) }, "state": "running", "claim_at": { "$gt": now } } },
            doc! { "$limit": number(QUEUE_COUNT + 1) },
            doc! { "$group": {
                "_id": "$work.kind", "jobs": { "$sum": 1_i64 }, "for_cas": { "$sum": { "$cond": [for_cas, 1_i64, 0_i64] } },
            } },
        ];
        let jobs = self.collection::<Document>("jobs");
        // What runs is as many as there are places: to look at each costs less than an index more.
        let count = jobs.aggregate(stages).hint(Hint::Name("due".to_owned()));
        let found: Vec<Document> =
            bounded("count what runs", async { count.await?.try_collect().await }).await?;
        let of = |found: &Document, field| natural(found.get_i64(field).unwrap_or(0));
        let mut running = Running::default();
        for found in found {
            running.for_cas += of(&found, "for_cas");
            let kind = found.get_str("_id").unwrap_or(Work::ISSUE).to_owned();
            running.kinds.insert(kind, of(&found, "jobs"));
        }
        Ok(running)
    }

    /// How many jobs `filter` is true of, counted no further than one beyond `most`.
    async fn count_due(&self, filter: Document, most: u64) -> Result<u64, StoreError> {
        let jobs = self.collection::<Document>("jobs");
        bounded("count the queue", jobs.count_documents(filter).limit(most + 1)).await
    }
}

impl From<OfKind> for KindDocument {
    fn from(of_kind: OfKind) -> Self {
        let OfKind { due, running, capped, oldest_age } = of_kind;
        Self { due: number(due), running: number(running), capped, oldest_age_ms: whole_millis(oldest_age) }
    }
}

impl From<&KindDocument> for OfKind {
    fn from(stored: &KindDocument) -> Self {
        Self {
            due: natural(stored.due),
            running: natural(stored.running),
            capped: stored.capped,
            oldest_age: Duration::from_millis(natural(stored.oldest_age_ms)),
        }
    }
}

fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn natural(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn whole_millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// Jobs of this part whose time has come at `now`, the database's: in an index alone, without a look at the jobs.
fn due_of(part: &str, now: DateTime) -> Document {
    match part {
        Work::DRIFT_SCAN => due(now, JOB_PARTITIONS..ARI_PARTITION),
        Work::RENEWAL_LOOK => due(now, ARI_PARTITION..REVOCATION_PARTITION),
        Work::REVOKE => due(now, REVOCATION_PARTITION..PARTITIONS),
        _ => due(now, 0..JOB_PARTITIONS),
    }
}

/// Stages that look at each registration that lives, up to a bound. They are among the other work for CAs, but few: this costs
/// less than an index more.
fn living_registrations(now: DateTime) -> Vec<Document> {
    // Their keys are the kind, `/` and an id; `0` comes next after `/`.
    let keys =
        doc! { "$gte": format!("{}/", Work::REGISTER_ISSUER), "$lt": format!("{}0", Work::REGISTER_ISSUER) };
    vec![
        doc! { "$match": { "alive": true, "key": keys } },
        doc! { "$limit": number(QUEUE_COUNT + 1) },
        doc! { "$group": registrations(&doc! { "$lte": ["$claim_at", now] }) },
    ]
}

/// A group of jobs, of which those count that `is_one` is true of.
fn registrations(is_one: &Document) -> Document {
    doc! {
        "_id": null, "seen": { "$sum": 1_i64 }, "due": { "$sum": { "$cond": [is_one, 1_i64, 0_i64] } },
        "claim_at": { "$min": { "$cond": [is_one, "$claim_at", null] } },
    }
}

/// Jobs of these partitions whose time has come at `now`.
fn due(now: DateTime, partitions: std::ops::Range<u16>) -> Document {
    let partitions = self::partitions(partitions);
    doc! { "p": { "$in": partitions }, "state": { "$in": ["queued", "running"] }, "claim_at": { "$lte": now } }
}

fn partitions(partitions: std::ops::Range<u16>) -> Vec<i32> {
    partitions.map(i32::from).collect()
}
