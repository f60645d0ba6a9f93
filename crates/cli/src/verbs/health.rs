// SPDX-License-Identifier: Apache-2.0
//! `health`.

use serde::Serialize;

use crate::app::App;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Form, text};

/// What `health` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Ask for every check: database, KEK, schema
    #[arg(long)]
    deep: bool,
}

#[derive(Debug, Serialize)]
struct Health {
    healthy: bool,
    checks: Vec<String>,
}

pub(super) async fn run(args: Args, app: &mut App) -> Result<(), Failure> {
    let client = app.client()?;
    let readiness = if args.deep { client.readiness().await? } else { client.health().await? };
    match app.output.form {
        Form::Json | Form::Yaml => {
            let checks = readiness.report.lines().map(str::to_owned).collect();
            app.output.document(&Health { healthy: readiness.ready, checks })?;
        }
        Form::Table | Form::Wide | Form::Name => {
            app.output.text(&format!("{}\n", text::clean(readiness.report.trim_end())))?;
        }
    }
    if readiness.ready {
        return Ok(());
    }
    let why = if args.deep { "a check failed" } else { "it says that it is not" };
    Err(Failure::new(Exit::CheckFailed, "the API is not ready", why)
        .hint("with a token, `certautopilot health --deep` says what is wrong"))
}
