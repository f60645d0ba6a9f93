// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask down`.

use std::process::ExitCode;

use anyhow::Context as _;

use super::{lock, stop};
use crate::workspace::local_home;

pub(crate) async fn run(wipe: bool) -> anyhow::Result<ExitCode> {
    let home = local_home()?;
    let _lock = lock(&home)?;
    let ran = stop::stop_all(&home).await?;
    match ran {
        0 => println!("nothing was running"),
        n => println!("{n} processes ended"),
    }
    // The token in it is dead with its database.
    let env = home.join("env");
    if env.exists() {
        std::fs::remove_file(&env).with_context(|| format!("removing {}", env.display()))?;
    }
    if wipe && home.exists() {
        std::fs::remove_dir_all(&home).with_context(|| format!("removing {}", home.display()))?;
        println!("{} is removed", home.display());
    }
    Ok(ExitCode::SUCCESS)
}
