// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask bench issuance`.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use cap_testkit::ca::CaKind;
use cap_testkit::mongo::driver::Client;
use cap_testkit::mongo::driver::bson::{Document, doc};
use cap_testkit::process::{Binaries, Launcher, Lifetime, Signal, series};
use cap_testkit::scratch::Scratch;
use cap_testkit::stack::{ApiClient, Demo, Infrastructure, Role, Stack, StackOptions};
use cap_testkit::wait::{self, Pending};
use clap::Args;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::bare::Bare;
use super::usage::{self, Usage};
use crate::workspace;

/// How long one arm may take before something is stuck.
const ARM_LIMIT: Duration = Duration::from_secs(600);
/// How often the workers' counts are looked at.
const LOOK: Duration = Duration::from_millis(50);
/// The workers' count of certificates.
const ISSUED: &str = "certautopilot_jobs_total{kind=\"issue\",outcome=\"succeeded\"}";
/// How the names begin that the whole system issues for.
const OURS: &str = "ours";
/// Certificates for each order in flight at most: one at a time takes half a second each at a CA that is slow.
const COUNT_PER_ORDER: u16 = 40;
/// What real CAs take to answer, roughly.
const REAL_DELAY: Duration = Duration::from_millis(50);

/// How much to measure.
#[derive(Debug, Args)]
pub(crate) struct IssuanceArgs {
    /// Orders in flight, in both arms; the system's two workers have half of it each.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 64], value_parser = clap::value_parser!(u16).range(1..=256))]
    in_flight: Vec<u16>,
    /// Against which CA: pebble or step-ca.
    #[arg(long, default_value = "pebble")]
    ca: CaKind,
    /// Certificates of each arm; fewer where few are in flight.
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u16).range(2..=5_000))]
    count: u16,
}

/// One comparison.
struct Figures {
    bare_rate: f64,
    asked_rate: f64,
    our_rate: f64,
    majority_writes: i64,
    /// Attempts that the audit calls failed.
    failed: u64,
    usage: Vec<(String, Usage)>,
}

