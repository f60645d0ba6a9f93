// SPDX-License-Identifier: Apache-2.0
//! The same beside millions: claims with finished jobs, claims and the depth with queued ones, each in turn with an empty
//! queue in the same replica set, so that whatever slows the machine down slows both.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use cap_core::id::ClaimId;
use cap_core::job::Room;
use cap_core::limits::JOB_PARTITIONS;
use cap_store::Search;
use cap_testkit::mongo::driver::bson::{Document, doc};

use super::cycle;
use crate::bench::figures::Times;
use crate::bench::ground::{Ground, World};
use crate::bench::seed::Template;

/// Claims of one job, in each of the databases.
const ROUNDS: usize = 400;
/// The first claims, which warm caches up, do not count.
const WARM: usize = 40;
/// No claim of a bench runs out.
const LEASE: Duration = Duration::from_secs(600);
/// Readings of the gauge.
const READINGS: usize = 300;
/// Samplings of the queue.
const SAMPLINGS: usize = 10;

/// A claim of one job, and a look that finds none.
#[derive(Default)]
pub(crate) struct Claim {
    pub(crate) claim: Times,
    pub(crate) look: Times,
}

/// How it is asked how deep the queue is.
pub(crate) struct Depth {
    pub(crate) reading: Times,
    pub(crate) sampling: Times,
    pub(crate) jobs: u64,
}

/// A finished job, as a worker leaves it.
pub(crate) async fn finished(
    ground: &Ground,
    world: &World,
    template: &Template,
) -> anyhow::Result<Document> {
    cycle::run(ground, world, template, (8, 1), 100).await?;
    let over = world.collection("jobs").find_one(doc! { "state": "succeeded" }).await?;
    over.context("no job succeeded")
}

/// Loads jobs that are over.
pub(crate) async fn load_finished(world: &World, finished: &Document, count: usize) -> anyhow::Result<()> {
    world.load("jobs", count, |_| world.copy_alone(finished)).await
}

/// Loads jobs that are due, on issuers that are gone: workers that come to them cancel them.
pub(crate) async fn load_queued(world: &World, template: &Template, count: usize) -> anyhow::Result<()> {
    let mut due = template.job.clone();
    due.insert("claim_at", due.get("created_at").cloned().context("a job has a time")?);
    world.load("jobs", count, |_| world.copy_alone(&due)).await
}

/// Claims in turn, one job at a time; then looks in turn where none is due, unless one of them has more.
pub(crate) async fn claims(worlds: [(&World, &Template); 2], looks: bool) -> anyhow::Result<[Claim; 2]> {
    for (world, template) in worlds {
        let project = world.hold_back(template, ROUNDS + WARM).await?;
        world.release(project).await?;
    }
    let mut took = [Vec::new(), Vec::new()];
    for round in 0..ROUNDS + WARM {
        for (took, (world, _)) in took.iter_mut().zip(worlds) {
            let (time, claimed) = claim(world).await?;
            ensure!(claimed == 1, "a claim of one got {claimed}");
            if round >= WARM {
                took.push(time);
            }
        }
    }
    let mut looked = [Vec::new(), Vec::new()];
    for _ in 0..if looks { ROUNDS } else { 0 } {
        for (looked, (world, _)) in looked.iter_mut().zip(worlds) {
            let (time, claimed) = claim(world).await?;
            ensure!(claimed == 0, "a job was due that nobody queued");
            looked.push(time);
        }
    }
    let [one, other] = took.map(Times::new);
    let [look, other_look] = looked.map(Times::new);
    Ok([Claim { claim: one, look }, Claim { claim: other, look: other_look }])
}

async fn claim(world: &World) -> anyhow::Result<(Duration, usize)> {
    let all: Vec<u16> = (0..JOB_PARTITIONS).collect();
    let token = ClaimId::generate(world.clock.as_ref(), world.entropy.as_ref());
    let began = world.clock.boottime();
    let store = &world.cluster.store;
    let (held, now) = (BTreeMap::new(), world.clock.now());
    let search = Search::anything(Room { all: 1, side: 0 }, &all, &held, now);
    let search = Search { by_lanes: true, ..search };
    let claimed = store.claim_jobs("bench", token, LEASE, &search).await?;
    Ok((world.since(began), claimed.claims.len()))
}

/// Samples the queue as the leader does, and reads the gauge as everybody does.
pub(crate) async fn depth(world: &World) -> anyhow::Result<Depth> {
    let store = &world.cluster.store;
    let (mut sampling, mut reading, mut jobs) = (Vec::new(), Vec::new(), 0);
    for _ in 0..SAMPLINGS {
        let began = world.clock.boottime();
        let sample = store.sample_queue().await?;
        sampling.push(world.since(began));
        jobs = sample.depth.jobs;
        store.record_queue(&sample, 1).await?;
    }
    for _ in 0..READINGS {
        let began = world.clock.boottime();
        store.queue_sample().await?.context("the gauge is empty")?;
        reading.push(world.since(began));
    }
    Ok(Depth { reading: Times::new(reading), sampling: Times::new(sampling), jobs })
}
