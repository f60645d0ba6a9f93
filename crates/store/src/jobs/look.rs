// SPDX-License-Identifier: Apache-2.0
//! What a claimer takes of what is due: all of it where there is room, and otherwise a fair share of each lane.

pub(crate) mod page;
mod seen;

use std::collections::BTreeMap;
use std::time::Duration;

use bson::{Document, RawDocumentBuf, doc};
use cap_core::clock::Clock;
use cap_core::id::ProjectId;
use cap_core::job::{JobState, ProjectLane, RANKS, Room, Waiting, deal};
use cap_core::limits;
use futures_util::TryStreamExt;
use jiff::Timestamp;

use crate::document::{date, millis, time};
use crate::error::StoreError;
use crate::jobs::JobDocument;
use crate::{Store, bounded};
use page::{Page, Unread};

pub use seen::LanesSeen;

/// How far a claimer's clock may lag behind the database's before it would overlook a lane in which a job is due. The
/// clock only narrows that search; whether a job is due is decided by the database.
const SEARCH_AHEAD: Duration = Duration::from_secs(60);
/// A job whose lease ran out is left to a peer that may still live for as long as the lease was, and for this at least.
const FREE_MIN: Duration = Duration::from_secs(15);
/// Lanes of one look; those behind them have their turn at the next.
const LANES: usize = 16;
/// How often one look goes on to the next lanes where those before have nothing: their jobs run, or are due within
/// [`SEARCH_AHEAD`].
const LANE_ROUNDS: usize = 4;
/// So many times the free places are read from all lanes together, so that one may leave its share to another.
const SPARE: usize = 4;
/// Jobs in no lane that one look goes through for those of projects that have places left.
const APART_SEEN: i64 = 5_000;
/// Jobs that the database answers at once: all that are wanted of some lanes. It would answer 101, and the rest when asked again.
const AT_ONCE: u32 = 1_000;

/// What a claimer is looking for.
#[derive(Debug, Clone)]
pub struct Search<'a> {
    /// Free places.
    pub room: Room,
    /// Partitions to look at: claimers that look at different ones do not meet.
    pub partitions: &'a [u16],
    /// Places that jobs of a lane have already.
    pub held: &'a BTreeMap<ProjectLane, usize>,
    /// The lane that the last look ended with.
    pub after: Option<ProjectLane>,
    /// Whether places are dealt out among lanes where they are short.
    pub by_lanes: bool,
    /// Whether more is likely to wait than there is room for.
    pub is_crowded: bool,
    /// What the last look by lanes saw, for one that goes on from there; nothing for one that goes all the way back.
    pub lanes: Option<&'a LanesSeen>,
    /// Whether jobs whose lease ran out just now are taken as well, where the look goes all the way back.
    pub takes_over: bool,
    /// Only what is queued and due since then: the index is full of traces of jobs that were due before. Nothing for a look
    /// that goes all the way back.
    pub since: Option<Timestamp>,
    /// Places that jobs of one project may have, where they are in no lane.
    pub each_project: Option<usize>,
    /// A clock, and the boot time after which jobs whose lease ran out are left all the same: a look that was answered so late
    /// waited for a primary, and without one their holders could not extend their leases.
    pub fair_until: Option<(&'a dyn Clock, Duration)>,
    /// The database's time, as far as it is known here.
    pub now: Timestamp,
}

/// What a look found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) jobs: Vec<JobDocument>,
    /// The lane that the look ended with, where it went by lanes.
    pub(super) last: Option<ProjectLane>,
    /// Since when the oldest of what waits has been due, as far as was looked.
    pub(super) oldest: Option<Timestamp>,
    /// What looks by lanes can go on from, where all lanes were seen.
    pub(super) lanes: Option<LanesSeen>,
    /// The weights that are not 1, where there are several lanes.
    pub(super) weights: Option<BTreeMap<ProjectId, u32>>,
}

