// SPDX-License-Identifier: Apache-2.0
//! What a frame says of a snapshot.

use serde_json::json;

use super::*;
use crate::output::shown_tests::certificate;

fn snapshot() -> Snapshot {
    let instance = |name: &str, role: &str, state: &str| {
        let mut one = json!({
            "id": format!("ins_{}", "0".repeat(32)), "name": name, "role": role, "state": state,
            "version": "1.0.0", "commit": null, "host": "h", "pid": 7, "started_at": "2026-02-01T00:00:00Z",
            "seen_at": "2026-02-01T00:00:58Z", "clock_skew_seconds": 0.0,
        });
        if role == "worker" {
            one["running"] = 3.into();
            one["concurrency"] = 32.into();
        }
        one
    };
    let cluster = serde_json::from_value(json!({
        "instances": [instance("api-0", "api", "ready"), instance("worker-0", "worker", "lost")],
        "version_skew": false,
        "warnings": ["worker worker-0 is lost\u{1b}[2J"],
        "leader": {
            "holder": "scheduler-1", "epoch": 7, "since": "2026-02-01T00:00:00Z",
            "expires_at": "2026-02-01T00:01:15Z", "expired": false, "stepping_down": false, "standbys": 2,
            "version": "1.0.0",
        },
        "leases": [],
        "queue": {
            "depth": 12, "capped": false, "oldest_age_seconds": 3.9, "by_kind": [
                { "kind": "issue", "due": 10, "running": 2, "capped": false, "oldest_age_seconds": 3.9 },
            ], "measured_at": "2026-02-01T00:00:58Z",
        },
        "queue_unavailable": null,
        "kek_version": 1, "kek_provider": "file",
        "database": {
            "replica_set": "rs0", "primary": "db-0:27017", "majority_lag_seconds": 0.4,
            "members": [
                { "host": "db-0:27017", "state": "primary", "lag_seconds": 0.0 },
                { "host": "db-1:27017", "state": "unavailable", "lag_seconds": null },
            ],
        },
        "at": "2026-02-01T00:01:00Z",
    }))
    .unwrap();
    let mut failing = certificate();
    failing.status = cap_core::certificate::Status::Failing;
    let attention = cap_client::wire::Attention { failing: vec![failing], ending: vec![certificate()] };
    let work = Work { project: "demo".into(), running: vec![], more_running: false, attention };
    let at = "2026-02-01T00:01:00Z".parse().unwrap();
    Snapshot { at, cluster, projects: vec![work], more_projects: true }
}

fn has(lines: &[String], part: &str) -> bool {
    lines.iter().any(|line| line.contains(part))
}

#[test]
fn a_frame_tells_of_everything_that_was_seen() {
    let lines = render(&snapshot(), false);
    for part in [
        "api 1/1, worker 0/1, scheduler 0/0 ready",
        "Leader: scheduler-1, epoch 7, since 1 min ago; 2 stand by",
        "Queue: 12 due or running, the oldest due for 3 s (issue: 10 due for 3 s, 2 running)",
        "rs0, 1 of 2 members (db-1:27017 unavailable), primary db-0:27017, majority 0 s behind; KEK version 1 (file)",
        "! worker worker-0 is lost",
        "3 of 32 jobs",
        "failing",
        "was never issued",
        "name one with --project",
    ] {
        assert!(has(&lines, part), "{part:?} is not in {lines:#?}");
    }
    assert!(!has(&lines, "PID") && has(&render(&snapshot(), true), "PID"));
    assert!(lines.iter().all(|line| !line.contains(char::is_control)), "{lines:#?}");
    let nothing = lines.iter().position(|line| line == "Running jobs").unwrap();
    assert_eq!(lines[nothing + 1], "  none");
}

#[test]
fn what_is_not_known_is_said_and_no_number_is_made_up() {
    let mut snapshot = snapshot();
    snapshot.cluster.leader = None;
    snapshot.cluster.queue = None;
    snapshot.cluster.queue_unavailable = Some("no scheduler has measured it".into());
    let lines = render(&snapshot, false);
    assert!(has(&lines, "Leader: none was elected yet"), "{lines:#?}");
    assert!(has(&lines, "Queue: not known; no scheduler has measured it"), "{lines:#?}");
}

#[test]
fn an_old_frame_is_marked_once() {
    let mut lines = vec!["a".to_owned()];
    mark(&mut lines, "the API is away");
    mark(&mut lines, "still");
    assert_eq!(lines, ["!! not up to date: still", "a"]);
}
