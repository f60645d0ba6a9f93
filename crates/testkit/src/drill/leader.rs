// SPDX-License-Identifier: Apache-2.0
//! The leader of the schedulers is killed, stands still, or is told to stop.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bson::doc;

use super::leadership::{Lease, queued_otherwise, scheduler, settled};
use super::sides;
use super::world::PATIENCE;
use super::{Drill, Figures, Form, Load, Run, Timings, World, checks};
use crate::process::Signal;
use crate::stack::Role;
use crate::wait::{self, Pending};

pub(super) const DRILL: Drill = Drill {
    name: "leader",
    injects: "the leading scheduler is killed, paused and told to stop, each so often, while certificates fall due; at the end \
              the database holds up a leader's write until another has led",
    must_hold: "another leads within 30 s (aim: SIGTERM 100 ms, else the lease and 0.5 s); every renewal is queued once; what \
                a leader that was overtaken tells of the queue is not written",
    short: 5,
    soak: 100,
    any_ca: false,
    run: |run| Box::pin(drill(run, None)),
};

/// The same with a leader whose writes do without the epoch: the drill must find that.
///
/// # Errors
/// When the drill cannot be run to its end.
pub async fn leader_without_epoch(run: Run) -> anyhow::Result<Figures> {
    drill(run, Some("no-epoch")).await
}

/// What is promised of every takeover.
const PROMISED: Duration = Duration::from_secs(30);
/// What is aimed at when the leader could step down.
const AIM_SIGTERM: Duration = Duration::from_millis(100);
/// What is aimed at when it could not, beyond the lease.
const AIM_BEYOND_LEASE: Duration = Duration::from_millis(500);
/// The leases of the two forms; the longer one is the product's own.
const SHORT_LEASE: Duration = Duration::from_secs(3);
const SOAK_LEASE: Duration = Duration::from_secs(15);
/// How long the database holds a leader's write up, beyond the lease: longer than another one needs to lead and to write.
const HELD_UP: Duration = Duration::from_secs(7);
/// Within this the write is made then; shorter than the wait between two of a leader's own.
const SEEN_WITHIN: Duration = Duration::from_secs(3);
/// Certificates that fall due in each round.
const WATCHED: usize = 3;

#[derive(Clone, Copy, Debug)]
enum Fault {
    Kill,
    Pause,
    Stop,
}

async fn drill(run: Run, mutant: Option<&str>) -> anyhow::Result<Figures> {
    let lease = match run.form {
        Form::Short => SHORT_LEASE,
        Form::Soak => SOAK_LEASE,
    };
    let lease_setting = format!("{}s", lease.as_secs());
    let mut options = run.form.options().with(Role::Scheduler, "CAP_SCHEDULER_LEASE", &lease_setting);
    options.schedulers = 3;
    if let Some(mutant) = mutant {
        options = options.with(Role::Scheduler, "CAP_DRILL_MUTANT", mutant);
    }
    let mut world = World::start(run, options).await?;
    let names: Vec<String> = (0..WATCHED).map(|n| format!("watched-{n}.example.test")).collect();
    let watched = world.issued(&names).await?;
    let load = Load::start(&world, 1)?;
    let [mut killed, mut paused, mut stopped] = [Timings::default(), Timings::default(), Timings::default()];
    let mut windows = 0;
    for _ in 0..run.count {
        for (fault, timings) in
            [(Fault::Kill, &mut killed), (Fault::Pause, &mut paused), (Fault::Stop, &mut stopped)]
        {
            let first = settled(&world).await?;
            world.make_due(&watched, 0).await?;
            windows += 1;
            timings.push(takeover(&world, fault, &first).await?);
            world.wait_version(&watched, windows + 1, PATIENCE).await?;
            heal(&mut world, &first.holder).await?;
        }
    }
    let overtaken = overtake(&mut world, lease).await?;
    let report = load.stop().await?;
    let mut figures = Figures::default();
    figures.none("writes of a leader that was overtaken", overtaken);
    let aim = lease + AIM_BEYOND_LEASE;
    killed.judge(&mut figures, run.form, "takeover after SIGKILL", PROMISED, aim);
    paused.judge(&mut figures, run.form, "takeover after SIGSTOP", PROMISED, aim);
    stopped.judge(&mut figures, run.form, "takeover after SIGTERM", PROMISED, AIM_SIGTERM);
    let windows = usize::try_from(windows)?;
    figures.count("renewals that fell due", windows * watched.len());
    figures.none("renewals not queued once", queued_otherwise(&world, &watched, windows).await?);
    checks::aftermath(&world, &report, &mut figures).await?;
    Ok(figures)
}