impl Store {
    /// The jobs to claim, at most [`limits::CLAIM_BATCH`].
    pub(super) async fn look(&self, search: &Search<'_>) -> Result<Found, StoreError> {
        let room = Room { all: search.room.all.min(limits::CLAIM_BATCH), ..search.room };
        if !search.by_lanes {
            let jobs = match search.each_project {
                Some(each) => self.due_apart(search, room.all, each).await?,
                None => self.due_jobs(search, room.all).await?,
            };
            return Ok(Found { oldest: oldest(&jobs), jobs, ..Found::default() });
        }
        if search.is_crowded {
            return self.shares(search, room).await;
        }
        let mut jobs = self.due_jobs(search, room.all + 1).await?;
        let oldest = oldest(&jobs);
        if jobs.len() > room.all {
            return Ok(Found { oldest, ..self.shares(search, room).await? });
        }
        let mut side = room.side;
        jobs.retain(|job| !job.lane().lane.is_side() || take(&mut side));
        Ok(Found { jobs, oldest, ..Found::default() })
    }

    /// Whatever is due, the longest due first.
    async fn due_jobs(&self, search: &Search<'_>, wanted: usize) -> Result<Vec<JobDocument>, StoreError> {
        let states = if search.since.is_some() { vec!["queued"] } else { vec!["queued", "running"] };
        let since =
            search.since.map_or_else(|| doc! { "$exists": true }, |since| doc! { "$gte": date(since) });
        let filter = doc! {
            "p": { "$in": search.partitions() }, "state": { "$in": states }, "claim_at": since,
            "$expr": search.comes(),
        };
        let (mut page, mut unread) = (Page::of(wanted, 1), Unread::default());
        let mut due = loop {
            let found: Vec<RawDocumentBuf> = bounded("look for jobs", async {
                let jobs = self.collection::<RawDocumentBuf>("jobs");
                let due = jobs.find(filter.clone()).sort(doc! { "claim_at": 1 }).limit(page.limit());
                due.batch_size(AT_ONCE).await?.try_collect().await
            })
            .await?;
            match page.read(&found, &mut unread) {
                Some(due) => break due,
                None => page.widen(1),
            }
        };
        self.tell(&unread, search.now);
        due.truncate(wanted);
        Ok(due)
    }

    /// Whatever is due of what is in no lane, the longest due first, and no more of a project than it has places for.
    async fn due_apart(
        &self,
        search: &Search<'_>,
        wanted: usize,
        each: usize,
    ) -> Result<Vec<JobDocument>, StoreError> {
        let mut held: BTreeMap<ProjectId, usize> = BTreeMap::new();
        for (lane, jobs) in search.held {
            *held.entry(lane.project).or_default() += jobs;
        }
        let full = held.iter().filter(|(_, jobs)| **jobs >= each).map(|(project, _)| project.to_string());
        let full: Vec<String> = full.collect();
        let due = doc! {
            "p": { "$in": search.partitions() }, "state": { "$in": ["queued", "running"] },
            "claim_at": { "$exists": true }, "$expr": search.comes(),
        };
        let (mut page, mut unread) = (Page::of(wanted * SPARE, 1), Unread::default());
        let due = loop {
            let stages = [
                doc! { "$match": due.clone() },
                doc! { "$sort": { "claim_at": 1 } },
                doc! { "$limit": page.limit().max(APART_SEEN) },
                doc! { "$match": { "project": { "$nin": &full } } },
                doc! { "$limit": page.limit() },
            ];
            let found: Vec<RawDocumentBuf> = bounded("look for jobs that stand apart", async {
                let jobs = self.collection::<Document>("jobs");
                let due = jobs.aggregate(stages).batch_size(AT_ONCE);
                due.with_type::<RawDocumentBuf>().await?.try_collect().await
            })
            .await?;
            match page.read(&found, &mut unread) {
                Some(due) => break due,
                None => page.widen(1),
            }
        };
        self.tell(&unread, search.now);
        let fits = |job: &JobDocument| {
            let held = held.entry(job.project).or_default();
            let fits = *held < each;
            *held += usize::from(fits);
            fits
        };
        Ok(due.into_iter().filter(fits).take(wanted).collect())
    }

