// SPDX-License-Identifier: Apache-2.0
//! Developer commands: a local stack, the tests, what CI runs. It decides nothing about certificates.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command for people: it talks on the terminal"
)]

mod bench;
mod cargo;
mod ci;
mod codegen;
mod drill;
mod local;
mod tests_run;
mod tidy;
mod workspace;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use local::up::UpArgs;

/// CertAutoPilot's developer commands.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Xtask {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a local stack: replica set, CA, services, a first certificate. A second `up` starts again what ended.
    Up(UpArgs),
    /// Stop the local stack. Its logs stay until the next `up`, which starts afresh.
    Down {
        /// Remove everything under target/local, logs too.
        #[arg(long)]
        wipe: bool,
    },
    /// Show the local stack. Exit code 0: all of it runs; 3: some of it does not; 1: nothing runs.
    Status,
    /// Run every test against real servers. What follows is passed on to `cargo test`.
    Test {
        /// For `cargo test`: a filter, `-p cap-store`, `-- --nocapture`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// What CI runs: format, clippy, tidy, codegen check, test.
    Ci,
    /// Check what the compiler does not: who leans on whom, headers, sizes, migrations.
    Tidy,
    /// Write the generated files.
    Codegen {
        /// Write nothing; fail when a file differs.
        #[arg(long)]
        check: bool,
    },
    /// Measure, against a bare baseline in the same run. Exit code 1: a target was missed.
    Bench {
        #[command(subcommand)]
        bench: bench::Bench,
    },
    /// A worker of `bench queue`, as a process of its own.
    #[command(hide = true)]
    BenchWorker {
        /// What it does, JSON.
        #[arg(long)]
        orders: String,
    },
    /// Break a running system on purpose, again and again. The last line is the figures; exit code 1: one fell short.
    Drill(drill::DrillArgs),
    /// The CA proxy of a local stack, as a process of its own.
    #[command(hide = true)]
    CaProxy {
        /// Its configuration, JSON.
        #[arg(long)]
        config: PathBuf,
    },
}

fn main() -> ExitCode {
    let command = Xtask::parse().command;
    match run(command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Up(args) => block_on(local::up::run(args)),
        Command::Down { wipe } => block_on(local::down::run(wipe)),
        Command::Status => local::status::run(),
        Command::Test { args } => block_on(tests_run::run(args)),
        Command::Ci => block_on(ci::run()),
        Command::Tidy => tidy::run(),
        Command::Codegen { check } => codegen::run(check),
        Command::Bench { bench } => block_on(bench::run(bench)),
        Command::BenchWorker { orders } => block_on(bench::worker(orders)),
        Command::Drill(args) => block_on(drill::run(args)),
        Command::CaProxy { config } => block_on(local::ca_proxy(config)),
    }
}

fn block_on<F: Future<Output = anyhow::Result<ExitCode>>>(work: F) -> anyhow::Result<ExitCode> {
    cap_testkit::tls::install();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work)
}