/// Breaks the leader; answers how long it took until another had the lease.
async fn takeover(world: &World, fault: Fault, first: &Lease) -> anyhow::Result<Duration> {
    let leader = scheduler(world, &first.holder)?;
    let began = Instant::now();
    match fault {
        Fault::Kill => leader.kill9()?,
        Fault::Pause => ensure!(leader.signal(Signal::STOP)?, "{} was gone", first.holder),
        Fault::Stop => ensure!(leader.signal(Signal::TERM)?, "{} was gone", first.holder),
    }
    wait::until(&format!("another leader than {} after {fault:?}", first.holder), PATIENCE, || async {
        let now = Lease::read(world).await.map_err(Pending::not_yet)?;
        if now.epoch > first.epoch && now.holder != first.holder {
            Ok(())
        } else {
            Err(Pending::not_yet(format_args!("{now:?}")))
        }
    })
    .await?;
    let took = began.elapsed();
    if matches!(fault, Fault::Stop) {
        let exit = leader.wait_exit(PATIENCE).await?;
        ensure!(exit == Some(0), "{} ended with {exit:?}: {}", first.holder, leader.process().log_tail());
    }
    Ok(took)
}

/// The database holds up a leader's write until another one has led and written its own. Answers how many were made then that
/// are of the earlier epoch.
async fn overtake(world: &mut World, lease: Duration) -> anyhow::Result<usize> {
    let held_up = lease + HELD_UP;
    let first = settled(world).await?;
    let gauges = world.collection("gauges");
    let held = doc! {
        "failCommands": ["update"], "namespace": gauges.namespace().to_string(), "blockConnection": true,
        "blockTimeMS": i64::try_from(held_up.as_millis())?,
    };
    let primary = sides::primary(world).await?;
    let set = world.replica_set()?;
    let held_before = set.fail_commands(primary, 1, held).await?;
    wait::until("a write of the leader to be held up", PATIENCE, || async {
        match set.failed_commands(primary).await.map_err(Pending::not_yet)? {
            held if held > held_before => Ok(()),
            _ => Err(Pending::not_yet("none is")),
        }
    })
    .await?;
    let began = Instant::now();
    let leader = scheduler(world, &first.holder)?;
    ensure!(leader.signal(Signal::STOP)?, "{} was gone", first.holder);
    let gauge = async || -> anyhow::Result<i64> {
        let found = gauges.find_one(doc! { "_id": "queue" }).await?;
        Ok(found.context("there is no gauge")?.get_i64("fence")?)
    };
    wait::until("the next leader's gauge", PATIENCE, || async {
        match gauge().await.map_err(Pending::not_yet)? {
            fence if fence > first.epoch => Ok(()),
            fence => Err(Pending::not_yet(fence)),
        }
    })
    .await?;
    ensure!(began.elapsed() < held_up, "the next leader was too late: {:?}", began.elapsed());
    let mut written = 0;
    // The next leader's own next write hides it later.
    while written == 0 && began.elapsed() < held_up + SEEN_WITHIN {
        written = usize::from(gauge().await? <= first.epoch);
        tokio::time::sleep(wait::LOOK_EVERY).await;
    }
    heal(world, &first.holder).await?;
    Ok(written)
}

/// Has the scheduler that was broken stand by again.
async fn heal(world: &mut World, name: &str) -> anyhow::Result<()> {
    let found = world.stack.schedulers.iter_mut().find(|service| service.name() == name);
    let broken = found.with_context(|| format!("there is no {name}"))?;
    broken.signal(Signal::CONT)?;
    if !broken.process().is_running() {
        broken.restart()?;
    }
    broken.wait_ready(PATIENCE).await
}
