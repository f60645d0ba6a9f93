// SPDX-License-Identifier: Apache-2.0
//! What the three drills of a lost primary share: the rounds, and how long nobody could write.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use bson::doc;

use super::world::PATIENCE;
use super::{Figures, Form, Load, Run, Timings, World, checks};
use crate::mongo::ReplicaSet;

/// What is promised: nobody waits longer for a write to be acknowledged.
pub(super) const PROMISED: Duration = Duration::from_secs(15);
/// Writers at once.
const WRITERS: usize = 4;
/// Writes that are acknowledged before the next fault: the load flows.
const FLOW: usize = 40;

/// How a primary is lost.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// It gives its place up, and is a secondary for so many seconds at least.
    StepDown { for_seconds: i32 },
    /// It is killed, and started again once there is another.
    Kill,
    /// It stands still for so long.
    Pause(Duration),
}

/// Loses the primary again and again; `aim` is what a soak's median is judged by.
pub(super) async fn drill(run: Run, fault: Fault, aim: Duration) -> anyhow::Result<Figures> {
    let mut options = run.form.options();
    if run.form == Form::Short {
        (options.apis, options.schedulers) = (1, 1);
    }
    let mut world = World::start(run, options).await?;
    let mut load = Load::start(&world, WRITERS)?;
    let mut gaps = Timings::default();
    for round in 0..run.count {
        world.wait_healthy().await?;
        load.wait_more(FLOW, PATIENCE).await?;
        let gap = lose_primary(&mut world, &mut load, fault).await;
        gaps.push(gap.with_context(|| format!("round {round}, {fault:?}"))?);
    }
    world.wait_healthy().await?;
    let report = load.stop().await?;
    let mut figures = Figures::default();
    gaps.judge(&mut figures, run.form, "wait of a write to be acknowledged", PROMISED, aim);
    checks::aftermath(&world, &report, &mut figures).await?;
    Ok(figures)
}

/// One round; answers the longest that a write waited in it to be acknowledged.
async fn lose_primary(world: &mut World, load: &mut Load, fault: Fault) -> anyhow::Result<Duration> {
    let set = world.replica_set()?;
    let primary = set.primary().await?;
    let began = Instant::now();
    match fault {
        Fault::StepDown { for_seconds } => {
            // Its connection may end with it; whether another is the primary is looked at next.
            let _told = set.command(primary, doc! { "replSetStepDown": for_seconds }).await;
            set.wait_primary_other_than(primary, PATIENCE).await?;
        }
        Fault::Kill => {
            set.kill(primary)?;
            set.wait_primary_other_than(primary, PATIENCE).await?;
            set.restart(primary).await?;
        }
        Fault::Pause(lasts) => pause(set, primary, lasts).await?,
    }
    load.wait_more(FLOW, PATIENCE).await?;
    load.wait_each(PATIENCE).await?;
    Ok(load.longest_wait(began))
}

/// Stops the primary for so long. Its length is the fault itself: what goes on meanwhile must not wait for its end.
async fn pause(set: &ReplicaSet, primary: usize, lasts: Duration) -> anyhow::Result<()> {
    set.pause(primary)?;
    let other = tokio::join!(set.wait_primary_other_than(primary, lasts), tokio::time::sleep(lasts)).0;
    set.resume(primary)?;
    other.map(drop).context("while the old one stood still")
}
