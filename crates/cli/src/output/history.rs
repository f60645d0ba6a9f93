// SPDX-License-Identifier: Apache-2.0
//! How what was, and what should have been, looks in a table.

use cap_client::wire::{JobTotal, Notice};
use jiff::Timestamp;

use super::shown::{Shown, or_dash, word};
use super::text::{instant, instant_from};

impl Shown for JobTotal {
    const HEAD: &'static [&'static str] = &["HOUR", "KIND", "OUTCOME", "JOBS"];

    fn id(&self) -> String {
        self.hour.to_string()
    }

    fn cells(&self, _now: Timestamp) -> Vec<String> {
        vec![instant(self.hour), self.kind.clone(), self.outcome.clone(), self.jobs.to_string()]
    }
}

impl Shown for Notice {
    const HEAD: &'static [&'static str] = &["NAME", "NOTICE", "EXPIRES", "REASON", "STATE", "CERTIFICATE"];
    const WIDE: &'static [&'static str] = &["VERSION", "PROBLEM", "NOTICED", "RESOLVED"];

    fn id(&self) -> String {
        self.id.clone()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        vec![
            self.name.clone(),
            word(&self.kind),
            instant_from(self.not_after, now),
            word(&self.reason),
            if self.resolved_at.is_some() { "resolved" } else { "open" }.to_owned(),
            self.certificate.to_string(),
        ]
    }

    fn wide_cells(&self, _now: Timestamp) -> Vec<String> {
        vec![
            self.version.to_string(),
            or_dash(self.problem.as_ref().map(ToString::to_string)),
            instant(self.noticed_at),
            or_dash(self.resolved_at.map(instant)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_and_a_total_have_a_cell_for_each_column() {
        let now = Timestamp::UNIX_EPOCH;
        let id = |prefix: &str| format!("{prefix}_{}", "1".repeat(32));
        let notice: Notice = serde_json::from_value(serde_json::json!({
            "id": "x", "certificate": id("crt"), "version": id("ver"), "project": id("prj"),
            "name": "www.example.com", "kind": "eighth_left", "not_after": "1970-01-03T00:00:00Z",
            "reason": "auto_renew_off", "problem": null, "noticed_at": "1970-01-01T00:00:00Z", "resolved_at": null,
        }))
        .unwrap();
        let cells = notice.cells(now);
        assert_eq!(cells[1..5], ["eighth_left", "1970-01-03T00:00:00Z (in 2 d)", "auto_renew_off", "open"]);
        assert_eq!(cells.len(), Notice::HEAD.len());
        assert_eq!(notice.wide_cells(now).len(), Notice::WIDE.len());
        let total = JobTotal { hour: now, kind: "issue".into(), outcome: "succeeded".into(), jobs: 7 };
        assert_eq!(total.cells(now), ["1970-01-01T00:00:00Z", "issue", "succeeded", "7"]);
    }
}
