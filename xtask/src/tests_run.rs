// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask test`: one replica set and one CA for every test binary, and one summary line at the end.

use std::num::NonZero;
use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use cap_testkit::ca::Pebble;
use cap_testkit::mongo::{self, ReplicaSet, ReplicaSetOptions};
use cap_testkit::process::{Launcher, Lifetime};
use cap_testkit::progress::say;
use cap_testkit::scratch::{self, Scratch};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

use crate::{cargo, workspace};

/// The whole suite; a run that takes longer hangs.
const SUITE_LIMIT_SECONDS: u64 = 3 * 3_600;
/// Tests at once for each core: most of their time they wait for a majority or a CA.
const TESTS_A_CORE: usize = 2;
/// How many tests run at once, as Rust's test runner reads it.
const THREADS_VARIABLE: &str = "RUST_TEST_THREADS";
/// What a shell says of a command that Ctrl-C ended.
const EXIT_INTERRUPTED: u8 = 130;

/// Sums of cargo test's `test result:` lines.
#[derive(Debug, Default, PartialEq, Eq)]
struct Summary {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Summary {
    fn add(&mut self, line: &str) {
        let Some(result) = line.trim().strip_prefix("test result:") else { return };
        // "ok. 24 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.45s"
        for part in result.split([';', '.']) {
            let mut words = part.split_whitespace();
            let (Some(Ok(count)), Some(what)) = (words.next().map(str::parse::<u64>), words.next()) else {
                continue;
            };
            match what {
                "passed" => self.passed += count,
                "failed" => self.failed += count,
                "ignored" => self.skipped += count,
                _ => {}
            }
        }
    }

    fn line(&self) -> String {
        format!("{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

pub(crate) async fn run(args: Vec<String>) -> anyhow::Result<ExitCode> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let limit = Duration::from_secs(SUITE_LIMIT_SECONDS);
    // Whichever ends first: what was started is dropped with the future that did not, and dies with it.
    tokio::select! {
        done = tokio::time::timeout(limit, suite(&args)) => {
            done.with_context(|| format!("the tests were not done after {limit:?}"))?
        }
        _ = interrupt.recv() => Ok(ExitCode::from(EXIT_INTERRUPTED)),
        _ = terminate.recv() => Ok(ExitCode::from(EXIT_INTERRUPTED)),
    }
}

async fn suite(args: &[String]) -> anyhow::Result<ExitCode> {
    say("building the binaries, with the drills' failpoints");
    cargo::run(&["build", "--workspace", "--bins", "--all-features"]).await?;
    let folder = scratch::quickest();
    let home = Scratch::create_in(&folder)?;
    let launcher = Arc::new(Launcher::new(home.path(), Lifetime::WithUs)?);
    let set = ReplicaSet::start_in(&launcher, ReplicaSetOptions::default());
    let (set, ca) = tokio::try_join!(set, Pebble::start())?;
    let mut command = cargo::cargo(&["test", "--all-features", "--no-fail-fast"])?;
    // Cargo would take `--workspace` for more than a package that is named.
    if !args.iter().any(|arg| arg.starts_with("-p") || arg.starts_with("--package")) {
        command.arg("--workspace");
    }
    command
        .args(args)
        .env("CAP_TEST_BIN_DIR", workspace::bin_dir(false)?)
        .env("CAP_TEST_MONGO_URI", set.uri())
        .env(scratch::FOLDER_VARIABLE, &folder)
        .env("CAP_TEST_CA", serde_json::to_string(ca.coordinates())?);
    if std::env::var_os(THREADS_VARIABLE).is_none() {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        command.env(THREADS_VARIABLE, (cores * TESTS_A_CORE).to_string());
    }
    let mut summary = Summary::default();
    let mut succeeded = stream(command, &mut summary).await?;
    let scans = mongo::scans_anywhere(&set.uri()).await?;
    for scan in &scans {
        succeeded = false;
        say(format_args!("a command of ours has no index: {scan}"));
    }
    // The members, and then the files that they have open.
    drop((set, ca));
    drop(home);
    if !succeeded && summary.failed == 0 {
        // A test binary that did not build, or ended without a result, prints no count of its own.
        summary.failed = 1;
    }
    println!("\n{}", summary.line());
    Ok(if succeeded && summary.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Shows the output as it comes, and adds up the results in it.
async fn stream(mut command: Command, summary: &mut Summary) -> anyhow::Result<bool> {
    let mut child = command.stdout(Stdio::piped()).spawn().context("starting cargo test")?;
    let stdout = child.stdout.take().context("cargo's output")?;
    let mut lines = BufReader::new(stdout).split(b'\n');
    while let Some(line) = lines.next_segment().await.context("reading cargo's output")? {
        let line = String::from_utf8_lossy(&line);
        summary.add(&line);
        println!("{line}");
    }
    Ok(child.wait().await?.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_several_binaries_are_summed() {
        let mut summary = Summary::default();
        for line in [
            "running 3 tests",
            "test result: ok. 24 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.45s",
            "test result: FAILED. 5 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 23.28s",
        ] {
            summary.add(line);
        }
        assert_eq!(summary.line(), "29 passed, 2 failed, 1 skipped");
    }

    #[test]
    fn what_a_test_prints_is_not_a_result() {
        let mut summary = Summary::default();
        summary.add("the test result: 5 passed");
        assert_eq!(summary, Summary::default());
    }
}
