// SPDX-License-Identifier: Apache-2.0
//! Which process a pid means: a pid alone is given out again, a pid and a start time are not.

use std::fs;

use anyhow::{Context as _, anyhow, bail};
use rustix::process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

pub use rustix::process::Signal;

/// A process of this boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// The kernel's number.
    pub pid: i32,
    /// Its start, in clock ticks since boot (field 22 of `/proc/PID/stat`).
    pub started: u64,
}

impl ProcessId {
    /// The process that has this pid now, if there is one that is not a zombie.
    #[must_use]
    pub fn of(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (state, started) = parse_stat(&stat)?;
        (!matches!(state, 'Z' | 'X')).then_some(Self { pid, started })
    }

    /// This process.
    ///
    /// # Errors
    /// When `/proc` is not there.
    pub fn current() -> anyhow::Result<Self> {
        let pid = i32::try_from(std::process::id()).context("a pid fits an i32")?;
        Self::of(pid).ok_or_else(|| anyhow!("/proc/self/stat cannot be read; testkit needs Linux with /proc"))
    }

    /// Whether it runs (a stopped process runs, a zombie does not).
    #[must_use]
    pub fn is_alive(&self) -> bool {
        Self::of(self.pid).as_ref() == Some(self)
    }

    /// Whether it is stopped, by SIGSTOP for one.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        matches!(parse_stat(&stat), Some(('T' | 't', started)) if started == self.started)
    }

    /// Sends a signal; `false` when the process is gone. Never reaches another process that got its pid: the start
    /// time is compared after the pidfd was opened, and the pidfd stays with the process that it was opened for.
    ///
    /// # Errors
    /// When the kernel refuses for another reason than the process being gone.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<bool> {
        let Some(pid) = Pid::from_raw(self.pid) else { bail!("{} is not a pid", self.pid) };
        let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { return Ok(false) };
        if !self.is_alive() {
            return Ok(false);
        }
        match pidfd_send_signal(&pidfd, signal) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::SRCH) => Ok(false),
            Err(error) => Err(error).with_context(|| format!("sending {signal:?} to pid {}", self.pid)),
        }
    }
}

/// State letter and start time. The name in brackets may itself hold brackets and spaces, so the last one counts.
fn parse_stat(stat: &str) -> Option<(char, u64)> {
    /// Field 22 of the line, counted from the first one after the name (field 3).
    const START_TIME_INDEX: usize = 19;
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let started = fields.nth(START_TIME_INDEX - 1)?.parse().ok()?;
    Some((state, started))
}

/// The kernel's name of this boot: start times mean nothing in another.
///
/// # Errors
/// When `/proc` is not there.
pub fn boot_id() -> anyhow::Result<String> {
    let path = "/proc/sys/kernel/random/boot_id";
    Ok(fs::read_to_string(path).with_context(|| format!("reading {path}"))?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 99";
        assert_eq!(parse_stat(stat), Some(('S', 4242)));
    }

    #[test]
    fn a_recycled_pid_gets_no_signal() {
        let me = ProcessId::current().unwrap();
        let before_me = ProcessId { started: me.started - 1, ..me };
        assert!(me.is_alive());
        assert!(!before_me.is_alive());
        assert!(!before_me.signal(Signal::KILL).unwrap());
    }
}
