// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask ci`: what must hold before a change goes in.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::{cargo, codegen, tests_run, tidy};

pub(crate) async fn run() -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    step("format", cargo::run(&["fmt", "--all", "--check"])).await?;
    let clippy = ["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"];
    step("clippy", cargo::run(&clippy)).await?;
    step("tidy", async { succeeded("tidy", tidy::run()?) }).await?;
    step("codegen", async { succeeded("codegen --check", codegen::run(true)?) }).await?;
    // The tests come last: their summary is the last line of all.
    println!("ci: test (the steps before it took {})", seconds(started.elapsed()));
    tests_run::run(Vec::new()).await
}

async fn step(name: &str, work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let started = Instant::now();
    println!("ci: {name}");
    let result = work.await;
    let word = if result.is_ok() { "ok" } else { "FAILED" };
    println!("ci: {name} {word}, {}", seconds(started.elapsed()));
    result
}

fn succeeded(what: &str, code: ExitCode) -> anyhow::Result<()> {
    ensure!(code == ExitCode::SUCCESS, "{what} failed");
    Ok(())
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
