// SPDX-License-Identifier: Apache-2.0
//! Writers past our services, for numbers: raw inserts, each remembered once a majority has acknowledged it.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use bson::{Document, doc};
use futures_util::TryStreamExt as _;
use mongodb::options::{ClientOptions, ReadConcern, WriteConcern};
use mongodb::{Client, Collection};
use tokio::task::JoinSet;

use super::World;
use crate::network::Host;

/// The collection that they write to, in the database of the drill.
const COLLECTION: &str = "drill_volume";
/// One insert; beyond it its outcome is unknown, and it is not counted.
const WRITE_MAX: Duration = Duration::from_secs(5);
/// How soon a dead member is found out, as our services do.
const NOTICE: Duration = Duration::from_secs(2);
/// The wait between two writes of one writer: the load is for numbers, and must leave the machine to the others.
const PACE: Duration = Duration::from_millis(10);

/// A group of writers on one host, on a thread of its own.
#[derive(Debug)]
pub(super) struct Volume {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicUsize>,
    thread: Option<std::thread::JoinHandle<anyhow::Result<Vec<String>>>>,
}

/// Writers whose drill failed end as well: they hold their host's network.
impl Drop for Volume {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Volume {
    /// Starts so many writers on this host.
    pub(super) fn start(host: &Arc<Host>, uri: &str, writers: usize) -> Self {
        let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (host, uri, shared) = (host.clone(), uri.to_owned(), (stop.clone(), count.clone()));
        let thread = std::thread::spawn(move || host.run(|| write(host.name(), &uri, writers, shared)));
        Self { stop, count, thread: Some(thread) }
    }

    /// How many writes were acknowledged so far.
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Ends the writers; answers the ids of what was acknowledged.
    pub(super) async fn stop(mut self) -> anyhow::Result<Vec<String>> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("the writers were stopped before")?;
        let joined = tokio::task::spawn_blocking(move || thread.join()).await?;
        joined.map_err(|_| anyhow!("a thread of raw writers panicked"))?
    }
}

type Shared = (Arc<AtomicBool>, Arc<AtomicUsize>);

async fn write(group: &str, uri: &str, writers: usize, shared: Shared) -> anyhow::Result<Vec<String>> {
    let things = collection(uri).await?;
    let mut tasks = JoinSet::new();
    for writer in 0..writers {
        let (things, shared, name) = (things.clone(), shared.clone(), format!("{group}-{writer}"));
        tasks.spawn(insert(things, name, shared));
    }
    Ok(tasks.join_all().await.concat())
}

async fn insert(things: Collection<Document>, name: String, (stop, count): Shared) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for n in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let id = format!("{name}-{n}");
        let written = tokio::time::timeout(WRITE_MAX, things.insert_one(doc! { "_id": &id }).into_future());
        if matches!(written.await, Ok(Ok(_))) {
            acknowledged.push(id);
            count.fetch_add(1, Ordering::Relaxed);
        }
        tokio::time::sleep(PACE).await;
    }
    acknowledged
}

async fn collection(uri: &str) -> anyhow::Result<Collection<Document>> {
    let mut options = ClientOptions::parse(uri).await?;
    options.connect_timeout = Some(NOTICE);
    options.heartbeat_freq = Some(NOTICE);
    options.server_selection_timeout = Some(WRITE_MAX);
    options.write_concern = Some(WriteConcern::majority());
    let database = Client::with_options(options)?.default_database();
    Ok(database.context("the drill's connection string names a database")?.collection(COLLECTION))
}

/// How many of these are not there.
pub(super) async fn lost(world: &World, acknowledged: &[String]) -> anyhow::Result<usize> {
    let things = world.collection(COLLECTION);
    let all = things.find(doc! {}).projection(doc! { "_id": 1 }).read_concern(ReadConcern::majority());
    let there: HashSet<String> = all
        .await?
        .try_filter_map(async |thing| Ok(thing.get_str("_id").ok().map(str::to_owned)))
        .try_collect()
        .await?;
    Ok(acknowledged.iter().filter(|id| !there.contains(*id)).count())
}
