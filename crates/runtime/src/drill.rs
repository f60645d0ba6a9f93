// SPDX-License-Identifier: Apache-2.0
//! Drills: the process kills itself at a named point, and writes down which points it passed.
//!
//! Only builds with the feature `drill` have this. `CAP_DRILL_KILL=point[:nth]` names the point and which passing of
//! it is the last (1 unless given); `CAP_DRILL_HITS=file` gets a line for each point passed.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use cap_core::fault::{self, POINTS};
use rustix::process::{Signal, getpid, kill_process};

use crate::config::{Fault, Faults};

static PLAN: OnceLock<Plan> = OnceLock::new();

#[derive(Debug, Default)]
struct Plan {
    kill: Option<Kill>,
    hits: Option<File>,
}

#[derive(Debug)]
struct Kill {
    point: &'static str,
    /// Passings that are left; the process dies at the one that makes it zero.
    left: AtomicU64,
}

/// Reads the drill's variables and arms the failpoints. Only the first call of a process counts.
///
/// # Errors
/// When a variable is wrong: a drill that kills nobody proves nothing.
pub fn install() -> Result<(), Faults> {
    let kill = std::env::var("CAP_DRILL_KILL").ok().filter(|text| !text.is_empty());
    let kill = kill.map(|text| parse(&text)).transpose()?;
    let hits = std::env::var_os("CAP_DRILL_HITS").filter(|path| !path.is_empty());
    let open = |path: std::ffi::OsString| {
        let file = OpenOptions::new().append(true).create(true).open(&path);
        file.map_err(|error| {
            let why = format!("{} cannot be opened: {error}", path.display());
            Fault::new("CAP_DRILL_HITS", why, "name a file that this process may append to")
        })
    };
    let hits = hits.map(open).transpose()?;
    let _ = PLAN.set(Plan { kill, hits });
    fault::install(pass);
    Ok(())
}

fn parse(text: &str) -> Result<Kill, Fault> {
    let (name, nth) = text.split_once(':').unwrap_or((text, "1"));
    let point = POINTS.iter().find(|point| **point == name);
    let nth = nth.parse().ok().filter(|nth| *nth > 0);
    match (point, nth) {
        (Some(point), Some(nth)) => {
            let left = AtomicU64::new(nth);
            Ok(Kill { point, left })
        }
        (None, _) => Err(Fault::new(
            "CAP_DRILL_KILL",
            format!("`{name}` is no failpoint"),
            format!("write one of {}", POINTS.join(" ")),
        )),
        (Some(_), None) => Err(Fault::new(
            "CAP_DRILL_KILL",
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
    if let Some(kill) = plan.kill.as_ref().filter(|kill| kill.is_due(point)) {
        tracing::warn!(point = kill.point, "drill: this process kills itself now");
        let _ = kill_process(getpid(), Signal::KILL);
    }
}

impl Kill {
    fn is_due(&self, point: &str) -> bool {
        self.point == point && self.left.fetch_sub(1, Ordering::SeqCst) == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nth_passing_of_its_point_is_the_last() {
        let kill = parse("finalize.before:2").unwrap();
        assert!(!kill.is_due("finalize.after"));
        assert!(!kill.is_due("finalize.before"));
        assert!(kill.is_due("finalize.before"));
        assert!(parse("claim.after").unwrap().is_due("claim.after"));
    }

    #[test]
    fn a_drill_that_would_kill_nobody_is_refused() {
        for text in ["finalise.before", "finalize.before:0", "finalize.before:x", ":1"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