pub(crate) async fn run(args: IssuanceArgs) -> anyhow::Result<ExitCode> {
    super::build().await?;
    let mut met = true;
    for (title, delay, target) in
        [("as fast as the CA goes", Duration::ZERO, 0.6), ("50 ms added to each answer", REAL_DELAY, 0.95)]
    {
        for in_flight in &args.in_flight {
            let count = args.count.min(in_flight.saturating_mul(COUNT_PER_ORDER));
            let figures =
                compare(args.ca, count, *in_flight, delay).await.with_context(|| title.to_owned())?;
            println!(
                "\nissuance at {}, {title}: {count} certificates, {in_flight} in flight",
                args.ca.name()
            );
            met &= show(target, count, &figures);
        }
    }
    Ok(if met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A CA of its own for each comparison (it slows down with age), the same one for both arms. The baseline runs half
/// before and half behind, so that the CA's age does not favour either.
async fn compare(ca: CaKind, count: u16, in_flight: u16, delay: Duration) -> anyhow::Result<Figures> {
    let scratch = Scratch::create()?;
    let launcher = Arc::new(Launcher::new(scratch.path(), Lifetime::WithUs)?);
    let workers = if in_flight == 1 { 1 } else { 2 };
    let slots = (in_flight / u16::from(workers)).to_string();
    let mut options = StackOptions::as_shipped()
        .with(Role::Worker, "CAP_WORKER_CONCURRENCY", &slots)
        .with_all("CAP_LOG", "warn")
        .with_all("CAP_SHUTDOWN_DELAY", "0s");
    (options.apis, options.workers, options.schedulers) = (1, workers, 1);
    options.ca = ca;
    let infrastructure = Infrastructure::start(&launcher, &options).await?;
    let binaries = Binaries::in_folder(&workspace::bin_dir(true)?);
    let stack = Stack::start_in(&launcher, binaries, infrastructure, &options).await?;
    let api = stack.client(0)?;
    let demo = Demo::create(&api, stack.ca(), "bench", "local-ca").await?;
    let warm = demo.request(&api, &["warm.example.test"]).await?;
    demo.wait_valid(&api, &warm).await?;

    let bare = Bare::new(stack.ca()).await?;
    let names =
        |arm: &str, count: u16| (0..count).map(|n| format!("{arm}-{n}.example.test")).collect::<Vec<_>>();
    let halves = [names("before", count / 2), names("behind", count - count / 2)];
    bare.prepare(stack.ca(), &halves.concat()).await?;
    stack.ca().set_delay(delay).await?;

    let in_flight = usize::from(in_flight);
    let mut bare_took = bare.issue(&halves[0], in_flight).await?;
    let asking_took = ask(&stack, &api, &demo, &names(OURS, count), in_flight).await?;
    let processes = processes(&stack)?;
    let replica_set = stack.infrastructure.replica_set.as_ref().context("the stack has no replica set")?;
    let (before, written) = (usage::of(&processes)?, replica_set.majority_writes().await?);
    let our_took = ours(&stack, &api, &demo, count).await?;
    let (after, majority_writes) = (usage::of(&processes)?, replica_set.majority_writes().await? - written);
    bare_took += bare.issue(&halves[1], in_flight).await?;

    let failed = failed_attempts(&stack).await?;
    let counts = stack.ca().counts().await?;
    // The baseline begins again where the CA fails, and may well buy twice.
    let ours = counts.name_sets.iter().filter(|(names, _)| names.starts_with(OURS));
    let doubled = ours.filter(|(_, set)| set.certificates > 1).count();
    ensure!(doubled == 0, "{doubled} name sets were issued more than once");
    let used = |name: &String, now: &Usage| Usage {
        cpu_seconds: now.cpu_seconds - before.get(name).map_or(0.0, |then| then.cpu_seconds),
        peak_mib: now.peak_mib,
    };
    Ok(Figures {
        bare_rate: f64::from(count) / bare_took.as_secs_f64(),
        asked_rate: f64::from(count) / asking_took.as_secs_f64(),
        our_rate: f64::from(count) / our_took.as_secs_f64(),
        majority_writes,
        failed,
        usage: after.iter().map(|(name, now)| (name.clone(), used(name, now))).collect(),
    })
}

/// How many attempts at certificates failed, by the audit.
async fn failed_attempts(stack: &Stack) -> anyhow::Result<u64> {
    let client = Client::with_uri_str(stack.mongo_uri()).await?;
    let database = client.default_database().context("the stack's URI names no database")?;
    let failed = doc! { "action": "certificate.attempt_failed" };
    Ok(database.collection::<Document>("audit_outbox").count_documents(failed).await?)
}

/// Has a certificate requested for each name while the workers stand still: the baseline knows its names from the beginning, and a
/// certificate is requested once and renewed for ever. As many requests are under way at once as orders will be.
async fn ask(
    stack: &Stack,
    api: &ApiClient,
    demo: &Demo,
    names: &[String],
    in_flight: usize,
) -> anyhow::Result<Duration> {
    for worker in &stack.workers {
        ensure!(worker.signal(Signal::STOP)?, "{} is gone", worker.name());
    }
    let started = Instant::now();
    stream::iter(names)
        .map(|name| async move { demo.request(api, &[name.as_str()]).await })
        .buffer_unordered(in_flight)
        .try_collect::<Vec<_>>()
        .await?;
    Ok(started.elapsed())
}

/// From when the workers go on to the last stored certificate.
async fn ours(stack: &Stack, api: &ApiClient, demo: &Demo, count: u16) -> anyhow::Result<Duration> {
    let started = Instant::now();
    for worker in &stack.workers {
        ensure!(worker.signal(Signal::CONT)?, "{} is gone", worker.name());
    }
    // The one that warmed everything up is counted too.
    let wanted = f64::from(count) + 1.0;
    // By the workers' own count: asking the API would be work for all that is measured.
    wait::until("the last certificate", ARM_LIMIT, || async {
        tokio::time::sleep(LOOK).await;
        let done = issued(stack).await.map_err(Pending::not_yet)?;
        if done >= wanted { Ok(()) } else { Err(Pending::not_yet(format_args!("{done} of {wanted}"))) }
    })
    .await?;
    let took = started.elapsed();
    for jobs in ["queued", "running", "dead", "cancelled"] {
        let path = format!("/api/v1/projects/{}/jobs?limit=1&state={jobs}", demo.project);
        let left = api.get(&path).await?;
        ensure!(left["items"].as_array().is_some_and(Vec::is_empty), "there are {jobs} jobs: {left}");
    }
    Ok(took)
}

/// How many certificates the workers stored so far.
async fn issued(stack: &Stack) -> anyhow::Result<f64> {
    let mut sum = 0.0;
    for worker in &stack.workers {
        sum += series(&worker.metrics().await?, ISSUED).with_context(|| format!("no series {ISSUED}"))?;
    }
    Ok(sum)
}

fn processes(stack: &Stack) -> anyhow::Result<Vec<(String, i32)>> {
    let services = stack.apis.iter().chain(&stack.workers).chain(&stack.schedulers);
    let mut all: Vec<_> = services.map(|service| (service.name().to_owned(), service.pid())).collect();
    if let Some(set) = &stack.infrastructure.replica_set {
        for index in 0..set.len() {
            all.push((format!("mongod-{index}"), set.process(index)?.pid()));
        }
    }
    if let Some(ca) = stack.ca().process() {
        all.push(("ca".to_owned(), ca.pid()));
    }
    Ok(all)
}

fn verdict(is_met: bool) -> &'static str {
    if is_met { "met" } else { "MISSED" }
}

/// Prints one comparison; answers whether its targets are met.
fn show(target: f64, count: u16, figures: &Figures) -> bool {
    let ratio = figures.our_rate / figures.bare_rate;
    println!("  bare instant-acme loop  {:7.1} certificates/s", figures.bare_rate);
    println!("  the whole system        {:7.1} certificates/s", figures.our_rate);
    println!("  asked for before        {:7.1} certificates/s", figures.asked_rate);
    println!("  {:<14} {:>22} {:>12}", "process", "CPU ms a certificate", "peak MiB");
    let mut sum = 0.0;
    for (name, used) in &figures.usage {
        let cpu_ms = 1_000.0 * used.cpu_seconds / f64::from(count);
        let ours = ["api", "worker", "scheduler"].iter().any(|role| name.starts_with(role));
        sum += if ours { cpu_ms } else { 0.0 };
        println!("  {name:<14} {cpu_ms:>22.2} {:>12.1}", used.peak_mib);
    }
    println!("  {:<14} {sum:>22.2}", "our processes");
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
    let writes = figures.majority_writes as f64 / f64::from(count);
    println!("  writes that waited for a majority: {writes:.2} a certificate");
    println!("  failed attempts {}, target 0: {}", figures.failed, verdict(figures.failed == 0));
    println!("  ratio {ratio:.2}, target {target:.2}: {}", verdict(ratio >= target));
    ratio >= target && figures.failed == 0
}
