// SPDX-License-Identifier: Apache-2.0
//! How each kind of record looks in a table.

use std::iter;
use std::time::Duration;

use cap_client::wire::{Certificate, Issuer, Job, Project, Queue, Token};
use cap_core::issuer::IssuerStatus;
use jiff::Timestamp;
use serde::Serialize;

use super::text::{cut, distance, instant, instant_from, span};

/// Columns of a name in a table: with them a row fits most terminals. Wide tables, JSON and YAML have all of it.
pub(crate) const NAME_COLUMNS: usize = 48;

/// A record with a table.
pub(crate) trait Shown: Serialize {
    /// The columns of every table.
    const HEAD: &'static [&'static str];
    /// Further columns of a wide one.
    const WIDE: &'static [&'static str] = &[];

    /// What other commands take to name it.
    fn id(&self) -> String;

    /// A cell for each of [`Shown::HEAD`].
    fn cells(&self, now: Timestamp) -> Vec<String>;

    /// The same for a table that is not wide, with what may be long cut.
    fn narrow_cells(&self, now: Timestamp) -> Vec<String> {
        self.cells(now)
    }

    /// A cell for each of [`Shown::WIDE`].
    fn wide_cells(&self, _now: Timestamp) -> Vec<String> {
        Vec::new()
    }
}

impl Shown for Project {
    const HEAD: &'static [&'static str] = &["NAME", "ID", "CREATED"];
    const WIDE: &'static [&'static str] = &["WEIGHT", "DRIFT SCANS"];

    fn id(&self) -> String {
        self.id.to_string()
    }

    fn cells(&self, _now: Timestamp) -> Vec<String> {
        vec![self.name.clone(), self.id(), instant(self.created_at)]
    }

    fn wide_cells(&self, _now: Timestamp) -> Vec<String> {
        let drift = &self.drift;
        let on = format!("every {} at port {}", drift.interval, drift.port);
        vec![self.weight.to_string(), if drift.enabled { on } else { "off".to_owned() }]
    }
}

impl Shown for Issuer {
    const HEAD: &'static [&'static str] = &["NAME", "STATUS", "DIRECTORY", "ID"];
    const WIDE: &'static [&'static str] =
        &["ACCOUNT", "EAB KID", "CONTACT", "PROBLEM", "NEXT ATTEMPT", "CREATED"];

    fn id(&self) -> String {
        self.id.to_string()
    }

    fn cells(&self, _now: Timestamp) -> Vec<String> {
        vec![self.name.clone(), issuer_status(self.status).to_owned(), self.directory_url.clone(), self.id()]
    }

    fn wide_cells(&self, now: Timestamp) -> Vec<String> {
        vec![
            or_dash(self.account_url.clone()),
            or_dash(self.eab_kid.clone()),
            or_dash((!self.contact.is_empty()).then(|| self.contact.join(","))),
            or_dash(self.problem.as_ref().map(ToString::to_string)),
            or_dash(self.next_attempt_at.map(|at| distance(at, now))),
            instant(self.created_at),
        ]
    }
}

impl Shown for Certificate {
    const HEAD: &'static [&'static str] = &["NAMES", "STATUS", "EXPIRES", "RENEWS", "ID"];
    const WIDE: &'static [&'static str] =
        &["ALL NAMES", "ISSUER", "VERSION", "FINGERPRINT", "PROBLEM", "NEXT ATTEMPT", "CREATED"];

    fn id(&self) -> String {
        self.id.to_string()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        vec![
            first_name(self, usize::MAX),
            self.status.as_str().to_owned(),
            or_dash(self.version.as_ref().map(|version| instant_from(version.not_after, now))),
            or_dash(self.renew_at.filter(|_| self.auto_renew).map(|at| distance(at, now))),
            self.id(),
        ]
    }

    fn narrow_cells(&self, now: Timestamp) -> Vec<String> {
        let mut cells = self.cells(now);
        cells[0] = first_name(self, NAME_COLUMNS);
        cells
    }

    fn wide_cells(&self, now: Timestamp) -> Vec<String> {
        vec![
            self.names.join(","),
            self.issuer.to_string(),
            or_dash(self.version.as_ref().map(|version| version.number.to_string())),
            or_dash(self.version.as_ref().map(|version| version.fingerprint_sha256.clone())),
            or_dash(self.problem.as_ref().map(ToString::to_string)),
            or_dash(self.next_attempt_at.map(|at| distance(at, now))),
            instant(self.created_at),
        ]
    }
}

