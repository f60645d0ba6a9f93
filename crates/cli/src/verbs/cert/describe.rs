// SPDX-License-Identifier: Apache-2.0
//! `cert describe`.

mod versions;

use cap_client::wire::{Certificate, Drift, Issuer, Job, RenewalInfo, Version};
use cap_client::{All, JobQuery, PageQuery, follow};
use cap_core::drift::DriftState;
use cap_core::problem::{Class, Problem};
use jiff::Timestamp;
use serde::Serialize;

use crate::app::App;
use crate::failure::Failure;
use crate::output::text::{clean_line, distance, instant, instant_from, span};
use crate::output::{Form, names, word};
use crate::resolve;
use crate::verbs::drift::seen;
use versions::Earlier;

/// Jobs that are shown: the latest ones.
const JOBS: usize = 5;
/// Pages of jobs that are read to find them: with full pages 10,000 jobs, decades of one certificate.
const JOB_PAGES: u32 = 20;
/// The kind of jobs that are not shown.
const DRIFT_SCAN: &str = "drift-scan";
/// The width of the labels.
const LABEL: usize = 14;

#[derive(Debug, Serialize)]
struct Description {
    certificate: Certificate,
    issuer: Option<Issuer>,
    #[serde(flatten)]
    earlier: Earlier,
    jobs: Vec<Job>,
}

pub(super) async fn run(certificate: &str, app: &mut App) -> Result<(), Failure> {
    let (client, project) = app.client_and_project().await?;
    let id = resolve::certificate(&client, &project, certificate).await?;
    let certificate = client.certificate(&project, id).await?;
    // Only its name is wanted: without it the issuer's id is still shown.
    let issuer = client.issuer(&project, &certificate.issuer.to_string()).await.ok();
    // Nor are the earlier versions why it was asked for, mostly.
    let versions = client.versions(&project, id, &PageQuery::default()).await;
    let earlier = Earlier::than(certificate.version.as_ref(), versions.ok().map(|page| page.items));
    let All { items, .. } = follow(JOB_PAGES, async |page| {
        let query = JobQuery { page, subject: Some(id.to_string()), ..JobQuery::default() };
        client.jobs(&project, &query).await
    })
    .await?;
    // Scans come by the hour, and what they saw is told already.
    let jobs = items.into_iter().rev().filter(|job| job.kind != DRIFT_SCAN).take(JOBS).collect();
    let description = Description { certificate, issuer, earlier, jobs };
    match app.output.form {
        Form::Table | Form::Wide => app.output.text(&render(&description, app.now())),
        Form::Name => app.output.text(&format!("{id}\n")),
        Form::Json | Form::Yaml => app.output.document(&description),
    }
}

/// Lines of a label and a value; a label stands in front of its first line only.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn add(&mut self, label: &str, value: &str) {
        let line = format!("{label:<LABEL$}{}", clean_line(value));
        self.0.push_str(line.trim_end());
        self.0.push('\n');
    }

    fn all(&mut self, label: &str, values: impl IntoIterator<Item = String>) {
        for (at, value) in values.into_iter().enumerate() {
            self.add(if at == 0 { label } else { "" }, &value);
        }
    }
}

fn render(description: &Description, now: Timestamp) -> String {
    let Description { certificate, issuer, earlier, jobs } = description;
    let mut lines = Lines::default();
    lines.add("Certificate", &certificate.id.to_string());
    lines.all("Names", names(certificate));
    lines.add("Project", &certificate.project.to_string());
    let issuer = issuer.as_ref().map_or_else(
        || certificate.issuer.to_string(),
        |issuer| format!("{} ({})", issuer.name, certificate.issuer),
    );
    lines.add("Issuer", &issuer);
    let kept = if certificate.key.reuse { "kept at renewals" } else { "a new one at each renewal" };
    lines.add("Key", &format!("{}, {kept}", word(&certificate.key.kind)));
    lines.add("Challenge", &word(&certificate.challenge));
    lines.add("Profile", certificate.profile.as_deref().unwrap_or("the CA's default"));
    if let Some(chain) = &certificate.preferred_chain {
        lines.add("Chain", &format!("the one of {chain}, where the CA offers it"));
    }
    lines.add("Status", certificate.status.as_str());
    if let Some(problem) = &certificate.problem {
        lines.all("Problem", problem.detail.lines().map(str::to_owned));
        lines.add("", &format!("type: {}", problem.kind));
        lines.add("", &format!("to do: {}", remedy(problem)));
    }
    if let Some(at) = certificate.next_attempt_at {
        lines.add("Next attempt", &instant_from(at, now));
    }
    match (certificate.renew_at, certificate.auto_renew) {
        (Some(at), true) => lines.add("Renewal", &instant_from(at, now)),
        (None, true) if certificate.version.is_some() => {
            lines.add(
                "Renewal",
                "none, since it was revoked; `cert resume` or `cert renew` has it issued anew",
            );
        }
        (None, true) => lines.add("Renewal", "once it is issued"),
        (_, false) => lines.add("Renewal", "only when asked for"),
    }
    if let Some(info) = &certificate.renewal_info {
        renewal_info(&mut lines, info, now);
    }
    match &certificate.version {
        Some(current) => version(&mut lines, current, certificate.preferred_chain.as_deref(), now),
        None => lines.add("Version", "none yet"),
    }
    earlier.add(&mut lines, now);
    if let Some(found) = &certificate.drift {
        drift(&mut lines, found, now);
    }
    lines.all("Recent jobs", jobs.iter().map(|recent| job(recent, now)));
    lines.0
}

