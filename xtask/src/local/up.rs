// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask up`.

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use cap_testkit::ca::PebbleOptions;
use cap_testkit::process::{Binaries, Launcher, Lifetime, Service, StateFile};
use cap_testkit::stack::{Demo, Infrastructure, Stack, StackOptions};
use cap_testkit::{fetch, progress::say};
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::{env_file, farewell, lock, restart, stop};
use crate::cargo;
use crate::workspace::{self, local_home};

const PROJECT: &str = "demo";
const ISSUER: &str = "local-ca";
const FIRST_NAME: &str = "hello.example.test";
/// No load balancer stands before the local API, so a drain need not wait for one.
const SHUTDOWN_DELAY: &str = "0s";

/// What to start.
#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    /// How many APIs.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=16))]
    apis: u8,
    /// How many workers.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=16))]
    workers: u8,
    /// How many schedulers.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=16))]
    schedulers: u8,
    /// Stay until Ctrl-C, then stop everything.
    #[arg(long)]
    foreground: bool,
    /// Only the replica set and the CA.
    #[arg(long)]
    infra_only: bool,
    /// Build and run optimised binaries.
    #[arg(long)]
    release: bool,
    /// Offer the profiles `shortlived` (160 h) and `seconds` (60 s) beside `default`. Name one in each request then:
    /// the CA draws one by lot for an order that names none.
    #[arg(long)]
    every_profile: bool,
}

pub(crate) async fn run(args: UpArgs) -> anyhow::Result<ExitCode> {
    let home = local_home()?;
    let change = lock(&home)?;
    if is_up(&home).await? {
        return Ok(ExitCode::SUCCESS);
    }
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let started = tokio::select! {
        result = start(&home, &args) => result,
        _ = interrupt.recv() => Err(anyhow::anyhow!("interrupted")),
        _ = terminate.recv() => Err(anyhow::anyhow!("told to end")),
    };
    if let Err(error) = started {
        let ended = stop::stop_all(&home).await?;
        let what = match ended {
            0 => "`up` failed before it had started anything".to_owned(),
            n => format!(
                "`up` failed; the {n} processes that it had started are stopped, their logs are in {}",
                home.join("logs").display()
            ),
        };
        bail!("{what}\n{error:#}");
    }
    if !args.foreground {
        return Ok(ExitCode::SUCCESS);
    }
    drop(change);
    println!("Ctrl-C stops it.");
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    let _change = lock(&home)?;
    let ended = stop::stop_all(&home).await?;
    println!("{ended} processes ended");
    Ok(ExitCode::SUCCESS)
}

/// Whether an earlier stack runs. What ended of a whole one is started again; what is left of others is ended.
async fn is_up(home: &Path) -> anyhow::Result<bool> {
    let Some(state) = StateFile::load(home)? else { return Ok(false) };
    let alive = state.alive()?.len();
    if state.complete && alive > 0 {
        restart::restart_ended(home, &state).await?;
        farewell::again(home);
        return Ok(true);
    }
    match alive {
        0 => println!("an earlier stack has ended without `down` (a crash, a reboot); starting afresh"),
        n => println!("an earlier `up` was cut short; stopping the {n} processes that it left"),
    }
    stop::stop_all(home).await?;
    Ok(false)
}

async fn start(home: &Path, args: &UpArgs) -> anyhow::Result<()> {
    clean(home)?;
    obtain().await?;
    if !args.infra_only {
        build(args.release).await?;
    }
    let launcher = Arc::new(Launcher::new(home, Lifetime::Detached)?);
    let options = options(args);
    let infrastructure = Infrastructure::start(&launcher, &options).await?;
    if args.every_profile && infrastructure.ca.flavor().profiles.is_empty() {
        say("this CA is an older Pebble, which knows no profiles: every certificate lives 90 days");
    }
    if args.infra_only {
        env_file::write(home, &env_file::of_infrastructure(&infrastructure))?;
        StateFile::complete(home)?;
        farewell::of_infrastructure(home);
        return Ok(());
    }
    let binaries = Binaries::in_folder(&workspace::bin_dir(args.release)?);
    let stack = Stack::start_in(&launcher, binaries, infrastructure, &options).await?;
    env_file::write(home, &env_file::of_stack(&stack)?)?;
    first_certificate(home, &stack).await
}

async fn first_certificate(home: &Path, stack: &Stack) -> anyhow::Result<()> {
    let api = stack.client(0)?;
    say(format_args!("creating the project `{PROJECT}` and the issuer `{ISSUER}`"));
    let demo = Demo::create(&api, stack.ca(), PROJECT, ISSUER).await?;
    say(format_args!("requesting a certificate for {FIRST_NAME}"));
    let id = demo.request(&api, &[FIRST_NAME]).await?;
    let valid = demo.wait_valid(&api, &id).await;
    valid.with_context(|| format!("no certificate; {}", end_of_log(stack.workers.first())))?;
    let chain = demo.download(&api, &id).await?;
    StateFile::complete(home)?;
    farewell::of_stack(home, stack.api_url(0)?, &chain, &id, &demo.project);
    Ok(())
}

fn end_of_log(worker: Option<&Service>) -> String {
    let Some(process) = worker.map(Service::process) else { return "there is no worker".to_owned() };
    format!("the end of {}:\n{}\n", process.log().display(), process.log_tail())
}

/// The CA keeps its accounts and orders in memory only. Half of a stack's state is worse than none, so each `up`
/// after a `down` starts with an empty folder.
fn clean(home: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(home) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("emptying {}", home.display()))
        }
        _ => Ok(()),
    }
}

/// Before the build: a missing server shows at once.
async fn obtain() -> anyhow::Result<()> {
    let mongod = tokio::task::spawn_blocking(fetch::mongod);
    let pebble = tokio::task::spawn_blocking(fetch::pebble);
    let (mongod, pebble) = tokio::try_join!(mongod, pebble)?;
    mongod?;
    pebble?;
    Ok(())
}

/// Without xtask: its own running binary would be replaced.
async fn build(release: bool) -> anyhow::Result<()> {
    say("building the services (the first time takes some minutes)");
    let mut args = vec!["build", "--workspace", "--exclude", "xtask", "--bins"];
    if release {
        args.push("--release");
    }
    cargo::run(&args).await
}

fn options(args: &UpArgs) -> StackOptions {
    let mut options = StackOptions::as_shipped().with_all("CAP_SHUTDOWN_DELAY", SHUTDOWN_DELAY);
    options.apis = args.apis;
    options.workers = args.workers;
    options.schedulers = args.schedulers;
    if args.every_profile {
        options.pebble = PebbleOptions::with_every_profile();
    }
    options
}
