// SPDX-License-Identifier: Apache-2.0
//! The command line client, certautopilot.
//!
//! Data goes to stdout, talk to stderr. No secret is taken from a flag or shown on a terminal, nothing is destroyed
//! without `--yes` or a typed yes, and whether the API or the database allows something is never decided here.

mod app;
mod args;
mod exit;
mod failure;
mod output;
mod parse;
mod resolve;
mod secret_file;
mod terminal;
mod verbs;
mod wait;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

use crate::app::App;
use crate::args::Cli;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;

/// Runs one command line and says how it went.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    // What the kernel refused changes nothing for a process that lives for seconds.
    let _ = cap_runtime::harden::memory();
    cap_runtime::harden::tls();
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // A reader that went away is no reason to fail.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { Exit::Ok.into() };
        }
    };
    let output = Output::of_process(cli.global.output, cli.global.no_color);
    let mut app = App::new(cli.global, output);
    let result = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Error, "the program cannot start", error.to_string()))
        .and_then(|runtime| runtime.block_on(verbs::run(cli.verb, &mut app)));
    match result {
        Ok(()) => Exit::Ok.into(),
        Err(failure) => {
            app.output.complain(&failure);
            failure.exit().into()
        }
    }
}
