// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask bench plan`: what it costs the scheduler to plan an hour's renewals among a million certificates.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use cap_core::clock::later;
use cap_testkit::mongo::ReplicaSetOptions;
use cap_testkit::progress::say;
use cap_testkit::wait::{self, Pending};
use clap::Args;
use jiff::SignedDuration;

use super::figures::{Bound, Verdicts, number};
use super::ground::{Ground, World};
use super::usage::Usage;
use super::{scheduler, usage};

/// Certificates beside which the peak of memory is compared.
const FEW: u32 = 1_000;
/// Of 45 days a certificate is left alone for two thirds: of so many certificates, one is due each hour.
const ONE_AN_HOUR_OF: usize = 720;
/// How long the planning may take before something is stuck.
const LIMIT: Duration = Duration::from_secs(300);
/// How often it is looked how far it is.
const LOOK: Duration = Duration::from_millis(250);
/// The database's cache.
const CACHE_MB: u32 = 1_024;
/// CPU seconds of the scheduler, from its start, for an hour's share.
const CPU_MAX: f64 = 2.0;
/// The peak of memory with many certificates against few: the same, but for what an allocator does.
const PEAK_MAX: f64 = 1.2;

/// How much to measure.
#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    /// Certificates in the database; one member holds them, some 0.5 GB a million.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(10_000..=100_000_000))]
    certificates: u32,
}

/// What one run cost.
struct Planned {
    due: usize,
    took: Duration,
    used: Usage,
}

pub(crate) async fn run(args: PlanArgs) -> anyhow::Result<ExitCode> {
    super::build().await?;
    let options = ReplicaSetOptions {
        members: 1,
        cache_mb: CACHE_MB,
        compresses: true,
        ..ReplicaSetOptions::default()
    };
    let ground = Ground::start(options).await?;
    let (few, many) = (ground.world("few").await?, ground.world("many").await?);
    let all = usize::try_from(args.certificates)?;
    let due = all / ONE_AN_HOUR_OF;
    let small = usize::try_from(FEW)?;
    let few = plan(&ground, &few, small, due.min(small)).await?;
    let many = plan(&ground, &many, all, due).await?;
    println!("\nan hour's renewals, planned by the real scheduler");
    for (certificates, planned) in [(FEW, &few), (args.certificates, &many)] {
        println!(
            "  {certificates:>10} certificates, {:>6} due: {:.2} s, {:.2} CPU seconds, peak {:.1} MiB",
            planned.due,
            planned.took.as_secs_f64(),
            planned.used.cpu_seconds,
            planned.used.peak_mib
        );
    }
    let mut verdicts = Verdicts::default();
    verdicts.judge("CPU of the scheduler", many.used.cpu_seconds, Bound::Most, CPU_MAX, "s");
    let ratio = many.used.peak_mib / few.used.peak_mib;
    verdicts.judge("peak memory", ratio, Bound::Most, PEAK_MAX, "x that with few certificates");
    Ok(if verdicts.conclude() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Loads certificates, some of them due within the last hour, and has a scheduler plan those.
async fn plan(ground: &Ground, world: &World, certificates: usize, due: usize) -> anyhow::Result<Planned> {
    say(format_args!("loading {certificates} certificates into one member"));
    let now = world.clock.now();
    let first = world.certificate(0, now)?;
    drop(first);
    let at = |n: usize| {
        let seconds = i64::try_from(n).unwrap_or(0);
        let by = if n < due { -(seconds % 3_600) - 1 } else { 86_400 + seconds % (30 * 86_400) };
        now.checked_add(SignedDuration::from_secs(by)).unwrap_or(later(now, LIMIT))
    };
    world.load("certificates", certificates, |n| world.certificate(n, at(n)).unwrap_or_default()).await?;
    ground.settle().await?;
    let began = Instant::now();
    let service = scheduler::start(ground, world, &format!("scheduler-{}", world.name), None).await?;
    let wanted = number(due);
    wait::until("every certificate that is due to be planned", LIMIT, || async {
        tokio::time::sleep(LOOK).await;
        match scheduler::planned(&service).await.map_err(Pending::not_yet)? {
            planned if planned >= wanted => Ok(()),
            planned => Err(Pending::not_yet(format_args!("{planned} of {wanted}"))),
        }
    })
    .await?;
    let took = began.elapsed();
    let process = (service.name().to_owned(), service.pid());
    let used = usage::of(&[process])?.into_values().next().unwrap_or_default();
    let queued = world
        .collection("jobs")
        .count_documents(cap_testkit::mongo::driver::bson::doc! { "state": "queued" })
        .await?;
    anyhow::ensure!(queued == u64::try_from(due)?, "{queued} jobs were queued for {due} certificates");
    service.kill9()?;
    Ok(Planned { due, took, used })
}
