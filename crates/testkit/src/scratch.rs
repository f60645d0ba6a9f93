// SPDX-License-Identifier: Apache-2.0
//! Scratch folders that do not pile up: removed on drop, and swept by the next process when their owner was killed.
//!
//! They are under the system's temporary folder, or in memory where `cargo xtask test` says so: tests wait for thousands of
//! majorities, and what a disk takes for that says nothing about what they test.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Context as _;

use crate::process::ProcessId;

/// The folder of all scratch folders; each entry is `PID-START-N`, which tells whether its owner still lives.
const PARENT: &str = "certautopilot-testkit";
/// Names the folder that takes the temporary folder's place.
pub const FOLDER_VARIABLE: &str = "CAP_TEST_SCRATCH";
/// A file system in memory, on Linux.
const MEMORY: &str = "/dev/shm";
/// What must be free there: all tests together write some gigabytes, a few of them at a time.
const MEMORY_FREE_MIN: u64 = 8 << 30;

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// A folder of this process's own, removed on drop.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes an empty folder, and removes those whose owners are gone.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn create() -> anyhow::Result<Self> {
        Self::create_in(&std::env::var_os(FOLDER_VARIABLE).map_or_else(std::env::temp_dir, PathBuf::from))
    }

    /// The same under this folder.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn create_in(folder: &Path) -> anyhow::Result<Self> {
        let parent = folder.join(PARENT);
        fs::create_dir_all(&parent).with_context(|| format!("making {}", parent.display()))?;
        sweep(&parent);
        let me = ProcessId::current()?;
        let n = COUNTER.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("{}-{}-{n}", me.pid, me.started));
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.with_context(|| format!("making {}", path.display()))?;
        Ok(Self { path })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Where scratch folders of tests are best: in memory where there is room for them, else among the temporary files.
#[must_use]
pub fn quickest() -> PathBuf {
    let room = rustix::fs::statvfs(MEMORY).map_or(0, |stat| stat.f_bavail.saturating_mul(stat.f_frsize));
    if room >= MEMORY_FREE_MIN { PathBuf::from(MEMORY) } else { std::env::temp_dir() }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left is swept by the next process that makes a scratch folder.
        let _best_effort = fs::remove_dir_all(&self.path);
    }
}

fn sweep(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(owner) = name.to_str().and_then(owner_of) else { continue };
        if !owner.is_alive() {
            let _another_process_may_sweep_too = fs::remove_dir_all(entry.path());
        }
    }
}

/// Whose scratch folder a path is in, or is.
pub(crate) fn owner_of_path(path: &Path) -> Option<ProcessId> {
    let mut components = path.components().skip_while(|component| component.as_os_str() != PARENT);
    owner_of(components.nth(1)?.as_os_str().to_str()?)
}

fn owner_of(name: &str) -> Option<ProcessId> {
    let mut parts = name.split('-');
    let pid = parts.next()?.parse().ok()?;
    let started = parts.next()?.parse().ok()?;
    Some(ProcessId { pid, started })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_owners_folder_is_swept_and_a_living_ones_is_not() {
        let mine = Scratch::create().unwrap();
        let me = ProcessId::current().unwrap();
        // Our pid with another start time: a process that is gone and whose pid was given out again.
        let stale = mine.path().parent().unwrap().join(format!("{}-{}-0", me.pid, me.started + 1));
        fs::create_dir_all(&stale).unwrap();
        let another = Scratch::create().unwrap();
        assert!(!stale.exists());
        assert!(mine.path().exists() && another.path().exists());
    }

    #[test]
    fn the_owner_of_what_is_in_a_scratch_folder_is_known_wherever_that_is() {
        let me = ProcessId::current().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let scratch = Scratch::create_in(elsewhere.path()).unwrap();
        for path in [scratch.path().to_owned(), scratch.path().join("data/mongod-0")] {
            assert_eq!(owner_of_path(&path).unwrap(), me);
        }
        assert!(owner_of_path(elsewhere.path()).is_none());
    }
}
