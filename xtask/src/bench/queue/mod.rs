// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask bench queue`.

mod claims;
mod cycle;
mod floor;
mod idle;
mod insert;
mod naive;
mod size;
mod wake;
pub(super) mod worker;

use std::process::ExitCode;
use std::time::Duration;

use cap_core::limits::CLAIM_BATCH;
use cap_testkit::mongo::ReplicaSetOptions;
use cap_testkit::progress::say;
use clap::{Args, ValueEnum};

use super::figures::{Bound, Verdicts, ms, number};
use super::ground::{Ground, World, real};
use super::seed::Template;
use insert::Inserts;

/// The cache of each of three members: what is measured fits into it, as a queue does where one is run.
const SPEED_CACHE_MB: u32 = 1_024;
/// The cache of the one member that holds millions of records.
const CACHE_MB: u32 = 2_048;
/// Jobs in flight and workers of the cells beside millions of records.
const SIZED: [(usize, usize); 4] = [(1, 1), (8, 2), (32, 4), (128, 4)];
/// Its oplog.
const OPLOG_MB: u32 = 512;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// The whole audited cycle, against raw inserts and the naive design.
    Cycle,
    /// Claims alone, against raw inserts.
    Claims,
    /// From enqueue to start.
    Wake,
    /// What idle processes ask the database.
    Idle,
    /// Beside finished jobs.
    Finished,
    /// Beside queued jobs.
    Queued,
}

/// How much to measure.
#[derive(Debug, Args)]
pub(crate) struct QueueArgs {
    /// Only these parts.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Jobs of a cell at 32 in flight and more; smaller cells take fewer.
    #[arg(long, default_value_t = 8_000, value_parser = clap::value_parser!(u32).range(1_000..=1_000_000))]
    jobs: u32,
    /// Wake-ups.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(50..=100_000))]
    wakes: u32,
    /// Finished jobs. One member holds them, some 0.7 GB a million.
    #[arg(long, default_value_t = 10_000_000, value_parser = clap::value_parser!(u32).range(1_000..=100_000_000))]
    finished: u32,
    /// Queued jobs.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(20_000..=100_000_000))]
    queued: u32,
    /// How long idle processes are watched, seconds.
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u16).range(30..=3_600))]
    idle_seconds: u16,
}

impl QueueArgs {
    fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }

    fn jobs(&self) -> usize {
        usize::try_from(self.jobs).unwrap_or(usize::MAX)
    }
}

