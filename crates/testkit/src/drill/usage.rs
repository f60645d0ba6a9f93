// SPDX-License-Identifier: Apache-2.0
//! What our processes hold: memory and file descriptors, from /proc.

use std::fs;

use anyhow::Context as _;

use crate::process::Service;

/// What one process holds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    /// The most memory that it ever held.
    pub(super) peak_mib: f64,
    /// Its open file descriptors now.
    pub(super) descriptors: usize,
}

/// What this service holds, since it was started last.
pub(super) fn of(service: &Service) -> anyhow::Result<Usage> {
    let pid = service.pid();
    let read = || -> anyhow::Result<Usage> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
        let peak_kib: f64 = peak.trim().trim_end_matches("kB").trim().parse()?;
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd"))?.count();
        Ok(Usage { peak_mib: peak_kib / 1024.0, descriptors })
    };
    read().with_context(|| format!("looking at {} (pid {pid})", service.name()))
}
