// SPDX-License-Identifier: Apache-2.0
//! Our own binaries as processes: found, started, ready, killed, started again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::identity::Signal;
use super::launch::{Launch, Process};
use super::launcher::Launcher;
use crate::wait::{self, Pending};

/// One probe of a readiness URL, or one look at the metrics; the wait as a whole has its own limit.
const PROBE_LIMIT_MS: u64 = 2_000;

/// Where our binaries are.
#[derive(Clone, Debug)]
pub struct Binaries {
    folder: PathBuf,
}

impl Binaries {
    /// In this folder.
    #[must_use]
    pub fn in_folder(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// `CAP_TEST_BIN_DIR`, else the target folder of the running test.
    ///
    /// # Errors
    /// When neither is known.
    pub fn find() -> anyhow::Result<Self> {
        if let Some(folder) = std::env::var_os("CAP_TEST_BIN_DIR") {
            return Ok(Self { folder: folder.into() });
        }
        let exe = std::env::current_exe().context("finding this test's own binary")?;
        // target/debug/deps/it-0123 for a test, target/debug/xtask for a binary.
        let folder = exe.ancestors().skip(1).find(|folder| !folder.ends_with("deps"));
        let folder = folder.context("this test's binary lies in no folder")?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// The path of one of them.
    ///
    /// # Errors
    /// When it was not built.
    pub fn path(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.folder.join(name);
        if !path.is_file() {
            bail!(
                "{} is not there: run `cargo xtask test`, or `cargo build --workspace --bins` before this test",
                path.display()
            );
        }
        Ok(path)
    }
}

/// One of our services as a process.
#[derive(Debug)]
pub struct Service {
    launcher: Arc<Launcher>,
    process: Process,
    ready_url: String,
}

impl Service {
    /// Starts it. `ready_url` answers 200 once it can work.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(launcher: Arc<Launcher>, launch: Launch, ready_url: String) -> anyhow::Result<Self> {
        let process = launcher.spawn(launch)?;
        Ok(Self { launcher, process, ready_url })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.process.name()
    }

    /// The process.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.process.pid()
    }

    /// Sends a signal; `false` when it is gone.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<bool> {
        self.process.signal(signal)
    }

    /// SIGKILL, and waits for the end.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn kill9(&self) -> anyhow::Result<()> {
        self.process.kill9()
    }

    /// Waits for its end; the code is `None` when a signal ended it.
    ///
    /// # Errors
    /// When it still runs after `limit`.
    pub async fn wait_exit(&self, limit: Duration) -> anyhow::Result<Option<i32>> {
        self.process.wait_exit(limit).await
    }

    /// Waits until it says that it is ready.
    ///
    /// # Errors
    /// When it ends, or is not ready after `limit`; the end of its log is shown.
    pub async fn wait_ready(&self, limit: Duration) -> anyhow::Result<()> {
        wait_ready(&self.process, &self.ready_url, limit).await
    }

    /// What its metrics page says.
    ///
    /// # Errors
    /// When it has no admin listener, or does not answer there.
    pub async fn metrics(&self) -> anyhow::Result<String> {
        let admin = self.process.launch().env.get("CAP_ADMIN_LISTEN").context("it has no admin listener")?;
        let client = client()?;
        let answer = client.get(format!("http://{admin}/metrics")).send().await?.error_for_status()?;
        Ok(answer.text().await?)
    }

    /// The most memory, in MiB, that it ever had since it started.
    ///
    /// # Errors
    /// When it is gone.
    pub fn peak_mib(&self) -> anyhow::Result<usize> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<usize>().ok());
        Ok(kib.context("its status does not tell its peak")? / 1024)
    }

    /// Starts it again with what it was started with. What still runs of it is killed first.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.process.kill9()?;
        self.process = self.launcher.spawn(self.process.launch().clone())?;
        Ok(())
    }

    /// Its settings for the next [`Service::restart`].
    pub fn set_env(&mut self, name: &str, value: &str) {
        self.process.launch.env.insert(name.to_owned(), value.to_owned());
    }
}

/// Waits until `url` answers with success, while the process runs.
///
/// # Errors
/// When the process ends, or the limit passes; the end of its log is shown.
pub async fn wait_ready(process: &Process, url: &str, limit: Duration) -> anyhow::Result<()> {
    let client = client()?;
    let what = format!("{} to answer at {url}", process.name());
    let waited = wait::until(&what, limit, || async {
        if !process.is_running() {
            return Err(process.died());
        }
        match client.get(url).send().await {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(Pending::not_yet(answer.status())),
            Err(error) => Err(Pending::not_yet(error)),
        }
    });
    waited.await.with_context(|| format!("see {}", process.log().display()))
}

fn client() -> anyhow::Result<reqwest::Client> {
    crate::tls::install();
    let client = reqwest::Client::builder()
        .user_agent(crate::tls::USER_AGENT)
        .timeout(Duration::from_millis(PROBE_LIMIT_MS))
        .tls_danger_accept_invalid_certs(true);
    Ok(client.build()?)
}

/// The value of one series of a metrics page, the series written as it is shown: `name` or `name{label="value"}`.
#[must_use]
pub fn series(metrics: &str, series: &str) -> Option<f64> {
    let value = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    value.parse().ok()
}