    /// A fair share of each of the next lanes in which something is due.
    async fn shares(&self, search: &Search<'_>, room: Room) -> Result<Found, StoreError> {
        if let Some(seen) = search.lanes {
            return self.shares_of(search, room, &seen.behind(search.after)).await;
        }
        let mut found = Found { last: search.after, ..Found::default() };
        for round in 0..LANE_ROUNDS {
            let lanes = self.next_lanes(search, found.last).await?;
            let all = lanes.len() < LANES;
            found = self.shares_of(search, room, &lanes).await?;
            if round > 0 || !all {
                // There are lanes that it has not seen.
                found.lanes = None;
            }
            if all || !found.jobs.is_empty() {
                break;
            }
        }
        Ok(found)
    }

    /// The lanes behind `after`, and then those before it, once round at most.
    async fn next_lanes(
        &self,
        search: &Search<'_>,
        after: Option<ProjectLane>,
    ) -> Result<Vec<ProjectLane>, StoreError> {
        let mut lanes = self.due_lanes(search, after, LANES).await?;
        if lanes.len() < LANES && after.is_some() {
            let first = self.due_lanes(search, None, LANES - lanes.len()).await?;
            lanes.extend(first.into_iter().take_while(|lane| Some(*lane) <= after));
        }
        Ok(lanes)
    }

    /// A fair share of each of these lanes, the most needed of each.
    async fn shares_of(
        &self,
        search: &Search<'_>,
        room: Room,
        lanes: &[ProjectLane],
    ) -> Result<Found, StoreError> {
        let Some(last) = lanes.last().copied() else { return Ok(Found::default()) };
        let mut heads = self.heads(search, room, lanes, Some(search.partitions())).await?;
        let bare: Vec<ProjectLane> = lanes.iter().filter(|lane| !heads.contains_key(lane)).copied().collect();
        if !bare.is_empty() && search.partitions.len() < usize::from(limits::JOB_PARTITIONS) {
            // A lane with few jobs has none in the partitions of this look, mostly: nobody else is in its way.
            heads.extend(self.heads(search, room, &bare, None).await?);
        }
        let seen = LanesSeen::of(lanes, heads.values().flatten(), search.now);
        let weights = if lanes.len() > 1 { Some(self.weights(lanes).await?) } else { None };
        let weight =
            |project| weights.as_ref().and_then(|weights| weights.get(project)).copied().unwrap_or(1);
        let waiting: Vec<Waiting> = lanes
            .iter()
            .map(|lane| Waiting {
                weight: weight(&lane.project),
                held: search.held.get(lane).copied().unwrap_or(0),
                due: heads.get(lane).map_or(0, Vec::len),
                is_side: lane.lane.is_side(),
            })
            .collect();
        let shares = deal(&waiting, room);
        // Behind the last one that got something: of equals the first is served, so it must be another one each time.
        let served = lanes.iter().zip(&shares).rev().find(|(_, share)| **share > 0);
        let last = served.map_or(last, |(lane, _)| *lane);
        let mut jobs = Vec::new();
        for (lane, share) in lanes.iter().zip(shares) {
            jobs.extend(heads.remove(lane).unwrap_or_default().into_iter().take(share));
        }
        Ok(Found { jobs, last: Some(last), oldest: None, lanes: Some(seen), weights })
    }

