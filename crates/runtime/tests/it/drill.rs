// SPDX-License-Identifier: Apache-2.0
//! Drills, in builds that have them.

use std::os::unix::process::ExitStatusExt;

use rustix::process::Signal;

use crate::service::Service;

#[test]
fn the_nth_passing_kills_the_process_and_every_passing_is_written_down() {
    let dir = tempfile::tempdir().unwrap();
    let hits = dir.path().join("hits");
    let env = [("CAP_DRILL_KILL", "claim.after:2"), ("CAP_DRILL_HITS", hits.to_str().unwrap())];
    let mut service = Service::start("drilled", &env);
    assert_eq!(service.end_status().signal(), Some(Signal::KILL.as_raw()), "{:#?}", service.log);
    let hits = std::fs::read_to_string(hits).unwrap();
    assert_eq!(hits, "claim.before\nclaim.after\nclaim.before\nclaim.after\n");
}

#[test]
fn without_a_point_the_process_lives() {
    let mut service = Service::start("drilled", &[]);
    assert_eq!(service.end(), 0, "{:#?}", service.log);
}

#[test]
fn a_misspelt_drill_ends_with_64() {
    let mut service = Service::start("drilled", &[("CAP_DRILL_KILL", "clam.after")]);
    assert_eq!(service.end(), 64);
    assert!(service.logged("`clam.after` is no failpoint"), "{:#?}", service.log);
}
