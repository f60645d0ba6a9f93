// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask bench fairness`: what a project waits for its certificates while another has ten thousand names in the
//! queue that never validate.

use std::net::{IpAddr, Ipv4Addr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use cap_testkit::process::{Binaries, Launcher, Lifetime};
use cap_testkit::progress::say;
use cap_testkit::scratch::Scratch;
use cap_testkit::stack::{ApiClient, Demo, Infrastructure, Role, Stack, StackOptions};
use clap::Args;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use serde_json::Value;

use super::figures::{Bound, Times, Verdicts, ms};
use crate::workspace;

/// Where nobody answers challenges.
const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 99));
/// What a real CA takes to answer, roughly: the CA is what is waited for, and not the CPU. With half of it two cores are
/// three quarters busy, and whoever comes waits for them.
const CA_DELAY: Duration = Duration::from_millis(100);
/// From one request of the project that is measured to its next.
const PACE: Duration = Duration::from_millis(250);
/// Requests of the project that are not counted, before each of its two arms.
const WARM: u32 = 20;
/// Requests under way at once, for what is not measured.
const AT_ONCE: usize = 8;
/// The p99 beside the hostile project, to the one alone.
const RATIO_MAX: f64 = 1.5;

/// How much to measure.
#[derive(Debug, Args)]
pub(crate) struct FairnessArgs {
    /// Names of the hostile project.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(100..=100_000))]
    hostile: u32,
    /// Certificates of the other one, in each of the two arms.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(20..=5_000))]
    count: u32,
}

pub(crate) async fn run(args: FairnessArgs) -> anyhow::Result<ExitCode> {
    super::build().await?;
    let scratch = Scratch::create()?;
    let launcher = Arc::new(Launcher::new(scratch.path(), Lifetime::WithUs)?);
    let mut options = StackOptions::as_shipped()
        .with(Role::Worker, "CAP_WORKER_CONCURRENCY", "8")
        .with(Role::Api, "CAP_API_WAITING_PER_PROJECT", "0")
        .with(Role::Api, "CAP_API_RATE_PER_TOKEN", "0")
        .with_all("CAP_LOG", "error")
        .with_all("CAP_SHUTDOWN_DELAY", "0s");
    (options.apis, options.schedulers) = (1, 1);
    let infrastructure = Infrastructure::start(&launcher, &options).await?;
    let binaries = Binaries::in_folder(&workspace::bin_dir(true)?);
    let stack = Stack::start_in(&launcher, binaries, infrastructure, &options).await?;
    let api = stack.client(0)?;
    let calm = Demo::create(&api, stack.ca(), "calm", "local-ca").await?;
    let hostile = Demo::create(&api, stack.ca(), "hostile", "local-ca").await?;
    let names: Vec<String> = (0..args.hostile).map(|n| format!("never-{n}.example.test")).collect();
    say(format_args!("telling the DNS of {} names at which nobody answers", names.len()));
    let dns = stack.ca().dns()?;
    each(&names, |name| dns.set_a(name, &[NOBODY])).await?;
    stack.ca().set_delay(CA_DELAY).await?;
    paced(&api, &calm, "warm", WARM).await?;

    say("one project alone");
    let alone = paced(&api, &calm, "alone", args.count).await?;
    say("the hostile project asks for all its names");
    let ask = |name| {
        let (hostile, api) = (&hostile, &api);
        async move { hostile.request(api, &[name]).await.map(drop) }
    };
    each(&names, ask).await?;
    // Not while ten thousand requests are being answered: what is measured is the queue that they leave.
    paced(&api, &calm, "settle", WARM).await?;
    let beside = paced(&api, &calm, "beside", args.count).await?;
    let path = format!("/api/v1/projects/{}/certificates?status=requested&limit=1", hostile.project);
    let left = api.get(&path).await?;
    let is_crowded = left["items"].as_array().is_some_and(|items| !items.is_empty());
    ensure!(
        is_crowded,
        "the hostile project's names ran out: ask for more of them, or for fewer certificates"
    );

    println!("\nfrom the request to the stored certificate, {} certificates each", args.count);
    for (what, times) in [("alone", &alone), ("beside the hostile project", &beside)] {
        println!(
            "  {what:<28} p50 {:7.0} ms  p99 {:7.0} ms  worst {:7.0} ms",
            ms(times.median()),
            ms(times.p99()),
            ms(times.worst())
        );
    }
    let mut verdicts = Verdicts::default();
    let ratio = beside.p99().as_secs_f64() / alone.p99().as_secs_f64();
    verdicts.judge("p99 beside the hostile project", ratio, Bound::Most, RATIO_MAX, "x that alone");
    Ok(if verdicts.conclude() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Does something for each name, several at once.
async fn each<'a, W>(names: &'a [String], work: impl Fn(&'a str) -> W) -> anyhow::Result<()>
where
    W: Future<Output = anyhow::Result<()>> + 'a,
{
    stream::iter(names).map(|name| work(name)).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
    Ok(())
}

/// Asks for certificates at a steady pace; answers what each took.
async fn paced(api: &ApiClient, demo: &Demo, arm: &str, count: u32) -> anyhow::Result<Times> {
    let mut pace = tokio::time::interval(PACE);
    let mut certificates = Vec::new();
    for n in 0..count {
        pace.tick().await;
        certificates.push(demo.request(api, &[&format!("{arm}-{n}.example.test")]).await?);
    }
    let mut times = Vec::new();
    for certificate in &certificates {
        times.push(took(&demo.wait_valid(api, certificate).await?)?);
    }
    Ok(Times::new(times))
}

/// From a certificate's request to its version, by the times that are stored with them.
fn took(certificate: &Value) -> anyhow::Result<Duration> {
    let time = |value: &Value| value.as_str().and_then(|text| text.parse::<Timestamp>().ok());
    let (asked, issued) = (time(&certificate["created_at"]), time(&certificate["version"]["issued_at"]));
    let (asked, issued) = asked.zip(issued).context("the certificate has no times")?;
    Ok(Duration::try_from(issued.duration_since(asked)).unwrap_or_default())
}
