// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask bench`: how fast, against a bare baseline in the same run. Absolute times mean little on a shared
//! machine; the ratio is the figure.

mod bare;
mod issuance;
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
    }
}
