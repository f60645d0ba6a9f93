// SPDX-License-Identifier: Apache-2.0
//! The floor: what this machine does for a loop without a product, with the writes that a cycle cannot do without, and one
//! index for them. It says how much of a missed target is the product's.

use std::time::{Duration, Instant};

use cap_core::limits::{CLAIM_BATCH, JOB_PARTITIONS};
use cap_testkit::mongo::driver::bson::{DateTime, Document, doc};
use cap_testkit::mongo::driver::error::Result;
use cap_testkit::mongo::driver::options::{IndexOptions, ReadConcern, WriteConcern};
use cap_testkit::mongo::driver::{ClientSession, IndexModel};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::bench::figures::number;
use crate::bench::ground::{Ground, World};

/// Clients of it.
pub(crate) const CLIENTS: [usize; 2] = [4, 8];
/// What pads a record to 250 bytes.
const PADDING: usize = 100;
/// Since when all have been due; a lease ends later.
const SINCE: DateTime = DateTime::from_millis(0);
/// Records that are made at once.
const MADE_AT_ONCE: usize = 1_000;

/// What so many clients did in a second.
pub(crate) struct Floor {
    pub(crate) clients: usize,
    pub(crate) claims: f64,
    pub(crate) cycles: f64,
}

pub(crate) async fn run(
    ground: &Ground,
    world: &World,
    clients: usize,
    jobs: usize,
) -> anyhow::Result<Floor> {
    make(world, jobs).await?;
    ground.settle().await?;
    let (claimed, took) = race(clients, |client| claim_all(world, client)).await?;
    let claims = number(claimed) / took.as_secs_f64();
    make(world, jobs).await?;
    ground.settle().await?;
    let (done, took) = race(clients, |client| cycle_all(world, client)).await?;
    Ok(Floor { clients, claims, cycles: number(done) / took.as_secs_f64() })
}

/// Runs so many clients until none finds anything; what they did together, and how long it took.
async fn race<F: Future<Output = anyhow::Result<usize>>>(
    clients: usize,
    client: impl Fn(usize) -> F,
) -> anyhow::Result<(usize, Duration)> {
    let began = Instant::now();
    let done: Vec<usize> =
        stream::iter((0..clients).map(client)).buffer_unordered(clients).try_collect().await?;
    Ok((done.iter().sum(), began.elapsed()))
}

/// Records that wait, the index of claims, and a certificate for each.
async fn make(world: &World, jobs: usize) -> anyhow::Result<()> {
    let (queue, certificates) = (world.collection("floor_jobs"), world.collection("floor_certificates"));
    for collection in [&queue, &certificates, &world.collection("floor_audit")] {
        collection.drop().await?;
    }
    // Several clients would make it at once, each in a transaction of its own.
    world.raw.create_collection("floor_audit").await?;
    let waits = IndexOptions::builder().partial_filter_expression(doc! { "claim_at": { "$exists": true } });
    let claims = IndexModel::builder().keys(doc! { "p": 1, "claim_at": 1 }).options(waits.build());
    queue.create_index(claims.build()).await?;
    let padding = "x".repeat(PADDING);
    for from in (0..jobs).step_by(MADE_AT_ONCE) {
        let ids = || (from..(from + MADE_AT_ONCE).min(jobs)).map(id);
        let job = |(n, id): (usize, String)| {
            let p = i32::try_from(n % usize::from(JOB_PARTITIONS)).unwrap_or(0);
            doc! { "_id": id, "p": p, "claim_at": SINCE, "state": "queued", "attempt": 0, "padding": &padding }
        };
        queue.insert_many(ids().enumerate().map(job)).await?;
        certificates
            .insert_many(ids().map(|id| doc! { "_id": id, "status": "pending", "padding": &padding }))
            .await?;
    }
    Ok(())
}

fn id(n: usize) -> String {
    format!("floor_{n:032}")
}

/// Claims until nothing waits, from partitions of its own first.
async fn claim_all(world: &World, client: usize) -> anyhow::Result<usize> {
    let mut done = 0;
    for p in partitions(client) {
        while let Some(claimed) = claim(world, client, p).await? {
            done += claimed.len();
        }
    }
    Ok(done)
}

/// Claims and completes until nothing waits.
async fn cycle_all(world: &World, client: usize) -> anyhow::Result<usize> {
    let (mut done, mut session) = (0, world.raw.client().start_session().await?);
    for p in partitions(client) {
        while let Some(claimed) = claim(world, client, p).await? {
            if claimed.is_empty() {
                // Others were faster with all of them.
                continue;
            }
            complete(world, &mut session, &claimed).await?;
            done += claimed.len();
        }
    }
    Ok(done)
}

/// All partitions, each client's beginning elsewhere, so that two seldom meet.
fn partitions(client: usize) -> impl Iterator<Item = i32> {
    let all = usize::from(JOB_PARTITIONS);
    let first = client * all / CLIENTS[CLIENTS.len() - 1];
    (0..all).map(move |n| i32::try_from((first + n) % all).unwrap_or(0))
}

/// Claims what waits in a partition; nothing where nothing does.
async fn claim(world: &World, client: usize, p: i32) -> Result<Option<Vec<String>>> {
    let queue = world.collection("floor_jobs");
    let waiting = doc! { "p": p, "claim_at": { "$lte": SINCE } };
    let head = queue.find(waiting).projection(doc! { "_id": 1 }).sort(doc! { "claim_at": 1 });
    let found: Vec<Document> =
        head.limit(i64::try_from(CLAIM_BATCH).unwrap_or(i64::MAX)).await?.try_collect().await?;
    let ids: Vec<&str> = found.iter().filter_map(|job| job.get_str("_id").ok()).collect();
    if ids.is_empty() {
        return Ok(None);
    }
    let token = format!("client-{client}");
    let seen = doc! { "_id": { "$in": &ids }, "attempt": 0 };
    let take = vec![doc! { "$set": {
        "state": "running", "token": &token, "attempt": 1, "claim_at": { "$add": ["$$NOW", 60_000] },
    } }];
    let matched = queue.update_many(seen, take).await?.matched_count;
    if usize::try_from(matched).ok() == Some(ids.len()) {
        return Ok(Some(ids.into_iter().map(str::to_owned).collect()));
    }
    // Another was faster with some.
    let own = queue.find(doc! { "_id": { "$in": &ids }, "token": &token }).projection(doc! { "_id": 1 });
    let own: Vec<Document> = own.await?.try_collect().await?;
    Ok(Some(own.iter().filter_map(|job| job.get_str("_id").ok().map(str::to_owned)).collect()))
}

/// Completes them in one transaction: job, certificate and audit row of each.
async fn complete(world: &World, session: &mut ClientSession, ids: &[String]) -> Result<()> {
    let start = session.start_transaction().read_concern(ReadConcern::snapshot());
    start.write_concern(WriteConcern::majority()).await?;
    let own = doc! { "_id": { "$in": ids } };
    let over = doc! { "$set": { "state": "succeeded" }, "$unset": { "claim_at": 1, "token": 1 } };
    world.collection("floor_jobs").update_many(own.clone(), over).session(&mut *session).await?;
    let issued = doc! { "$set": { "status": "issued", "version": "x".repeat(PADDING) } };
    world.collection("floor_certificates").update_many(own, issued).session(&mut *session).await?;
    let row = |id: &String| doc! { "_id": id, "leaf": "x".repeat(400) };
    world.collection("floor_audit").insert_many(ids.iter().map(row)).session(&mut *session).await?;
    session.commit_transaction().await
}
