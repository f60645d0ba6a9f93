// SPDX-License-Identifier: Apache-2.0
//! The wake-up: from the enqueue of one job to its start, by a worker that has nothing else to do.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use cap_core::entropy;
use cap_testkit::mongo::driver::bson::doc;
use cap_testkit::wait::{self, Pending};
use futures_util::TryStreamExt as _;

use super::worker::{Task, Worker, asked_at};
use crate::bench::figures::Times;
use crate::bench::ground::World;

/// Between two jobs, with jitter: the worker is idle again.
const PAUSE: (Duration, Duration) = (Duration::from_millis(40), Duration::from_millis(140));
/// How long the last job may take.
const LIMIT: Duration = Duration::from_secs(30);
/// The worker's places.
const CONCURRENCY: usize = 8;

/// From the enqueue to the start.
pub(crate) struct Wake {
    /// From the answer to the enqueue: by then it is committed by a majority.
    pub(crate) from_answer: Times,
    /// From the start of the enqueue, whose own commit is in it.
    pub(crate) from_call: Times,
}

pub(crate) async fn run(world: &World, count: usize) -> anyhow::Result<Wake> {
    let worker = Worker::start(world, "idle".to_owned(), Task::Run(CONCURRENCY)).await?;
    let mut asked = HashMap::with_capacity(count);
    // The first ones find connections that are still being made.
    for n in 0..count + count / 10 {
        let issuer = world.issuer().await?;
        let called = world.clock.boottime();
        world.enqueue(&issuer, Duration::ZERO).await?;
        let answered = world.clock.boottime();
        if n >= count / 10 {
            asked.insert(issuer.id.to_string(), (called, answered));
        }
        world.clock.sleep(entropy::between(world.entropy.as_ref(), PAUSE.0, PAUSE.1)).await;
    }
    let own = doc! { "project": world.project.to_string(), "status": "ready" };
    let wanted = u64::try_from(count + count / 10)?;
    wait::until("every job to be done", LIMIT, || async {
        let done =
            world.collection("issuers").count_documents(own.clone()).await.map_err(Pending::not_yet)?;
        if done >= wanted { Ok(()) } else { Err(Pending::not_yet(format_args!("{done} of {wanted}"))) }
    })
    .await?;
    worker.end().await?;
    let mut issuers = world.collection("issuers").find(own).await?;
    let (mut from_answer, mut from_call) = (Vec::new(), Vec::new());
    while let Some(issuer) = issuers.try_next().await? {
        let Some((called, answered)) = asked.get(issuer.get_str("_id")?) else { continue };
        let started = asked_at(issuer.get_str("account_url")?).context("no start in the account's URL")?;
        from_call.push(started.saturating_sub(*called));
        from_answer.push(started.saturating_sub(*answered));
    }
    ensure!(from_answer.len() == count, "{} of {count} jobs were started", from_answer.len());
    Ok(Wake { from_answer: Times::new(from_answer), from_call: Times::new(from_call) })
}
