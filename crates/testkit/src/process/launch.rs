// SPDX-License-Identifier: Apache-2.0
//! One process: how it is started, and the handle to it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::identity::{ProcessId, Signal};
use crate::wait::{self, Pending};

/// How much of a log is shown when its process failed.
const LOG_TAIL_LINES: usize = 15;
/// Only the end of a log is read for that; a log of a long run is large.
const LOG_TAIL_BYTES: u64 = 64 * 1024;

/// What to start. Kept, so that the same can be started again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Launch {
    /// Its name: `mongod-0`, `api-1`. Names the log and the pid file.
    pub name: String,
    /// The binary.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its whole environment, beside a few harmless variables such as `PATH`.
    pub env: BTreeMap<String, String>,
    /// Where it listens, for people.
    pub address: String,
}

/// A started process. Dropping the handle of one that lives with us kills it; a detached one goes on.
#[derive(Debug)]
pub struct Process {
    pub(super) launch: Launch,
    pub(super) log: PathBuf,
    pub(super) id: ProcessId,
    pub(super) child: Mutex<Child>,
    pub(super) dies_with_us: bool,
}

impl Process {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.launch.name
    }

    /// What it was started with.
    #[must_use]
    pub fn launch(&self) -> &Launch {
        &self.launch
    }

    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.id.pid
    }

    /// Its pid and start time.
    #[must_use]
    pub fn id(&self) -> ProcessId {
        self.id
    }

    /// Its log file: stdout and stderr.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Whether it still runs. Reaps it when it does not.
    #[must_use]
    pub fn is_running(&self) -> bool {
        matches!(self.child().try_wait(), Ok(None)) && self.id.is_alive()
    }

    /// Sends a signal; `false` when it is gone.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<bool> {
        self.id.signal(signal)
    }

    /// SIGKILL, and waits for the end: at once, also for a stopped process.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn kill9(&self) -> anyhow::Result<()> {
        let mut child = self.child();
        if child.try_wait()?.is_none() {
            self.id.signal(Signal::KILL)?;
            child.wait()?;
        }
        Ok(())
    }

    /// Waits for its end. The code is `None` when a signal ended it.
    ///
    /// # Errors
    /// When it still runs after `limit`.
    pub async fn wait_exit(&self, limit: Duration) -> anyhow::Result<Option<i32>> {
        wait::until(&format!("the end of {}", self.name()), limit, || async {
            match self.child().try_wait() {
                Ok(Some(status)) => Ok(status.code()),
                Ok(None) => Err(Pending::not_yet("it runs")),
                Err(error) => Err(Pending::Never(error.into())),
            }
        })
        .await
    }

    /// The last lines of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        log_tail(&self.log)
    }

    /// That it ended, as an error that shows why.
    #[must_use]
    pub fn died(&self) -> Pending {
        Pending::Never(anyhow::anyhow!(
            "{} ended; the end of {}:\n{}",
            self.name(),
            self.log.display(),
            self.log_tail()
        ))
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.dies_with_us {
            let _gone_already = self.kill9();
        }
    }
}

/// The last lines of a log, or why there are none.
pub fn log_tail(log: &Path) -> String {
    let read = || -> anyhow::Result<String> {
        use std::io::{Read as _, Seek as _, SeekFrom};
        let mut file = std::fs::File::open(log).context("opening the log")?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(LOG_TAIL_BYTES).read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        Ok(lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n"))
    };
    read().unwrap_or_else(|error| format!("({error:#})"))
}
