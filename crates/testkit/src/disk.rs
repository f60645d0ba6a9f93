// SPDX-License-Identifier: Apache-2.0
//! A small disk that can be filled up: a file system in memory, mounted where a server keeps its data.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

use crate::fetch::{find_in_path, run};
use crate::scratch;

/// What takes the room of others.
const FILLER: &str = "filler";
/// The kernel answers at once.
const MOUNT_LIMIT: Duration = Duration::from_secs(10);
/// The filler grows by so much at once, and by single pages where that does not fit any more.
const STEP_OCTETS: usize = 1024 * 1024;
const PAGE_OCTETS: usize = 4096;

/// A mounted disk; unmounted on drop, its data gone.
#[derive(Debug)]
pub struct Disk {
    path: PathBuf,
}

impl Disk {
    /// Mounts an empty disk of this size at a folder, and unmounts those whose owners are gone.
    ///
    /// # Errors
    /// When this is not root, or the kernel refuses.
    pub fn mount(path: &Path, mib: u32) -> anyhow::Result<Self> {
        ensure!(
            rustix::process::geteuid().is_root(),
            "a disk that can be filled up is a mount, which only root may make; run this as root"
        );
        ensure!(find_in_path("mount").is_some(), "mount is not here; install the package mount (util-linux)");
        sweep();
        let size = format!("size={mib}m,mode=0700");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "certautopilot-testkit"]).arg(path);
        run(&mut mount, MOUNT_LIMIT)?;
        Ok(Self { path: path.to_owned() })
    }

    /// Takes all the room that is left. Answers how many octets that were.
    ///
    /// # Errors
    /// When writing fails for another reason than a full disk.
    pub fn fill(&self) -> anyhow::Result<u64> {
        let path = self.path.join(FILLER);
        let mut file = File::options().create(true).append(true).open(&path)?;
        for step in [STEP_OCTETS, PAGE_OCTETS] {
            let zeros = vec![0; step];
            loop {
                match file.write(&zeros) {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => bail!("filling {}: {error}", path.display()),
                }
            }
        }
        Ok(file.metadata()?.len())
    }

    /// Gives the room back.
    ///
    /// # Errors
    /// When nothing was filled.
    pub fn make_room(&self) -> anyhow::Result<()> {
        let path = self.path.join(FILLER);
        fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        unmount(&self.path);
    }
}

/// Lazily: whoever still has a file open keeps it until he ends. What is left is swept by the next process that mounts.
fn unmount(path: &Path) {
    let _best_effort = run(Command::new("umount").arg("--lazy").arg(path), MOUNT_LIMIT);
}

fn sweep() {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for path in mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(Path::new) {
        if scratch::owner_of_path(path).is_some_and(|owner| !owner.is_alive()) {
            unmount(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn a_full_disk_takes_nothing_until_there_is_room_and_is_gone_when_dropped() {
        let scratch = Scratch::create().unwrap();
        let disk = Disk::mount(scratch.path(), 2).unwrap();
        let file = scratch.path().join("file");
        let filled = disk.fill().unwrap();
        assert!(filled > 1024 * 1024, "{filled}");
        let refused = fs::write(&file, "text").unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::StorageFull);
        disk.make_room().unwrap();
        fs::write(&file, "text").unwrap();
        drop(disk);
        assert!(!file.exists());
    }
}
