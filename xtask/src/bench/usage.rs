// SPDX-License-Identifier: Apache-2.0
//! What processes used: CPU seconds and peak memory, from /proc.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, anyhow};

/// What one process used so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    pub(crate) cpu_seconds: f64,
    pub(crate) peak_mib: f64,
}

/// What each of these processes used so far.
pub(crate) fn of(processes: &[(String, i32)]) -> anyhow::Result<BTreeMap<String, Usage>> {
    processes.iter().map(|(name, pid)| Ok((name.clone(), one(*pid).with_context(|| name.clone())?))).collect()
}

fn one(pid: i32) -> anyhow::Result<Usage> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The command's name may contain blanks; the fields begin behind its closing bracket, with the third.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3).and_then(|text| text.parse::<f64>().ok());
    let (user, system) = (field(14).context("utime")?, field(15).context("stime")?);
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let peak =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or_else(|| anyhow!("no VmHWM"))?;
    let peak_kib: f64 = peak.trim().trim_end_matches("kB").trim().parse()?;
    let ticks = rustix::param::clock_ticks_per_second();
    #[expect(clippy::cast_precision_loss, reason = "there are 100 ticks in a second")]
    Ok(Usage { cpu_seconds: (user + system) / ticks as f64, peak_mib: peak_kib / 1024.0 })
}