impl Shown for Job {
    const HEAD: &'static [&'static str] = &["ID", "KIND", "STATE", "ATTEMPT", "DUE", "PROBLEM"];
    const WIDE: &'static [&'static str] = &["FOR", "LANE", "OWNER", "BEGAN", "CREATED", "FINISHED"];

    fn id(&self) -> String {
        self.id.to_string()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        vec![
            self.id(),
            self.kind.clone(),
            self.state.as_str().to_owned(),
            self.attempt.to_string(),
            or_dash(self.due_at.map(|at| distance(at, now))),
            or_dash(self.problem.as_ref().map(ToString::to_string)),
        ]
    }

    fn wide_cells(&self, _now: Timestamp) -> Vec<String> {
        let subject = self.certificate.map(|id| id.to_string()).or(self.issuer.map(|id| id.to_string()));
        vec![
            or_dash(subject),
            or_dash(self.lane.map(|lane| lane.as_str().to_owned())),
            or_dash(self.owner.clone()),
            or_dash(self.attempts.last().map(|attempt| instant(attempt.started_at))),
            instant(self.created_at),
            or_dash(self.finished_at.map(instant)),
        ]
    }
}

impl Shown for Token {
    const HEAD: &'static [&'static str] = &["NAME", "ROLE", "PROJECT", "EXPIRES", "STATE", "ID"];
    const WIDE: &'static [&'static str] = &["CREATED", "REVOKED"];

    fn id(&self) -> String {
        self.id.to_string()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let state = match self.revoked_at {
            Some(_) => "revoked",
            None if self.expires_at <= now => "expired",
            None => "good",
        };
        vec![
            self.name.clone(),
            word(&self.role),
            self.project.map_or_else(|| "all".to_owned(), |id| id.to_string()),
            instant_from(self.expires_at, now),
            state.to_owned(),
            self.id(),
        ]
    }

    fn wide_cells(&self, _now: Timestamp) -> Vec<String> {
        vec![instant(self.created_at), or_dash(self.revoked_at.map(instant))]
    }
}

impl Shown for Queue {
    const HEAD: &'static [&'static str] = &["DEPTH", "OLDEST", "BY KIND", "MEASURED"];

    fn id(&self) -> String {
        self.depth.to_string()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let about = if self.capped { "at least 10000, about " } else { "" };
        // Whole seconds: the ages that matter have many.
        let oldest = Duration::try_from_secs_f64(self.oldest_age_seconds).unwrap_or_default();
        vec![
            format!("{about}{}", self.depth),
            span(oldest.as_secs()),
            or_dash(by_kind(self)),
            instant_from(self.measured_at, now),
        ]
    }
}

/// What the queue has of each kind, in a line; nothing where it has nothing, or nobody measured that.
pub(crate) fn by_kind(queue: &Queue) -> Option<String> {
    let told = queue.by_kind.iter().filter(|kind| kind.due + kind.running > 0).map(|kind| {
        let about = if kind.capped { "at least " } else { "" };
        let oldest = Duration::try_from_secs_f64(kind.oldest_age_seconds).unwrap_or_default().as_secs();
        let since = if kind.due > 0 { format!(" for {}", span(oldest)) } else { String::new() };
        format!("{}: {about}{} due{since}, {} running", kind.kind, kind.due, kind.running)
    });
    let told: Vec<String> = told.collect();
    (!told.is_empty()).then(|| told.join("; "))
}

/// A certificate's names for people: as typed, and behind it as it stands in the certificate where that differs.
pub(crate) fn names(certificate: &Certificate) -> Vec<String> {
    let typed = certificate.display_names.iter().map(Some).chain(iter::repeat(None));
    let shown = certificate.names.iter().zip(typed).map(|(name, typed)| match typed {
        Some(typed) if !typed.trim_end_matches('.').eq_ignore_ascii_case(name) => format!("{typed} ({name})"),
        _ => name.clone(),
    });
    shown.collect()
}

/// A certificate's first name, cut to some columns, and how many more there are.
pub(crate) fn first_name(certificate: &Certificate, room: usize) -> String {
    let all = names(certificate);
    let first = all.first().map_or("", String::as_str);
    let more = if all.len() > 1 { format!(" +{}", all.len() - 1) } else { String::new() };
    format!("{}{more}", cut(first, room))
}

/// The word of an issuer's status.
fn issuer_status(status: IssuerStatus) -> &'static str {
    match status {
        IssuerStatus::Registering => "registering",
        IssuerStatus::Ready => "ready",
        IssuerStatus::Failing => "failing",
        IssuerStatus::Deactivating => "deactivating",
        IssuerStatus::Deactivated => "deactivated",
    }
}

