// SPDX-License-Identifier: Apache-2.0
//! Running cargo.

use std::process::Stdio;

use anyhow::{Context as _, ensure};
use tokio::process::Command;

use crate::workspace;

/// Cargo in the workspace. Its process is ended when the command is given up.
pub(crate) fn cargo(args: &[&str]) -> anyhow::Result<Command> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.current_dir(workspace::root()?).args(args).stdin(Stdio::null()).kill_on_drop(true);
    // These describe xtask's own build, and would make cargo build others anew.
    for name in ["CARGO_MANIFEST_DIR", "CARGO_PKG_NAME", "CARGO_PKG_VERSION"] {
        command.env_remove(name);
    }
    Ok(command)
}

/// Runs cargo with its output on the terminal.
pub(crate) async fn run(args: &[&str]) -> anyhow::Result<()> {
    let status = cargo(args)?.status().await.context("starting cargo")?;
    ensure!(status.success(), "`cargo {}` failed ({status})", args.join(" "));
    Ok(())
}