pub(crate) async fn run(args: QueueArgs) -> anyhow::Result<ExitCode> {
    let mut verdicts = Verdicts::default();
    if [Part::Cycle, Part::Claims, Part::Wake].iter().any(|part| args.wants(*part)) {
        speed(&args, &mut verdicts).await?;
    }
    if [Part::Finished, Part::Queued].iter().any(|part| args.wants(*part)) {
        size(&args, &mut verdicts).await?;
    }
    if args.wants(Part::Idle) {
        super::build().await?;
        idle(&args, &mut verdicts).await?;
    }
    Ok(if verdicts.conclude() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What three members do in a second.
async fn speed(args: &QueueArgs, verdicts: &mut Verdicts) -> anyhow::Result<()> {
    let options = ReplicaSetOptions { cache_mb: SPEED_CACHE_MB, ..ReplicaSetOptions::default() };
    let ground = Ground::start(options).await?;
    let world = ground.world("bench").await?;
    let template = world.template().await?;
    if args.wants(Part::Wake) {
        let alone = insert::at(&world, 1).await?.times;
        let wake = wake::run(&world, usize::try_from(args.wakes)?).await?;
        println!("\nwake-up of an idle worker, {} jobs", wake.from_answer.len());
        for (from, times) in [("the answer to the enqueue", &wake.from_answer), ("its call", &wake.from_call)]
        {
            let (median, p99, worst) = (ms(times.median()), ms(times.p99()), ms(times.worst()));
            println!(
                "  from {from:<26} to the start: p50 {median:6.1} ms, p99 {p99:6.1} ms, worst {worst:6.1} ms"
            );
        }
        let (median, p99) = (ms(alone.median()), ms(alone.p99()));
        println!("  a raw insert that waits for a majority, alone: p50 {median:6.1} ms, p99 {p99:6.1} ms");
        verdicts.judge("wake-up, p99", ms(wake.from_answer.p99()), Bound::Most, 15.0, "ms");
    }
    let (wants_cycle, wants_claims) = (args.wants(Part::Cycle), args.wants(Part::Claims));
    if !wants_cycle && !wants_claims {
        return Ok(());
    }
    let mut inserts = inserts(&world).await?;
    let mut claimed = Vec::new();
    for claimers in if wants_claims { &claims::CLAIMERS[..] } else { &[] } {
        claimed.push(claims::run(&ground, &world, &template, *claimers, args.jobs() * 2).await?);
    }
    let mut cells = Vec::new();
    for cell in if wants_cycle { &cycle::CELLS[..] } else { &[] } {
        let jobs = cycle::jobs_for(cell.0, args.jobs());
        let cell = cycle::run(&ground, &world, &template, *cell, jobs).await?;
        say(format_args!(
            "{} jobs in flight, {} workers: {:.0} jobs/s",
            cell.in_flight, cell.workers, cell.rate
        ));
        cells.push(cell);
    }
    let naive = match wants_cycle {
        true => {
            let other = ground.world("naive").await?;
            Some(naive::run(&ground, &other, &other.template().await?).await?)
        }
        false => None,
    };
    let mut floors = Vec::new();
    for clients in floor::CLIENTS {
        floors.push(floor::run(&ground, &world, clients, args.jobs() * 2).await?);
    }
    // Half before and half behind: a machine that grows slower favours nobody.
    inserts.extend(self::inserts(&world).await?);
    let inserts = insert::best(inserts);
    let peak = inserts.iter().map(|one| one.rate).fold(0.0, f64::max);
    let rate_at =
        |in_flight| inserts.iter().find(|one| one.in_flight == in_flight).map_or(peak, |one| one.rate);

    println!("\nraw inserts that wait for a majority");
    for Inserts { in_flight, rate, times } in &inserts {
        let (median, p99) = (ms(times.median()), ms(times.p99()));
        println!("  {in_flight:>4} in flight {rate:8.0}/s   p50 {median:6.1} ms, p99 {p99:6.1} ms");
    }
    println!("\nthe floor: a loop without a product");
    for floor::Floor { clients, claims, cycles } in &floors {
        let (of_claims, of_cycles) = (claims / peak, cycles / peak);
        println!(
            "  {clients:>4} clients {claims:8.0} claims/s, {of_claims:.2} x peak insert; {cycles:6.0} cycles/s, {of_cycles:.2} x"
        );
    }
    if wants_claims {
        println!("\nclaims of up to {CLAIM_BATCH} jobs, each claimer a process");
        for one in &claimed {
            let (median, p99) = (ms(one.times.median()), ms(one.times.p99()));
            println!(
                "  {:>4} claimers {:8.0} jobs/s, {:.2} x peak insert, p50 {median:6.1} ms, p99 {p99:6.1} ms, {:.4} aborts/job, members' CPU {:.2} ms/job",
                one.claimers,
                one.rate,
                one.rate / peak,
                one.aborts_a_job,
                one.cpu_ms_a_job
            );
        }
        let best = claimed.iter().map(|one| one.rate).fold(0.0, f64::max);
        verdicts.judge("claims", best / peak, Bound::Least, 2.0, "x peak insert");
    }
    if let Some(naive) = naive {
        println!("\nthe whole audited cycle");
        cycle::print_head();
        for cell in &cells {
            cell.print(rate_at(cell.in_flight));
        }
        let aborts = real(naive.counts.aborted) / number(naive.done.max(1));
        println!(
            "  naive, {} in flight: {:.0} jobs/s, {aborts:.1} aborts a job",
            naive::IN_FLIGHT,
            naive.rate
        );
        let best = |at_least| {
            let cells = cells.iter().filter(move |cell| cell.in_flight >= at_least);
            cells.map(|cell| cell.rate).fold(0.0, f64::max)
        };
        verdicts.judge("whole cycle", best(0) / peak, Bound::Least, 0.8, "x peak insert");
        verdicts.judge("whole cycle", best(0) / naive.rate, Bound::Least, 60.0, "x naive");
        verdicts.judge("whole cycle, 128 in flight", best(128) / peak, Bound::Least, 0.5, "x peak insert");
        let crowded = cells.iter().filter(|cell| cell.in_flight == 128).map(|cell| cell.aborts_a_job);
        verdicts.judge("aborts, 128 in flight", crowded.fold(0.0, f64::max), Bound::Below, 0.01, "a job");
    }
    Ok(())
}

async fn inserts(world: &World) -> anyhow::Result<Vec<Inserts>> {
    let mut measured = Vec::new();
    for in_flight in insert::CONCURRENCIES {
        measured.push(insert::at(world, in_flight).await?);
    }
    Ok(measured)
}

/// What one member does beside millions of records.
async fn size(args: &QueueArgs, verdicts: &mut Verdicts) -> anyhow::Result<()> {
    let options = ReplicaSetOptions {
        members: 1,
        cache_mb: CACHE_MB,
        oplog_mb: OPLOG_MB,
        compresses: true,
        ..ReplicaSetOptions::default()
    };
    let ground = Ground::start(options).await?;
    let empty = ground.world("empty").await?;
    let template = empty.template().await?;
    let jobs = args.jobs();
    println!("\nwhole cycles in an empty queue, one member");
    print_cycles(&ground, &empty, &template, jobs).await?;
    if args.wants(Part::Finished) {
        let world = ground.world("finished").await?;
        let other = world.template().await?;
        let over = size::finished(&ground, &world, &other).await?;
        say(format_args!("loading {} finished jobs into one member", args.finished));
        size::load_finished(&world, &over, usize::try_from(args.finished)?).await?;
        ground.settle().await?;
        let [few, many] = size::claims([(&empty, &template), (&world, &other)], true).await?;
        println!("\nclaims of one job beside {} finished jobs, one member", args.finished);
        print_claims("an empty queue", &few);
        print_claims("beside them", &many);
        print_cycles(&ground, &world, &other, jobs).await?;
        let ratio = many.claim.median().as_secs_f64() / few.claim.median().as_secs_f64();
        verdicts.judge("a claim beside finished jobs", ratio, Bound::Most, 1.1, "x an empty queue's");
    }
    if args.wants(Part::Queued) {
        let world = ground.world("queued").await?;
        let other = world.template().await?;
        say(format_args!("loading {} queued jobs into one member", args.queued));
        size::load_queued(&world, &other, usize::try_from(args.queued)?).await?;
        ground.settle().await?;
        let depth = size::depth(&world).await?;
        let [few, many] = size::claims([(&empty, &template), (&world, &other)], false).await?;
        println!("\nwith {} queued jobs, one member", args.queued);
        print_claims("an empty queue", &few);
        print_claims("with them", &many);
        print_cycles(&ground, &world, &other, jobs).await?;
        let (read, read_p99) = (ms(depth.reading.median()), ms(depth.reading.p99()));
        let (sampled, worst) = (ms(depth.sampling.median()), ms(depth.sampling.worst()));
        println!(
            "  reading the depth ({}): p50 {read:.2} ms, p99 {read_p99:.2} ms; sampling it: p50 {sampled:.1} ms, worst {worst:.1} ms",
            depth.jobs
        );
        verdicts.judge("reading the depth", read, Bound::Most, 1.0, "ms");
    }
    Ok(())
}

/// Whole cycles, beside the inserts of the same member at the same concurrency.
async fn print_cycles(
    ground: &Ground,
    world: &World,
    template: &Template,
    jobs: usize,
) -> anyhow::Result<()> {
    cycle::print_head();
    for cell in SIZED {
        let inserts = insert::at(world, cell.0).await?;
        cycle::run(ground, world, template, cell, cycle::jobs_for(cell.0, jobs)).await?.print(inserts.rate);
    }
    Ok(())
}

fn print_claims(what: &str, claim: &size::Claim) {
    let (median, p99) = (ms(claim.claim.median()), ms(claim.claim.p99()));
    print!("  {what:<16} p50 {median:6.2} ms, p99 {p99:6.2} ms");
    match claim.look.len() {
        0 => println!(),
        _ => println!(
            "; a look that finds none: p50 {:.2} ms, p99 {:.2} ms",
            ms(claim.look.median()),
            ms(claim.look.p99())
        ),
    }
}

/// What idle processes ask.
async fn idle(args: &QueueArgs, verdicts: &mut Verdicts) -> anyhow::Result<()> {
    let idle = idle::run(Duration::from_secs(args.idle_seconds.into())).await?;
    println!(
        "\ncommands that idle processes send to the primary in a minute, the driver's own monitoring apart"
    );
    for (process, operations) in &idle {
        println!("  {process}: {:.0}, and {:.0} of monitoring", operations.sum(), operations.monitoring);
        for (command, count) in &operations.asked {
            println!("    {count:6.1}  {command}");
        }
    }
    for (process, operations) in &idle {
        verdicts.judge(
            &format!("idle {process}"),
            operations.sum(),
            Bound::Below,
            120.0,
            "commands a minute",
        );
    }
    Ok(())
}
