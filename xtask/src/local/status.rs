// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask status`: a table, and an exit code for scripts.

use std::fs;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use cap_testkit::process::{Record, StateFile, boot_id};

use crate::workspace::local_home;

/// Some of it does not run.
const EXIT_PARTLY: u8 = 3;
/// Nothing runs.
const EXIT_NOTHING: u8 = 1;

pub(crate) fn run() -> anyhow::Result<ExitCode> {
    let home = local_home()?;
    let Some(state) = StateFile::load(&home)? else {
        println!("nothing is up; `cargo xtask up` starts a local stack");
        return Ok(ExitCode::from(EXIT_NOTHING));
    };
    let same_boot = boot_id()? == state.boot;
    println!("{:<14} {:>8}  {:<8} {:<22} UPTIME", "NAME", "PID", "STATE", "ADDRESS");
    for record in &state.processes {
        let condition = condition(record, same_boot);
        let uptime = if condition == "down" { "-".to_owned() } else { text_of(uptime(record)?) };
        let address = &record.launch.address;
        println!("{:<14} {:>8}  {condition:<8} {address:<22} {uptime}", record.launch.name, record.id.pid);
    }
    let up = state.alive()?.len();
    println!("\n{up} of {} run; logs: {}", state.processes.len(), home.join("logs").display());
    Ok(match up {
        0 => ExitCode::from(EXIT_NOTHING),
        all if all == state.processes.len() && state.complete => ExitCode::SUCCESS,
        _ => ExitCode::from(EXIT_PARTLY),
    })
}

fn condition(record: &Record, same_boot: bool) -> &'static str {
    match (same_boot && record.id.is_alive(), record.id.is_paused()) {
        (false, _) => "down",
        (true, true) => "paused",
        (true, false) => "up",
    }
}

/// From the kernel's own clock: start times count from boot.
fn uptime(record: &Record) -> anyhow::Result<Duration> {
    let text = fs::read_to_string("/proc/uptime").context("reading /proc/uptime")?;
    let since_boot: f64 =
        text.split_whitespace().next().unwrap_or_default().parse().context("/proc/uptime")?;
    let started = Duration::from_secs(record.id.started / rustix::param::clock_ticks_per_second());
    Ok(Duration::try_from_secs_f64(since_boot)?.saturating_sub(started))
}

fn text_of(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds:02}s"),
        _ => format!("{hours}h{minutes:02}m"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptimes_are_short() {
        let text = |seconds| text_of(Duration::from_secs(seconds));
        assert_eq!((text(5), text(65), text(3_725)), ("5s".into(), "1m05s".into(), "1h02m".into()));
    }
}
