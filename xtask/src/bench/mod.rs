// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask bench`: how fast, against a bare baseline in the same run. Absolute times mean little on a shared
//! machine; the ratio is the figure.

mod bare;
mod fairness;
mod figures;
mod ground;
mod issuance;
mod lease;
mod plan;
mod queue;
mod scheduler;
mod seed;
mod stamps;
mod usage;

use std::process::ExitCode;

use anyhow::Context as _;
use cap_testkit::progress::say;
use clap::Subcommand;

use crate::cargo;

/// What is measured.
#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// Certificates a second through the whole system, against a bare ACME client at the same CA.
    Issuance(issuance::IssuanceArgs),
    /// Jobs a second through the queue, against raw inserts; wake-up, size, and what idle processes ask.
    Queue(queue::QueueArgs),
    /// What one project waits for its certificates beside another whose names never validate.
    Fairness(fairness::FairnessArgs),
    /// How long nobody leads when a scheduler is killed, paused or asked to end.
    Lease(lease::LeaseArgs),
    /// What it costs the scheduler to plan among a million certificates.
    Plan(plan::PlanArgs),
}

/// One of the bench's own workers, as a process.
pub(crate) async fn worker(orders: String) -> anyhow::Result<ExitCode> {
    queue::worker::run(&orders).await
}

/// Builds the services as they are shipped.
async fn build() -> anyhow::Result<()> {
    say("building the optimised binaries");
    let packages = ["cap-api", "cap-worker", "cap-scheduler", "cap-cli"];
    let mut command = vec!["build", "--release", "--bins"];
    command.extend(packages.iter().flat_map(|package| ["-p", package]));
    cargo::run(&command).await?;
    // What the build wrote is still on its way to the disk, and the database's journal would wait behind it.
    rustix::fs::sync();
    Ok(())
}

/// The same command, by an optimised build of this one.
async fn optimised() -> anyhow::Result<ExitCode> {
    say("building the bench, optimised (the first time takes some minutes)");
    let mut command = cargo::cargo(&["run", "--release", "--quiet", "--package", "xtask", "--"])?;
    let status = command.args(std::env::args_os().skip(1)).status().await.context("starting cargo")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(crate) async fn run(bench: Bench) -> anyhow::Result<ExitCode> {
    // The CA proxy and the baseline run in this process: unoptimised, they would be what is measured.
    if cfg!(debug_assertions) {
        return optimised().await;
    }
    match bench {
        Bench::Issuance(args) => issuance::run(args).await,
        Bench::Queue(args) => queue::run(args).await,
        Bench::Fairness(args) => fairness::run(args).await,
        Bench::Lease(args) => lease::run(args).await,
        Bench::Plan(args) => plan::run(args).await,
    }
}