/// The word that the API has for a value of an enum.
pub(crate) fn word<T: Serialize>(value: &T) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

pub(super) fn or_dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".to_owned())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn certificate() -> Certificate {
        serde_json::from_value(serde_json::json!({
            "id": format!("crt_{}1", "0".repeat(31)),
            "project": format!("prj_{}1", "0".repeat(31)),
            "names": ["xn--bcher-kva.example", "www.example.com", "192.0.2.1"],
            "display_names": ["Bücher.example", "WWW.Example.com.", "192.0.2.1"],
            "issuer": format!("iss_{}1", "0".repeat(31)),
            "key": {"type": "ecdsa-p256"},
            "challenge": "http-01",
            "profile": null,
            "auto_renew": true,
            "status": "requested",
            "problem": null,
            "next_attempt_at": null,
            "version": null,
            "renew_at": null,
            "created_at": "2026-01-02T03:04:05Z",
            "updated_at": "2026-01-02T03:04:05Z",
        }))
        .unwrap()
    }

    #[test]
    fn a_name_is_shown_as_typed_with_its_a_label_where_they_differ() {
        let shown = names(&certificate());
        assert_eq!(shown, ["Bücher.example (xn--bcher-kva.example)", "www.example.com", "192.0.2.1"]);
    }

    #[test]
    fn a_name_without_its_typed_form_is_still_shown() {
        let mut certificate = certificate();
        certificate.display_names.clear();
        assert_eq!(names(&certificate), certificate.names);
    }

    #[test]
    fn a_queue_beyond_the_cap_is_told_as_an_estimate() {
        let now = "2026-02-01T00:00:08Z".parse().unwrap();
        let measured_at = "2026-02-01T00:00:00Z".parse().unwrap();
        use cap_client::wire::QueueOfKind;
        let of_kind = |kind: &str, due, capped| QueueOfKind {
            kind: kind.into(),
            due,
            running: 2,
            capped,
            oldest_age_seconds: 61.9,
        };
        let by_kind = vec![of_kind("issue", 12_000, true), of_kind("drift-scan", 0, false)];
        let queue = |depth, capped| Queue {
            depth,
            capped,
            oldest_age_seconds: 61.9,
            by_kind: by_kind.clone(),
            measured_at,
        };
        let kinds = "issue: at least 12000 due for 1 min, 2 running; drift-scan: 0 due, 2 running";
        assert_eq!(queue(7, false).cells(now), ["7", "1 min", kinds, "2026-02-01T00:00:00Z (8 s ago)"]);
        let nothing = Queue { by_kind: vec![], ..queue(7, false) };
        assert_eq!(nothing.cells(now)[2], "-");
        assert_eq!(queue(64_000, true).cells(now)[0], "at least 10000, about 64000");
        assert_eq!(queue(7, false).cells(now).len(), Queue::HEAD.len());
    }

    #[test]
    fn a_long_name_is_cut_in_a_table_and_whole_in_a_wide_one() {
        let (mut certificate, now) = (certificate(), Timestamp::UNIX_EPOCH);
        let long = format!("{}.example.com", "a".repeat(241));
        certificate.names = vec![long.clone(), "www.example.com".to_owned()];
        certificate.display_names.clear();
        let expected = format!("{}… +1", "a".repeat(NAME_COLUMNS - 1));
        assert_eq!(certificate.narrow_cells(now)[0], expected);
        assert_eq!(certificate.cells(now)[0], format!("{long} +1"));
    }

    #[test]
    fn what_is_not_renewed_by_itself_shows_no_time_of_it() {
        let (mut certificate, now) = (certificate(), Timestamp::UNIX_EPOCH);
        certificate.renew_at = Some("1970-01-03T00:00:00Z".parse().unwrap());
        assert_eq!(certificate.cells(now)[3], "in 2 d");
        certificate.auto_renew = false;
        assert_eq!(certificate.cells(now)[3], "-");
    }

    #[test]
    fn every_table_has_a_cell_for_each_column() {
        let (certificate, now) = (certificate(), Timestamp::UNIX_EPOCH);
        assert_eq!(certificate.cells(now).len(), Certificate::HEAD.len());
        assert_eq!(certificate.wide_cells(now).len(), Certificate::WIDE.len());
        assert_eq!(certificate.cells(now)[0], "Bücher.example (xn--bcher-kva.example) +2");
    }
}