/// When the CA wants it renewed.
fn renewal_info(lines: &mut Lines, info: &RenewalInfo, now: Timestamp) {
    match &info.window {
        Some(window) => {
            lines.add("  CA suggests", &format!("{} to {}", instant(window.start), instant(window.end)));
            lines.add("", &format!("drawn from that: {}", instant_from(window.renew_at, now)));
        }
        None => lines.add("  CA suggests", "nothing yet"),
    }
    lines.all("", info.explanation_url.iter().map(|url| format!("why: {url}")));
    lines.all("", info.problem.iter().map(|problem| format!("last look: {}", problem.detail)));
    let looked = info.looked_at.map(|at| format!("asked {}, ", distance(at, now))).unwrap_or_default();
    lines.add("", &format!("{looked}asked next {}", instant_from(info.next_look_at, now)));
}

fn version(lines: &mut Lines, version: &Version, preferred: Option<&str>, now: Timestamp) {
    lines.add(
        "Version",
        &format!("{} ({}), issued {}", version.number, version.id, instant(version.issued_at)),
    );
    lines.add("  Serial", &version.serial);
    lines.add("  SHA-256", &version.fingerprint_sha256);
    lines.all("  Key SHA-256", version.spki_sha256.iter().cloned());
    if let Some(taken) = &version.chain_issuer {
        let other = preferred.is_some_and(|preferred| preferred != taken);
        let why =
            if other { ", not the preferred one: the CA did not offer that when it was issued" } else { "" };
        lines.add("  Chain", &format!("the one of {taken}{why}"));
    }
    let left = version.not_after.as_second() - now.as_second();
    let left = match u64::try_from(left) {
        Ok(seconds) if seconds > 0 => format!("{} left", span(seconds)),
        Ok(_) | Err(_) => format!("expired {}", distance(version.not_after, now)),
    };
    lines.add(
        "  Valid",
        &format!("{} to {}, {left}", instant(version.not_before), instant(version.not_after)),
    );
    if let Some(revocation) = &version.revocation {
        lines.add("  Revoked", &versions::revoked(revocation, now));
        lines.all("  In the way", versions::in_the_way(revocation, now));
    }
}

fn drift(lines: &mut Lines, drift: &Drift, now: Timestamp) {
    let state = drift.state.map_or("not scanned yet", DriftState::as_str);
    let when = drift.scanned_at.map(|at| format!(", scanned {}", instant_from(at, now))).unwrap_or_default();
    lines.add("Drift", &format!("{state}{when}"));
    match (&drift.host, drift.port) {
        (Some(host), Some(port)) => lines.add("", &format!("looked at: {host}, port {port}")),
        (Some(host), None) => lines.add("", &format!("looked at: {host}")),
        (None, Some(port)) => lines.add("", &format!("looked at: port {port}")),
        (None, None) => {}
    }
    lines.all("", drift.names.iter().map(|name| seen(name, now)));
}

fn job(job: &Job, now: Timestamp) -> String {
    let end = match (job.finished_at, job.due_at) {
        (Some(at), _) => distance(at, now),
        (None, Some(at)) => format!("due {}", distance(at, now)),
        (None, None) => String::new(),
    };
    let problem = job.problem.as_ref().map(|problem| format!(": {problem}")).unwrap_or_default();
    format!("{} {} {}, claim {}, {end}{problem}", job.id, job.kind, job.state.as_str(), job.attempt)
}

