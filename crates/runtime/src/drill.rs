// SPDX-License-Identifier: Apache-2.0
//! Drills: the process kills or stops itself at a named point, writes down which points it passed, or does without a
//! guard.
//!
//! Only builds with the feature `drill` have this. `CAP_DRILL_KILL=point[:nth]` names the point and which passing of
//! it is the last (1 unless given); at `CAP_DRILL_STOP=point[:nth]` the process stops (SIGSTOP) until it is told to go
//! on; `CAP_DRILL_HITS=file` gets a line for each point passed; `CAP_DRILL_MUTANT=name` takes a guard away.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cap_core::fault::{self, Mutant};
use rustix::process::{Signal, getpid, kill_process};

use crate::config::{Fault, Faults};

/// Longer than a signal takes to stop every thread of a process.
const STOPPED_WITHIN: Duration = Duration::from_millis(200);

static PLAN: OnceLock<Plan> = OnceLock::new();

#[derive(Debug, Default)]
struct Plan {
    kill: Option<At>,
    stop: Option<At>,
    hits: Option<File>,
}

#[derive(Debug)]
struct At {
    point: &'static str,
    /// Passings that are left; it happens at the one that makes it zero.
    left: AtomicU64,
}

/// Reads the drill's variables and arms the failpoints. Only the first call of a process counts.
///
/// # Errors
/// When a variable is wrong: a drill that kills nobody proves nothing.
pub fn install() -> Result<(), Faults> {
    let at = |variable| {
        let text = std::env::var(variable).ok().filter(|text| !text.is_empty());
        text.map(|text| parse(variable, &text)).transpose()
    };
    let (kill, stop) = (at("CAP_DRILL_KILL")?, at("CAP_DRILL_STOP")?);
    let hits = std::env::var_os("CAP_DRILL_HITS").filter(|path| !path.is_empty());
    let open = |path: std::ffi::OsString| {
        let file = OpenOptions::new().append(true).create(true).open(&path);
        file.map_err(|error| {
            let why = format!("{} cannot be opened: {error}", path.display());
            Fault::new("CAP_DRILL_HITS", why, "name a file that this process may append to")
        })
    };
    let hits = hits.map(open).transpose()?;
    if let Some(name) = std::env::var("CAP_DRILL_MUTANT").ok().filter(|name| !name.is_empty()) {
        let mutant = mutant(&name)?;
        tracing::warn!(name, "drill: this process does without a guard");
        fault::mutate(mutant);
    }
    let _ = PLAN.set(Plan { kill, stop, hits });
    fault::install(pass);
    Ok(())
}

fn mutant(name: &str) -> Result<Mutant, Fault> {
    Mutant::ALL.into_iter().find(|mutant| mutant.name() == name).ok_or_else(|| {
        let known = Mutant::ALL.map(Mutant::name).join(" ");
        Fault::new("CAP_DRILL_MUTANT", format!("`{name}` is no mutant"), format!("write one of {known}"))
    })
}

fn parse(variable: &'static str, text: &str) -> Result<At, Fault> {
    let (name, nth) = text.split_once(':').unwrap_or((text, "1"));
    let point = fault::points().find(|point| *point == name);
    let nth = nth.parse().ok().filter(|nth| *nth > 0);
    match (point, nth) {
        (Some(point), Some(nth)) => {
            let left = AtomicU64::new(nth);
            Ok(At { point, left })
        }
        (None, _) => Err(Fault::new(
            variable,
            format!("`{name}` is no failpoint"),
            format!("write one of {}", fault::points().collect::<Vec<_>>().join(" ")),
        )),
        (Some(_), None) => Err(Fault::new(
            variable,
            "what stands behind the colon is no count",
            "write point:nth, nth from 1 on",
        )),
    }
}

fn pass(point: &'static str) {
    let Some(plan) = PLAN.get() else { return };
    if let Some(mut file) = plan.hits.as_ref() {
        // One write of a short line in append mode: lines of several processes do not mix.
        if let Err(error) = file.write_all(format!("{point}\n").as_bytes()) {
            tracing::error!(point, %error, "the drill's hit was not written down");
        }
    }
    if plan.kill.as_ref().is_some_and(|kill| kill.is_due(point)) {
        tracing::warn!(point, "drill: this process kills itself now");
        let _ = kill_process(getpid(), Signal::KILL);
    }
    if plan.stop.as_ref().is_some_and(|stop| stop.is_due(point)) {
        tracing::warn!(point, "drill: this process stops itself now");
        let _ = kill_process(getpid(), Signal::STOP);
        // The signal is the process's: another thread may take it while this one still runs.
        std::thread::sleep(STOPPED_WITHIN);
    }
}

impl At {
    fn is_due(&self, point: &str) -> bool {
        self.point == point && self.left.fetch_sub(1, Ordering::SeqCst) == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nth_passing_of_its_point_is_the_last() {
        let kill = parse("CAP_DRILL_KILL", "finalize.before:2").unwrap();
        assert!(!kill.is_due("finalize.after"));
        assert!(!kill.is_due("finalize.before"));
        assert!(kill.is_due("finalize.before"));
        assert!(parse("CAP_DRILL_KILL", "claim.after").unwrap().is_due("claim.after"));
    }

    #[test]
    fn a_drill_that_would_kill_nobody_is_refused() {
        for text in ["finalise.before", "finalize.before:0", "finalize.before:x", ":1"] {
            assert!(parse("CAP_DRILL_KILL", text).is_err(), "{text}");
        }
        assert!(mutant("nofence").is_err());
        assert_eq!(mutant("no-fence").ok(), Some(Mutant::NoFence));
    }
}
