// SPDX-License-Identifier: Apache-2.0
//! The cache folder of the user: one folder for each pinned version, filled once, by one process at a time.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::progress::say;

/// Another process may be downloading or building the same: as long as its own limit, and some.
const LOCK_LIMIT_SECONDS: u64 = 900;
const LOCK_LOOK_EVERY_MS: u64 = 100;

/// `$XDG_CACHE_HOME/certautopilot/NAME`, else `~/.cache/certautopilot/NAME`.
pub(super) fn folder(name: &str) -> anyhow::Result<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME").filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = base.or_else(|| std::env::home_dir().map(|home| home.join(".cache")));
    let base = base.context("neither XDG_CACHE_HOME nor HOME is set, so there is nowhere to keep servers")?;
    let path = base.join("certautopilot").join(name);
    fs::create_dir_all(&path).with_context(|| format!("making the cache folder {}", path.display()))?;
    Ok(path)
}

/// Held by the one process that fills a folder.
#[derive(Debug)]
pub(super) struct FillLock {
    _file: File,
}

/// Waits until no other process fills this folder.
pub(super) fn lock(folder: &Path) -> anyhow::Result<FillLock> {
    let path = folder.join(".lock");
    let file = File::options().create(true).write(true).truncate(false).open(&path);
    let file = file.with_context(|| format!("opening {}", path.display()))?;
    let deadline = Instant::now() + Duration::from_secs(LOCK_LIMIT_SECONDS);
    let mut said = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(FillLock { _file: file }),
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("locking {}", path.display()));
            }
            Err(TryLockError::WouldBlock) if Instant::now() > deadline => {
                bail!(
                    "another process fills {} for {LOCK_LIMIT_SECONDS} s already; end it, then try again",
                    folder.display()
                )
            }
            Err(TryLockError::WouldBlock) => {
                if !said {
                    say(format_args!("waiting for another process that fills {}", folder.display()));
                    said = true;
                }
                std::thread::sleep(Duration::from_millis(LOCK_LOOK_EVERY_MS));
            }
        }
    }
}
