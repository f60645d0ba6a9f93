// SPDX-License-Identifier: Apache-2.0
//! One network namespace: made, entered by a thread, removed.

use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::fetch;
use crate::process::ProcessId;

/// What `ip netns` keeps its names in.
const FOLDER: &str = "/run/netns";
/// Each of ours is `captest-PID-START-N-NAME`, which tells whether its owner still lives.
const PREFIX: &str = "captest-";
/// `ip` asks the kernel, which answers at once.
const IP_LIMIT: Duration = Duration::from_secs(10);

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// A network namespace of this process's own, removed on drop.
#[derive(Debug)]
pub(super) struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes one, its loopback up.
    pub(super) fn create(what: &str) -> anyhow::Result<Self> {
        let me = ProcessId::current()?;
        let n = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{}-{n}-{what}", me.pid, me.started);
        ip(&["netns", "add", &name])?;
        let namespace = Self { name };
        namespace.ip(&["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn path(&self) -> PathBuf {
        Path::new(FOLDER).join(&self.name)
    }

    /// Runs `ip` within.
    pub(super) fn ip(&self, args: &[&str]) -> anyhow::Result<()> {
        ip(&[&["-n", &self.name], args].concat())
    }

    /// Runs lines of `ip` within, in one go.
    pub(super) fn ip_batch(&self, lines: &str) -> anyhow::Result<()> {
        let file = tempfile::NamedTempFile::new().context("making a file for ip")?;
        fs::write(file.path(), lines).context("writing a file for ip")?;
        ip(&["-n", &self.name, "-batch", &file.path().display().to_string()])
    }

    /// Does something on a thread that is within. What it starts, and every socket that it makes, stays there.
    pub(super) fn within<T: Send>(
        &self,
        work: impl FnOnce() -> anyhow::Result<T> + Send,
    ) -> anyhow::Result<T> {
        let path = self.path();
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let file = File::open(&path).with_context(|| format!("opening {}", path.display()))?;
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                    .with_context(|| format!("entering {}", path.display()))?;
                work()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // What is left is swept by the next process that makes a network.
        let _best_effort = ip(&["netns", "del", &self.name]);
    }
}

/// Refuses, with what to do, where namespaces cannot be had; removes those whose owners are gone.
pub(super) fn prepare() -> anyhow::Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "partitions are made of network namespaces, which only root may make; run this as root"
    );
    ensure!(fetch::find_in_path("nsenter").is_some(), "nsenter is not here; install util-linux");
    fetch::iproute2()?;
    // Its children must not be born in a namespace of ours.
    crate::process::start_spawner();
    let Ok(entries) = fs::read_dir(FOLDER) else { return Ok(()) };
    for name in entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        if owner_of(&name).is_some_and(|owner| !owner.is_alive()) {
            let _another_process_may_sweep_too = ip(&["netns", "del", &name]);
        }
    }
    Ok(())
}

fn owner_of(name: &str) -> Option<ProcessId> {
    let mut parts = name.strip_prefix(PREFIX)?.split('-');
    Some(ProcessId { pid: parts.next()?.parse().ok()?, started: parts.next()?.parse().ok()? })
}

fn ip(args: &[&str]) -> anyhow::Result<()> {
    fetch::run(Command::new("ip").args(args), IP_LIMIT).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_name_of_ours_has_an_owner() {
        assert_eq!(owner_of("captest-7-42-0-api-0"), Some(ProcessId { pid: 7, started: 42 }));
        for other in ["captest-", "captest-x-1-0", "cni-7-42", "7-42-0"] {
            assert_eq!(owner_of(other), None, "{other}");
        }
    }
}
