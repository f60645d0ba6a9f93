// SPDX-License-Identifier: Apache-2.0
//! Workers are killed at random while they issue, and a fifth of all good nonces is refused.

use std::collections::HashMap;
use std::time::Duration;

use bson::{DateTime, Document, doc};
use futures_util::TryStreamExt as _;

use super::world::PATIENCE;
use super::{Drill, Figures, Form, Load, Run, World, checks};
use crate::ca::{CaKind, Fault, FaultRule};
use crate::luck::Luck;

pub(super) const DRILL: Drill = Drill {
    name: "worker-kill",
    injects: "a worker is killed at a random moment while certificates are issued and 20 % of all good nonces are refused",
    must_hold: "no job lost, no certificate bought twice, at most one pending order left behind for each kill, each job \
                done within 5 minutes of its last kill",
    short: 60,
    soak: 1_000,
    any_ca: true,
    run: |run| Box::pin(drill(run)),
};

/// How many good nonces of a hundred are refused.
const BAD_NONCE_PERCENT: u8 = 20;
/// So that requests are under way when a worker dies.
const ANSWER_DELAY: Duration = Duration::from_millis(30);
/// From the requests to the kill: an issuance is a dozen answers long.
const LIFE_MAX_MS: u64 = 400;
/// Certificates that are asked for before each kill, so that both workers have something to lose.
const ASKED_BEFORE_A_KILL: u32 = 3;
const WRITERS: usize = 1;
const SEED: u64 = 20_261_128;
/// What is promised of each job.
const DONE_WITHIN: Duration = Duration::from_secs(300);

async fn drill(run: Run) -> anyhow::Result<Figures> {
    let mut options = run.form.options();
    // Nothing happens to the database here.
    options.shared_mongo = run.form == Form::Short;
    options.pebble.bad_nonce_percent = BAD_NONCE_PERCENT;
    let mut world = World::start(run, options).await?;
    if run.ca == CaKind::StepCa {
        // It refuses none by itself.
        let refuse = FaultRule::always(Fault::BadNonce).likely(f64::from(BAD_NONCE_PERCENT) / 100.0, SEED);
        world.stack.ca().inject(&refuse).await?;
    }
    world.stack.ca().set_delay(ANSWER_DELAY).await?;
    let mut load = Load::start(&world, WRITERS)?;
    let (mut luck, mut last_kill) = (Luck::seeded(SEED), HashMap::new());
    let mut idle = 0;
    for kill in 0..run.count {
        load.wait_more(1, PATIENCE).await?;
        for n in 0..ASKED_BEFORE_A_KILL {
            world.demo.request(&world.api()?, &[&format!("killed-{kill}-{n}.example.test")]).await?;
        }
        // Anywhere within an issuance.
        tokio::time::sleep(Duration::from_millis(luck.below(LIFE_MAX_MS))).await;
        idle += usize::from(!kill_one(&mut world, &mut luck, &mut last_kill).await?);
    }
    let report = load.stop().await?;
    let mut figures = Figures::default();
    let kills = usize::try_from(run.count)?;
    figures.count("kills", kills);
    figures.count_at_most("kills while nothing was being issued", idle, kills / 2);
    figures.count("jobs that a kill may have interrupted", last_kill.len());
    checks::aftermath(&world, &report, &mut figures).await?;
    let longest = longest(&world, &last_kill).await?;
    figures.at_most("a job's end after its last kill (longest)", longest, DONE_WITHIN);
    let ordered = world.stack.ca().counts().await?.totals;
    let pending = usize::try_from(ordered.orders.saturating_sub(ordered.finalized))?;
    figures.count_at_most("pending orders left behind", pending, kills);
    Ok(figures)
}

/// Kills one of the workers that work on something, or any where none does, notes which jobs it was working on, and waits until
/// it is back. Answers whether there was one.
async fn kill_one(
    world: &mut World,
    luck: &mut Luck,
    last_kill: &mut HashMap<String, DateTime>,
) -> anyhow::Result<bool> {
    let holds = doc! { "$gt": ["$claim_at", "$$NOW"] };
    let running = doc! { "work.kind": "issue", "state": "running", "$expr": holds };
    let jobs = world.collection("jobs").find(running).projection(doc! { "now": "$$NOW", "owner": 1 }).await?;
    let mut jobs: Vec<Document> = jobs.try_collect().await?;
    let workers = &mut world.stack.workers;
    let is_own = |job: &Document, name: &str| job.get_str("owner").is_ok_and(|owner| owner == name);
    let works = |index: &usize| jobs.iter().any(|job| is_own(job, workers[*index].name()));
    let mut victims: Vec<usize> = (0..workers.len()).filter(works).collect();
    if victims.is_empty() {
        victims = (0..workers.len()).collect();
    }
    let index = victims[usize::try_from(luck.below(u64::try_from(victims.len())?))?];
    jobs.retain(|job| is_own(job, workers[index].name()));
    workers[index].kill9()?;
    for job in &jobs {
        last_kill.insert(job.get_str("_id")?.to_owned(), *job.get_datetime("now")?);
    }
    workers[index].restart()?;
    workers[index].wait_ready(PATIENCE).await?;
    Ok(!jobs.is_empty())
}

/// The longest time between a job's last kill and its end, by the database's clock.
async fn longest(world: &World, last_kill: &HashMap<String, DateTime>) -> anyhow::Result<Duration> {
    let mut longest = Duration::ZERO;
    let mut jobs = world.collection("jobs").find(doc! { "work.kind": "issue" }).await?;
    while let Some(job) = jobs.try_next().await? {
        let (Some(killed), Ok(ended)) = (last_kill.get(job.get_str("_id")?), job.get_datetime("finished_at"))
        else {
            continue;
        };
        longest = longest.max(ended.checked_duration_since(*killed).unwrap_or_default());
    }
    Ok(longest)
}
