// SPDX-License-Identifier: Apache-2.0
//! The local stack: its folder, its lock, its processes from start to end.

pub(crate) mod down;
mod env_file;
mod farewell;
mod restart;
pub(crate) mod status;
mod stop;
pub(crate) mod up;

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use cap_testkit::ca::{CaProxy, ProxyConfig};

/// Held while the stack is being changed.
#[derive(Debug)]
struct ChangeLock {
    _file: File,
}

/// One `up` or `down` at a time in one checkout.
fn lock(home: &Path) -> anyhow::Result<ChangeLock> {
    // Beside the folder: the folder itself comes and goes.
    let folder = home.parent().context("the folder of the local stack lies in another")?;
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let path = home.with_extension("lock");
    let file = File::options().create(true).write(true).truncate(false).open(&path);
    let file = file.with_context(|| format!("opening {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(ChangeLock { _file: file }),
        Err(TryLockError::WouldBlock) => {
            bail!("another `cargo xtask up` or `down` is at work in this checkout; let it end")
        }
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("locking {}", path.display())),
    }
}

/// The hidden command: the CA proxy until SIGTERM.
pub(crate) async fn ca_proxy(config: PathBuf) -> anyhow::Result<ExitCode> {
    let text = fs::read(&config).with_context(|| format!("reading {}", config.display()))?;
    let config: ProxyConfig =
        serde_json::from_slice(&text).with_context(|| format!("reading {}", config.display()))?;
    CaProxy::run(config).await?;
    Ok(ExitCode::SUCCESS)
}