    /// The lanes behind `after` in which something is due: one step in the index for each, however much waits there.
    async fn due_lanes(
        &self,
        search: &Search<'_>,
        after: Option<ProjectLane>,
        limit: usize,
    ) -> Result<Vec<ProjectLane>, StoreError> {
        // An expression with the database's time would have to look at each job; only plain bounds let it step.
        let due = doc! {
            "lane": { "$gt": after.map_or_else(String::new, |lane| lane.to_string()) },
            "claim_at": { "$lte": date(cap_core::clock::later(search.now, SEARCH_AHEAD)) },
        };
        let stages = vec![
            doc! { "$match": due },
            doc! { "$sort": { "lane": 1, "rank": 1, "claim_at": 1 } },
            doc! { "$group": { "_id": "$lane", "claim_at": { "$first": "$claim_at" } } },
            doc! { "$limit": i64::try_from(limit).unwrap_or(i64::MAX) },
        ];
        let found: Vec<Document> = bounded("look for lanes", async {
            self.collection::<Document>("jobs").aggregate(stages).await?.try_collect().await
        })
        .await?;
        let known = |lane: Document| lane.get_str("_id").ok()?.parse().ok();
        Ok(found.into_iter().filter_map(known).collect())
    }

    /// What is due at the head of each lane, in these partitions or in all: in one request, and in another for those where too
    /// much could not be read.
    async fn heads(
        &self,
        search: &Search<'_>,
        room: Room,
        lanes: &[ProjectLane],
        partitions: Option<Vec<i32>>,
    ) -> Result<BTreeMap<ProjectLane, Vec<JobDocument>>, StoreError> {
        let each = (room.all * SPARE).div_ceil(lanes.len()).min(room.all);
        let (mut page, mut unread) = (Page::of(each, lanes.len()), Unread::default());
        let (mut left, mut heads) = (lanes.to_vec(), BTreeMap::new());
        while !left.is_empty() {
            let mut found = self.heads_of(search, &left, partitions.as_deref(), page.limit()).await?;
            left.retain(|lane| {
                let found = found.remove(&lane.to_string()).unwrap_or_default();
                let head = page.read(&found, &mut unread);
                let is_left = head.is_none();
                heads.extend(head.filter(|head| !head.is_empty()).map(|head| (*lane, head)));
                is_left
            });
            page.widen(left.len());
        }
        self.tell(&unread, search.now);
        Ok(heads)
    }

    /// The first jobs of each lane that are due, by the lanes' names.
    async fn heads_of(
        &self,
        search: &Search<'_>,
        lanes: &[ProjectLane],
        partitions: Option<&[i32]>,
        limit: i64,
    ) -> Result<BTreeMap<String, Vec<RawDocumentBuf>>, StoreError> {
        let head = |lane: &ProjectLane| {
            let due = search.due_in(*lane, partitions);
            [doc! { "$match": due }, doc! { "$sort": { "rank": 1, "claim_at": 1 } }, doc! { "$limit": limit }]
        };
        let mut stages = lanes.first().map(head).map(Vec::from).unwrap_or_default();
        for lane in lanes.iter().skip(1) {
            let pipeline = Vec::from(head(lane));
            stages.push(doc! { "$unionWith": { "coll": "jobs", "pipeline": pipeline } });
        }
        let found: Vec<RawDocumentBuf> = bounded("look for jobs", async {
            let jobs = self.collection::<Document>("jobs");
            let heads = jobs.aggregate(stages).batch_size(AT_ONCE);
            heads.with_type::<RawDocumentBuf>().await?.try_collect().await
        })
        .await?;
        let mut heads: BTreeMap<String, Vec<RawDocumentBuf>> = BTreeMap::new();
        for job in found {
            let lane = job.get_str("lane").unwrap_or_default().to_owned();
            heads.entry(lane).or_default().push(job);
        }
        Ok(heads)
    }