/// Who must act, and how.
fn remedy(problem: &Problem) -> &'static str {
    match &*problem.kind {
        "issuance-fuse" => return "whoever asks for it so often: find out what does; it goes on by itself",
        "issuer-deactivated" => {
            return "the owner of the certificate: request it again from another issuer, and delete this one";
        }
        "profile-not-offered" => {
            return "the owner of the certificate: `cert update`, with --profile or --clear-profile";
        }
        _ => {}
    }
    match problem.class {
        Class::Transient => "nothing; it is tried again by itself",
        Class::RateLimited => "nothing; it is tried again when the CA allows it",
        Class::Validation => {
            "the owner of the name: let it lead to this system, and let the CA issue for it (CAA)"
        }
        Class::Configuration => "whoever runs the issuer: mend its settings or its account at the CA",
        Class::Protocol => "whoever runs this system: report it together with the job's id",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::shown_tests;
    use cap_client::wire::RenewalWindow;
    use cap_core::certificate::Status;

    fn described(certificate: Certificate) -> String {
        let now = "2026-02-01T00:00:00Z".parse().unwrap();
        render(&Description { certificate, issuer: None, earlier: Earlier::default(), jobs: Vec::new() }, now)
    }

    #[test]
    fn names_stand_below_each_other_in_both_forms() {
        let text = described(shown_tests::certificate());
        let expected = "\
Names         Bücher.example (xn--bcher-kva.example)
              www.example.com
              192.0.2.1
";
        assert!(text.contains(expected), "{text}");
        assert!(text.contains("Version       none yet\n"), "{text}");
    }

    #[test]
    fn a_failure_says_why_who_must_act_and_when_it_is_tried_again() {
        let mut certificate = shown_tests::certificate();
        certificate.status = Status::Failing;
        certificate.problem = Some(Problem::new(Class::Validation, "urn:dns", "no such host\nlook\x1b[2J"));
        certificate.next_attempt_at = "2026-02-01T01:00:00Z".parse().ok();
        let text = described(certificate);
        let expected = "\
Status        failing
Problem       no such host
              look\u{fffd}[2J
              type: urn:dns
              to do: the owner of the name: let it lead to this system, and let the CA issue for it (CAA)
Next attempt  2026-02-01T01:00:00Z (in 1 h)
";
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn what_is_left_of_a_version_is_told_in_days() {
        let mut certificate = shown_tests::certificate();
        let version = |not_after: &str| Version {
            id: format!("ver_{}1", "0".repeat(31)).parse().unwrap(),
            number: 3,
            serial: "0a".into(),
            fingerprint_sha256: "ff".into(),
            spki_sha256: None,
            chain_issuer: None,
            revocation: None,
            not_before: "2026-01-01T00:00:00Z".parse().unwrap(),
            not_after: not_after.parse().unwrap(),
            issued_at: "2026-01-01T00:00:01Z".parse().unwrap(),
        };
        certificate.version = Some(version("2026-04-01T00:00:00Z"));
        assert!(described(certificate.clone()).contains("to 2026-04-01T00:00:00Z, 59 d left\n"));
        certificate.version = Some(version("2026-01-31T00:00:00Z"));
        assert!(described(certificate).contains("to 2026-01-31T00:00:00Z, expired 1 d ago\n"));
    }
    #[test]
    fn what_the_ca_suggests_is_told_with_its_reason_and_the_next_look() {
        let mut certificate = shown_tests::certificate();
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        certificate.renew_at = Some(at("2026-02-03T00:00:00Z"));
        certificate.renewal_info = Some(RenewalInfo {
            window: None,
            explanation_url: None,
            looked_at: None,
            next_look_at: at("2026-02-01T06:00:00Z"),
            problem: None,
        });
        let text = described(certificate.clone());
        let expected = "\
Renewal       2026-02-03T00:00:00Z (in 2 d)
  CA suggests nothing yet
              asked next 2026-02-01T06:00:00Z (in 6 h)
";
        assert!(text.contains(expected), "{text}");
        certificate.renewal_info = Some(RenewalInfo {
            window: Some(RenewalWindow {
                start: at("2026-02-02T00:00:00Z"),
                end: at("2026-02-04T00:00:00Z"),
                renew_at: at("2026-02-03T00:00:00Z"),
            }),
            explanation_url: Some("https://ca.example.test/incident".into()),
            looked_at: Some(at("2026-01-31T23:00:00Z")),
            next_look_at: at("2026-02-01T06:00:00Z"),
            problem: Some(Problem::new(
                Class::Protocol,
                "renewal-window-ignored",
                "it ends before it begins",
            )),
        });
        let text = described(certificate);
        let expected = "\
  CA suggests 2026-02-02T00:00:00Z to 2026-02-04T00:00:00Z
              drawn from that: 2026-02-03T00:00:00Z (in 2 d)
              why: https://ca.example.test/incident
              last look: it ends before it begins
              asked 1 h ago, asked next 2026-02-01T06:00:00Z (in 6 h)
";
        assert!(text.contains(expected), "{text}");
    }
}
