// SPDX-License-Identifier: Apache-2.0
//! Claims alone: one claimer a process, as the runner has it.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use cap_core::limits::JOB_PARTITIONS;
use cap_testkit::mongo::driver::bson::doc;
use cap_testkit::wait::{self, Pending};

use super::worker::{Claimed, Task, Worker};
use crate::bench::figures::{Times, number};
use crate::bench::ground::{Ground, World, real};
use crate::bench::seed::Template;

/// Claimers, each a process of its own.
pub(crate) const CLAIMERS: [usize; 3] = [1, 4, 8];
/// How long they may take before something is stuck.
const LIMIT: Duration = Duration::from_secs(120);
/// How often it is looked whether all are claimed.
const LOOK: Duration = Duration::from_millis(200);

/// What so many claimers did.
pub(crate) struct Claims {
    pub(crate) claimers: usize,
    pub(crate) rate: f64,
    /// Of one claim.
    pub(crate) times: Times,
    pub(crate) aborts_a_job: f64,
    /// Of all members together.
    pub(crate) cpu_ms_a_job: f64,
}

pub(crate) async fn run(
    ground: &Ground,
    world: &World,
    template: &Template,
    claimers: usize,
    jobs: usize,
) -> anyhow::Result<Claims> {
    let project = world.hold_back(template, jobs).await?;
    world.release(project).await?;
    let tasks = (0..claimers).map(|n| Worker::start(world, format!("claimer-{n}"), Task::Claim));
    let mut running = futures_util::future::try_join_all(tasks).await?;
    // What makes the jobs due costs as much as to claim them, and is over when they begin.
    ground.settle().await?;
    let before = ground.counts().await?;
    for worker in &mut running {
        worker.begin().await?;
    }
    let all: Vec<i32> = (0..JOB_PARTITIONS).map(i32::from).collect();
    let waiting = doc! {
        "p": { "$in": all }, "state": "queued", "claim_at": { "$exists": true }, "project": project.to_string(),
    };
    wait::until("every job to be claimed", LIMIT, || async {
        tokio::time::sleep(LOOK).await;
        let jobs = world.collection("jobs");
        match jobs.find_one(waiting.clone()).await.map_err(Pending::not_yet)? {
            None => Ok(()),
            Some(_) => Err(Pending::not_yet("some wait")),
        }
    })
    .await?;
    let counts = ground.counts().await?.since(before);
    let (mut all, mut took) = (Vec::new(), Vec::new());
    for worker in running {
        let claimed: Claimed = serde_json::from_str(&worker.end().await?).context("what a claimer says")?;
        took.extend_from_slice(&claimed.took);
        all.push(claimed);
    }
    let claimed: usize = all.iter().map(|one| one.jobs).sum();
    let own = doc! { "lists": project.to_string() };
    let once = doc! { "lists": project.to_string(), "attempt": 1 };
    let once = world.collection("jobs").count_documents(once).await?;
    ensure!(once == u64::try_from(jobs)?, "{once} of {jobs} jobs were claimed once");
    // A claim whose answer was lost holds its jobs all the same; it does not count as done.
    ensure!(claimed <= jobs && claimed * 10 >= jobs * 9, "{claimed} of {jobs} claims were answered");
    let at_work = || all.iter().filter(|one| one.jobs > 0);
    let from = at_work().map(|one| one.first_began).min().context("nobody claimed")?;
    let to = at_work().map(|one| one.last_ended).max().context("nobody claimed")?;
    // They are out of everybody's way from now on.
    world.collection("jobs").delete_many(own).await?;
    Ok(Claims {
        claimers,
        rate: number(claimed) / to.saturating_sub(from).as_secs_f64(),
        times: Times::new(took),
        aborts_a_job: real(counts.aborted) / number(jobs),
        cpu_ms_a_job: 1_000.0 * counts.cpu_seconds / number(jobs),
    })
}
