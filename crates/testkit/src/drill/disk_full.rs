// SPDX-License-Identifier: Apache-2.0
//! Disks of the database are full: a secondary's, the primary's, and those of a majority.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use bson::doc;

use super::sides;
use super::world::PATIENCE;
use super::{Drill, Figures, Load, Run, World, checks};
use crate::mongo::ReplicaSet;
use crate::progress::say;
use crate::stack::ApiClient;
use crate::wait::{self, Pending};

pub(super) const DRILL: Drill = Drill {
    name: "disk-full",
    injects: "the disk of a secondary is full, then the primary's, then those of a majority; then there is room again",
    must_hold: "no acknowledged write is lost or torn, and with a majority none is 20 s behind the one before; without one \
                everybody is refused with 503, and all is back within 15 s of its return without a restart of ours",
    short: 3,
    soak: 30,
    any_ca: false,
    run: |run| Box::pin(drill(run)),
};

/// Room for a member's journal, oplog and data in a soak.
const DISK_MIB: u32 = 512;
const OPLOG_MB: u32 = 64;
/// The longest that writes may stall while there is a majority: as when the primary is lost otherwise, and a member whose disk is full
/// takes some seconds to end.
const GAP_WITHIN: Duration = Duration::from_secs(20);
/// What is promised of a lost majority, and of its return.
const REFUSED_WITHIN: Duration = Duration::from_secs(5);
const BACK_WITHIN: Duration = Duration::from_secs(15);
const UNAVAILABLE: u16 = 503;

#[derive(Clone, Copy, Debug)]
enum Fault {
    Secondary,
    Primary,
    Majority,
}

/// The worst of all rounds.
#[derive(Debug, Default)]
struct Seen {
    filled: usize,
    majorities: usize,
    refused_after: Duration,
    answered: Duration,
    answered_otherwise: usize,
    gap: Duration,
    back: Duration,
}

async fn drill(run: Run) -> anyhow::Result<Figures> {
    let mut options = run.form.options();
    (options.replica_set.disk_mib, options.replica_set.oplog_mb) = (Some(DISK_MIB), OPLOG_MB);
    let mut world = World::start(run, options).await?;
    let pids: Vec<i32> = world.services().map(crate::process::Service::pid).collect();
    let mut load = Load::start(&world, 2)?;
    let mut seen = Seen::default();
    for round in 0..run.count {
        let fault = [Fault::Secondary, Fault::Primary, Fault::Majority][usize::try_from(round % 3)?];
        let done = injected(&mut world, &mut load, fault, &mut seen).await;
        done.with_context(|| format!("round {round}, {fault:?}"))?;
        say(format_args!("disk-full: {} of {}: {fault:?}, {seen:?}", round + 1, run.count));
    }
    let report = load.stop().await?;
    let mut figures = Figures::default();
    figures.count("members that ended at a full disk", seen.filled);
    figures.none("drills without a lost majority", usize::from(seen.majorities == 0));
    figures.at_most("refused after the majority was lost", seen.refused_after, REFUSED_WITHIN);
    figures.at_most("answer of a refusal (longest)", seen.answered, REFUSED_WITHIN);
    figures.none("calls answered otherwise than with 503 without a majority", seen.answered_otherwise);
    figures.at_most("wait of a write to be acknowledged with a majority", seen.gap, GAP_WITHIN);
    figures.at_most("back after the majority was", seen.back, BACK_WITHIN);
    let ended = world.services().zip(&pids);
    let ended = ended.filter(|(service, pid)| service.pid() != **pid || !service.process().is_running());
    figures.none("services that ended", ended.count());
    checks::aftermath(&world, &report, &mut figures).await?;
    Ok(figures)
}

async fn injected(world: &mut World, load: &mut Load, fault: Fault, seen: &mut Seen) -> anyhow::Result<()> {
    let primary = sides::primary(world).await?;
    let secondaries: Vec<usize> =
        (0..world.replica_set()?.len()).filter(|member| *member != primary).collect();
    let full = match fault {
        Fault::Secondary => vec![secondaries[0]],
        Fault::Primary => vec![primary],
        Fault::Majority => vec![primary, secondaries[0]],
    };
    let began = Instant::now();
    for member in &full {
        world.replica_set()?.disk(*member)?.fill()?;
    }
    for member in &full {
        ended(world.replica_set()?, *member).await?;
        seen.filled += 1;
    }
    let ended = Instant::now();
    match fault {
        Fault::Secondary | Fault::Primary => {
            load.wait_more(3, PATIENCE).await?;
            load.wait_each(PATIENCE).await?;
            seen.gap = seen.gap.max(load.longest_wait(began));
        }
        Fault::Majority => {
            seen.majorities += 1;
            let apis = (0..world.stack.apis.len()).map(|api| world.stack.client(api));
            let apis = apis.collect::<anyhow::Result<Vec<_>>>()?;
            futures_util::future::try_join_all(apis.iter().map(refused)).await?;
            seen.refused_after = seen.refused_after.max(ended.elapsed());
            for api in &apis {
                look_at_refusals(api, seen).await;
            }
        }
    }
    for member in &full {
        world.replica_set()?.disk(*member)?.make_room()?;
        world.replica_set()?.restart(*member).await?;
    }
    world.wait_healthy().await?;
    let healthy = Instant::now();
    for service in world.services() {
        service.wait_ready(PATIENCE).await?;
    }
    load.wait_more(2, PATIENCE).await?;
    seen.back = seen.back.max(healthy.elapsed());
    Ok(())
}

/// Waits until a member ended at its full disk. Asked for a checkpoint, it need not wait for the next one to notice.
async fn ended(set: &ReplicaSet, member: usize) -> anyhow::Result<()> {
    wait::until("a member to end at its full disk", PATIENCE, || async {
        let _full = set.command(member, doc! { "fsync": 1 }).await;
        if set.process(member).map_err(Pending::Never)?.is_running() {
            return Err(Pending::not_yet("it runs"));
        }
        Ok(())
    })
    .await
}

/// Waits until a caller is refused.
async fn refused(api: &ApiClient) -> anyhow::Result<()> {
    wait::until("a caller to be refused", PATIENCE, || async {
        match api.call("GET", READ, None, None).await.map_err(Pending::not_yet)?.status {
            UNAVAILABLE => Ok(()),
            other => Err(Pending::not_yet(other)),
        }
    })
    .await
}

const READ: &str = "/api/v1/projects?limit=1";

/// Whether some reads and writes are answered with 503, and how soon each.
async fn look_at_refusals(api: &ApiClient, seen: &mut Seen) {
    let body = serde_json::json!({ "name": "without-a-majority" });
    let calls = [("GET", READ, None), ("POST", "/api/v1/projects", Some(&body)), ("GET", READ, None)];
    for (method, path, body) in calls {
        let asked_at = Instant::now();
        let answer = api.call(method, path, body, None).await;
        seen.answered = seen.answered.max(asked_at.elapsed());
        seen.answered_otherwise += usize::from(!answer.is_ok_and(|answer| answer.status == UNAVAILABLE));
    }
}