    /// The weights of the lanes' projects.
    async fn weights(&self, lanes: &[ProjectLane]) -> Result<BTreeMap<ProjectId, u32>, StoreError> {
        let ids: Vec<String> = lanes.iter().map(|lane| lane.project.to_string()).collect();
        let found: Vec<Document> = bounded("read the weights of projects", async {
            let projects = self.collection::<Document>("projects");
            let weighted = doc! { "_id": { "$in": ids }, "weight": { "$exists": true } };
            projects.find(weighted).projection(doc! { "weight": 1 }).await?.try_collect().await
        })
        .await?;
        let weight = |project: Document| {
            let weight = project
                .get("weight")
                .and_then(|weight| weight.as_i64().or(weight.as_i32().map(i64::from)))?;
            let weight = u32::try_from(weight).ok()?;
            Some((project.get_str("_id").ok()?.parse().ok()?, weight))
        };
        let mut weights: BTreeMap<_, _> = lanes.iter().map(|lane| (lane.project, 1)).collect();
        weights.extend(found.into_iter().filter_map(weight));
        Ok(weights)
    }
}

impl<'a> Search<'a> {
    /// A look for whatever is due in these partitions, the longest due first, in whatever lane.
    #[must_use]
    pub fn anything(
        room: Room,
        partitions: &'a [u16],
        held: &'a BTreeMap<ProjectLane, usize>,
        now: Timestamp,
    ) -> Self {
        Self {
            room,
            partitions,
            held,
            after: None,
            by_lanes: false,
            is_crowded: false,
            lanes: None,
            takes_over: true,
            since: None,
            each_project: None,
            fair_until: None,
            now,
        }
    }

    /// Leaves those that a peer may still hold, where the answer came too late to tell.
    pub(super) fn spare(&self, candidates: &mut Vec<JobDocument>) {
        if self.fair_until.is_some_and(|(clock, until)| clock.boottime() > until) {
            candidates.retain(|job| job.state == JobState::Queued);
        }
    }

    fn partitions(&self) -> Vec<i32> {
        self.partitions.iter().copied().map(i32::from).collect()
    }

    /// What is due in a lane, of these partitions or all; in each rank from where the last look by lanes saw the oldest.
    fn due_in(&self, lane: ProjectLane, partitions: Option<&[i32]>) -> Document {
        let mut due = doc! { "lane": lane.to_string() };
        if let Some(partitions) = partitions {
            due.insert("p", doc! { "$in": partitions });
        }
        due.extend(self.due());
        let Some(seen) = self.lanes else { return due };
        let of_rank = |rank| {
            let mut of_rank = due.clone();
            of_rank.insert("rank", rank);
            of_rank.insert("claim_at", doc! { "$gte": seen.since(lane, rank) });
            of_rank
        };
        doc! { "$or": RANKS.map(of_rank).collect::<Vec<_>>() }
    }

    /// What is due by the database's clock. That a time is there lets the partial indexes serve, whose bounds end at that
    /// clock's time.
    fn due(&self) -> Document {
        doc! { "claim_at": { "$exists": true }, "$expr": self.comes() }
    }

    /// An expression: the job's time has come. Where nothing is to be taken from a peer that may still live, what was held
    /// has been free for as long as it was held: a peer that lives extends its leases long before.
    fn comes(&self) -> Document {
        let due = doc! { "$lte": ["$claim_at", "$$NOW"] };
        if self.takes_over {
            return due;
        }
        let held = doc! { "$max": ["$lease_ms", millis(FREE_MIN)] };
        let long_free = doc! { "$lte": [{ "$add": ["$claim_at", held] }, "$$NOW"] };
        doc! { "$and": [due, { "$or": [{ "$eq": ["$state", "queued"] }, long_free] }] }
    }
}

/// Since when the first of them that waits has been due.
fn oldest(jobs: &[JobDocument]) -> Option<Timestamp> {
    let waiting = jobs.iter().find(|job| job.state == JobState::Queued)?;
    waiting.claim_at.map(time)
}

fn take(room: &mut usize) -> bool {
    let is_free = *room > 0;
    *room = room.saturating_sub(1);
    is_free
}
