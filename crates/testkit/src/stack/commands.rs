// SPDX-License-Identifier: Apache-2.0
//! What is done by the command line before the services start.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tokio::process::Command;

use crate::process::Binaries;

/// A migration of an empty database makes every collection and index on three members.
const COMMAND_LIMIT_SECONDS: u64 = 120;

pub(super) fn environment(mongo_uri: &str, kek_dir: &Path) -> Vec<(String, String)> {
    vec![
        ("CAP_MONGO_URI".into(), mongo_uri.into()),
        ("CAP_KEK_DIR".into(), kek_dir.display().to_string()),
        // Members on hosts of their own are not at loopback, yet nobody else reaches them.
        ("CAP_MONGO_ALLOW_PLAINTEXT".into(), "true".into()),
    ]
}

/// Makes the first key encryption key, `v1.key`.
pub(super) async fn generate_kek(binaries: &Binaries, kek_dir: &Path) -> anyhow::Result<()> {
    let folder = kek_dir.display().to_string();
    cli(binaries, &["kek", "generate", "--dir", &folder], &[]).await?;
    let key = kek_dir.join("v1.key");
    ensure!(key.is_file(), "`kek generate` succeeded, yet {} is not there", key.display());
    Ok(())
}

pub(super) async fn migrate(binaries: &Binaries, mongo_uri: &str, kek_dir: &Path) -> anyhow::Result<()> {
    cli(binaries, &["schema", "migrate"], &environment(mongo_uri, kek_dir)).await.map(drop)
}

/// Makes the first administrator; returns the token of one hour.
pub(super) async fn bootstrap(
    binaries: &Binaries,
    mongo_uri: &str,
    kek_dir: &Path,
    token_file: &Path,
) -> anyhow::Result<String> {
    let file = token_file.display().to_string();
    let env = environment(mongo_uri, kek_dir);
    cli(binaries, &["admin", "bootstrap", "--token-file", &file], &env).await?;
    let token = std::fs::read_to_string(token_file).with_context(|| format!("reading {file}"))?;
    std::fs::remove_file(token_file).with_context(|| format!("removing {file}"))?;
    Ok(token.trim().to_owned())
}

/// Runs `certautopilot` and returns its stdout.
pub(super) async fn cli(
    binaries: &Binaries,
    args: &[&str],
    env: &[(String, String)],
) -> anyhow::Result<String> {
    let program = binaries.path("certautopilot")?;
    let mut command = Command::new(program);
    command.args(args).kill_on_drop(true).stdin(std::process::Stdio::null());
    // A stray CAP_ variable of the caller's must not change what a test sees.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CAP_") {
            command.env_remove(name);
        }
    }
    command.envs(env.iter().map(|(name, value)| (name, value)));
    let what = format!("certautopilot {}", args.join(" "));
    let limit = Duration::from_secs(COMMAND_LIMIT_SECONDS);
    let output = tokio::time::timeout(limit, command.output()).await;
    let output = output.with_context(|| format!("{what} was not done after {limit:?}"))?;
    let output = output.with_context(|| format!("starting {what}"))?;
    if !output.status.success() {
        bail!("{what} failed ({}):\n{}", output.status, String::from_utf8_lossy(&output.stderr).trim_end());
    }
    String::from_utf8(output.stdout).with_context(|| format!("the output of {what}"))
}
