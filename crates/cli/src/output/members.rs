// SPDX-License-Identifier: Apache-2.0
//! How processes and their leader look in a table.

use std::time::Duration;

use cap_client::wire::{Instance, Leader, SteppingDown};
use cap_core::instance::{Doing, Standing};
use jiff::Timestamp;

use super::shown::{Shown, or_dash};
use super::text::{distance, instant_from, span};

impl Shown for Leader {
    const HEAD: &'static [&'static str] = &["HOLDER", "STATE", "EPOCH", "SINCE", "LEASE ENDS", "STANDBYS"];
    const WIDE: &'static [&'static str] = &["VERSION"];

    fn id(&self) -> String {
        self.holder.clone()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let state = match (self.expired, self.stepping_down) {
            (true, _) => "expired",
            (false, true) => "stepping down",
            (false, false) => "leading",
        };
        vec![
            self.holder.clone(),
            state.to_owned(),
            self.epoch.to_string(),
            or_dash(self.since.map(|at| instant_from(at, now))),
            instant_from(self.expires_at, now),
            self.standbys.to_string(),
        ]
    }

    fn wide_cells(&self, _now: Timestamp) -> Vec<String> {
        vec![or_dash(self.version.clone())]
    }
}

impl Shown for SteppingDown {
    const HEAD: &'static [&'static str] = &["ASKED", "EPOCH"];

    fn id(&self) -> String {
        self.holder.clone()
    }

    fn cells(&self, _now: Timestamp) -> Vec<String> {
        vec![self.holder.clone(), self.epoch.to_string()]
    }
}

impl Shown for Instance {
    const HEAD: &'static [&'static str] = &["NAME", "ROLE", "STATE", "DOING", "VERSION", "STARTED", "SEEN"];
    const WIDE: &'static [&'static str] = &["HOST", "PID", "SKEW", "COMMIT", "ID"];

    fn id(&self) -> String {
        self.name.clone()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        vec![
            self.name.clone(),
            self.doing.role().to_owned(),
            self.state.as_str().to_owned(),
            doing(self.doing),
            self.version.clone(),
            distance(self.started_at, now),
            distance(self.seen_at, now),
        ]
    }

    fn wide_cells(&self, _now: Timestamp) -> Vec<String> {
        vec![
            self.host.clone(),
            self.pid.to_string(),
            format!("{:+.3} s", self.clock_skew_seconds),
            or_dash(self.commit.clone()),
            self.id.to_string(),
        ]
    }
}

/// What a process does, in a few words.
fn doing(doing: Doing) -> String {
    match doing {
        Doing::Api => "answers".to_owned(),
        Doing::Worker { running, concurrency } => format!("{running} of {concurrency} jobs"),
        Doing::Scheduler(Standing::Leads { epoch }) => format!("leads, epoch {epoch}"),
        Doing::Scheduler(Standing::StandsBy) => "stands by".to_owned(),
        Doing::Scheduler(Standing::StandsBack) => "stands back".to_owned(),
    }
}

/// Seconds as the API has them, in their largest unit.
pub(crate) fn seconds(seconds: f64) -> String {
    span(Duration::try_from_secs_f64(seconds).unwrap_or_default().as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_and_an_instance_have_a_cell_for_each_column() {
        let now = "2026-02-01T00:01:00Z".parse().unwrap();
        let leader = |expired, stepping_down| -> Leader {
            serde_json::from_value(serde_json::json!({
                "holder": "scheduler-0", "epoch": 3, "since": "2026-02-01T00:00:00Z",
                "expires_at": "2026-02-01T00:01:15Z", "expired": expired, "stepping_down": stepping_down,
                "standbys": 2, "version": "1.0.0",
            }))
            .unwrap()
        };
        let shown = leader(false, false);
        assert_eq!(shown.cells(now).len(), Leader::HEAD.len());
        assert_eq!(shown.wide_cells(now).len(), Leader::WIDE.len());
        assert_eq!(shown.cells(now)[1..4], ["leading", "3", "2026-02-01T00:00:00Z (1 min ago)"]);
        assert_eq!(leader(false, true).cells(now)[1], "stepping down");
        assert_eq!(leader(true, true).cells(now)[1], "expired");

        let instance: Instance = serde_json::from_value(serde_json::json!({
            "id": format!("ins_{}", "0".repeat(32)), "name": "worker-0", "role": "worker", "running": 3,
            "concurrency": 32, "state": "ready", "version": "1.0.0", "commit": null, "host": "h", "pid": 7,
            "started_at": "2026-02-01T00:00:00Z", "seen_at": "2026-02-01T00:00:58Z", "clock_skew_seconds": -0.0012,
        }))
        .unwrap();
        let cells = instance.cells(now);
        assert_eq!(cells, ["worker-0", "worker", "ready", "3 of 32 jobs", "1.0.0", "1 min ago", "2 s ago"]);
        assert_eq!(cells.len(), Instance::HEAD.len());
        let wide = instance.wide_cells(now);
        assert_eq!((wide.len(), wide[2].as_str()), (Instance::WIDE.len(), "-0.001 s"));
        assert_eq!(doing(Doing::Scheduler(Standing::Leads { epoch: 3 })), "leads, epoch 3");
    }
}
