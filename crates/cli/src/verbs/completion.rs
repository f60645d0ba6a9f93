// SPDX-License-Identifier: Apache-2.0
//! `completion`.

use clap::CommandFactory;
use clap_complete::{Shell, generate};

use crate::app::App;
use crate::args::Cli;
use crate::failure::Failure;

/// What `completion` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn run(args: Args, app: &mut App) -> Result<(), Failure> {
    let mut script = Vec::new();
    generate(args.shell, &mut Cli::command(), "certautopilot", &mut script);
    app.output.text(&String::from_utf8_lossy(&script))
}
