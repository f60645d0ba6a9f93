// SPDX-License-Identifier: Apache-2.0
//! The whole cycle: jobs that workers claim, run and complete, each with its certificate's stand-in, an issuer, and its
//! audit row in the same transaction.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use cap_core::id::ProjectId;
use cap_testkit::mongo::driver::bson::{Bson, doc};
use cap_testkit::wait::{self, Pending};
use futures_util::TryStreamExt as _;

use super::worker::{Task, Worker};
use crate::bench::figures::{Times, ms, number};
use crate::bench::ground::{Counts, Ground, World, real};
use crate::bench::seed::{Template, living};

/// Jobs in flight, and workers that share them.
pub(crate) const CELLS: [(usize, usize); 10] =
    [(1, 1), (8, 1), (8, 2), (8, 4), (32, 1), (32, 2), (32, 4), (128, 1), (128, 2), (128, 4)];
/// How long one cell may take before something is stuck.
const LIMIT: Duration = Duration::from_secs(300);
/// How often it is looked whether all are done.
const LOOK: Duration = Duration::from_millis(250);
/// Of the completions, the first twentieth and the last tenth are not counted: workers start, and the last jobs share
/// nothing with anybody.
const WARM: usize = 20;
const TAIL: usize = 10;

/// What one cell did.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    pub(crate) in_flight: usize,
    pub(crate) workers: usize,
    pub(crate) rate: f64,
    /// From a job's claim to its completion.
    pub(crate) times: Times,
    pub(crate) aborts_a_job: f64,
    pub(crate) commits_a_job: f64,
    pub(crate) conflicts_a_job: f64,
    /// Of all members together.
    pub(crate) cpu_ms_a_job: f64,
}

/// How many jobs a cell takes: it should last some seconds whatever its size.
pub(crate) fn jobs_for(in_flight: usize, jobs: usize) -> usize {
    (jobs * in_flight / 32).clamp(jobs / 20, jobs).max(WARM + TAIL)
}

/// Runs one cell on jobs that were not there before.
pub(crate) async fn run(
    ground: &Ground,
    world: &World,
    template: &Template,
    (in_flight, workers): (usize, usize),
    jobs: usize,
) -> anyhow::Result<Cell> {
    let project = world.hold_back(template, jobs).await?;
    world.release(project).await?;
    ground.settle().await?;
    let before = ground.counts().await?;
    let tasks =
        (0..workers).map(|n| Worker::start(world, format!("bench-{n}"), Task::Run(in_flight / workers)));
    let running = futures_util::future::try_join_all(tasks).await?;
    let (living, wanted) = (doc! { "lists": living(project) }, u64::try_from(jobs)?);
    wait::until("every job of the cell to be done", LIMIT, || async {
        tokio::time::sleep(LOOK).await;
        match world.collection("jobs").find_one(living.clone()).await.map_err(Pending::not_yet)? {
            None => Ok(()),
            Some(_) => Err(Pending::not_yet("some are not over")),
        }
    })
    .await?;
    let counts = ground.counts().await?.since(before);
    for worker in running {
        worker.end().await?;
    }
    audited(world, project, wanted).await?;
    let (rate, times) = measured(world, project).await?;
    let a_job = |count: i64| real(count) / number(jobs);
    let Counts { aborted, committed, conflicts, cpu_seconds } = counts;
    Ok(Cell {
        in_flight,
        workers,
        rate,
        times,
        aborts_a_job: a_job(aborted),
        commits_a_job: a_job(committed),
        conflicts_a_job: a_job(conflicts),
        cpu_ms_a_job: 1_000.0 * cpu_seconds / number(jobs),
    })
}

/// Every job made its issuer ready and left an audit row; a cycle that skips them would be measured for nothing.
async fn audited(world: &World, project: ProjectId, jobs: u64) -> anyhow::Result<()> {
    let ready = doc! { "project": project.to_string(), "status": "ready" };
    let mut issuers = world.collection("issuers").find(ready).projection(doc! { "last_event": 1 }).await?;
    let (mut found, outbox) = (0, world.collection("audit_outbox"));
    let mut last = None;
    while let Some(issuer) = issuers.try_next().await? {
        found += 1;
        last = Some(issuer.get_str("last_event")?.to_owned());
    }
    ensure!(found == jobs, "{found} of {jobs} issuers are ready");
    let row = outbox.find_one(doc! { "_id": last }).await?;
    row.context("a completed job has no audit row").map(drop)
}

/// The rate of the middle of the run, and each job's time, by what the database recorded.
async fn measured(world: &World, project: ProjectId) -> anyhow::Result<(f64, Times)> {
    let jobs = world.collection("jobs");
    let own = jobs.find(doc! { "lists": project.to_string() });
    let mut own = own.projection(doc! { "finished_at": 1, "attempts": 1 }).await?;
    let (mut ends, mut took) = (Vec::new(), Vec::new());
    while let Some(job) = own.try_next().await? {
        let end = job.get_datetime("finished_at")?.timestamp_millis();
        let last = job
            .get_array("attempts")?
            .last()
            .and_then(Bson::as_document)
            .context("a job without attempts")?;
        let ms = end - last.get_datetime("started_at")?.timestamp_millis();
        took.push(Duration::from_millis(u64::try_from(ms).unwrap_or(0)));
        ends.push(end);
    }
    ends.sort_unstable();
    let (from, to) = (ends.len() / WARM, ends.len() - ends.len() / TAIL - 1);
    let span = Duration::from_millis(u64::try_from(ends[to] - ends[from])?.max(1));
    Ok((number(to - from) / span.as_secs_f64(), Times::new(took)))
}

/// The head of the table.
pub(crate) fn print_head() {
    println!(
        "  {:>9} {:>8} {:>9} {:>9} {:>8} {:>8} {:>11} {:>12} {:>14} {:>18}",
        "in flight",
        "workers",
        "jobs/s",
        "x insert",
        "p50 ms",
        "p99 ms",
        "aborts/job",
        "commits/job",
        "conflicts/job",
        "members' CPU ms/job"
    );
}

impl Cell {
    /// Prints it beside the inserts of the same concurrency.
    pub(crate) fn print(&self, inserts: f64) {
        println!(
            "  {:>9} {:>8} {:>9.0} {:>9.2} {:>8.0} {:>8.0} {:>11.4} {:>12.3} {:>14.4} {:>18.2}",
            self.in_flight,
            self.workers,
            self.rate,
            self.rate / inserts,
            ms(self.times.median()),
            ms(self.times.p99()),
            self.aborts_a_job,
            self.commits_a_job,
            self.conflicts_a_job,
            self.cpu_ms_a_job,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_cells_take_fewer_jobs_and_no_cell_too_few() {
        assert_eq!([1, 8, 32, 128].map(|n| jobs_for(n, 8_000)), [400, 2_000, 8_000, 8_000]);
        assert_eq!(jobs_for(1, 10), WARM + TAIL);
    }
}
