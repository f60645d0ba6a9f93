// SPDX-License-Identifier: Apache-2.0
//! A snapshot as lines of text.

use cap_client::wire::{Certificate, Cluster, Database, MemberState};
use cap_core::instance::{Doing, State};
use jiff::Timestamp;

use super::snapshot::{Snapshot, Work};
use crate::output::text::{clean_line, cut, distance, instant};
use crate::output::{by_kind, names, rows, seconds, table};

/// Lines of a frame at most: no terminal has more.
pub(super) const LINES_MAX: usize = 500;
/// Certificates listed that end soonest, failing ones aside.
const ENDING: usize = 5;
/// Columns of a certificate's name.
const NAME_COLUMNS: usize = 40;
/// Columns of a problem: enough to know it again.
const PROBLEM_COLUMNS: usize = 80;

/// The snapshot's lines.
pub(super) fn render(snapshot: &Snapshot, wide: bool) -> Vec<String> {
    let (cluster, at) = (&snapshot.cluster, snapshot.at);
    let mut lines = vec![
        format!("CertAutoPilot at {}: {}", instant(at), people(cluster)),
        leader(cluster, at),
        queue(cluster),
        database(cluster),
    ];
    lines.extend(cluster.warnings.iter().map(|warning| format!("! {warning}")));
    section(&mut lines, "Instances", &table(&cluster.instances, at, wide));
    let running = rows(&["PROJECT", "JOB", "KIND", "ATTEMPT", "WORKER"], running(&snapshot.projects));
    section(&mut lines, "Running jobs", &running);
    let attention = rows(&["PROJECT", "CERTIFICATE", "STATUS", "ENDS", "WHY"], attention(snapshot));
    section(&mut lines, "Certificates: failing, and the soonest to end", &attention);
    if snapshot.more_projects {
        lines.push(String::new());
        lines.push("There are more projects than are looked at: name one with --project.".to_owned());
    }
    lines.into_iter().map(|line| clean_line(&line)).collect()
}

/// Says above what was seen last why there is nothing newer.
pub(super) fn mark(lines: &mut Vec<String>, why: &str) {
    const MARK: &str = "!! not up to date: ";
    lines.retain(|line| !line.starts_with(MARK));
    lines.insert(0, clean_line(&format!("{MARK}{why}")));
}

fn section(lines: &mut Vec<String>, title: &str, table: &str) {
    lines.push(String::new());
    lines.push(title.to_owned());
    // The head alone says nothing.
    if table.lines().count() > 1 {
        lines.extend(table.lines().map(|line| format!("  {line}")));
    } else {
        lines.push("  none".to_owned());
    }
}

/// How many of each role are ready.
fn people(cluster: &Cluster) -> String {
    let of = |role: &str| {
        let all = cluster.instances.iter().filter(|one| one.doing.role() == role);
        let ready = all.clone().filter(|one| one.state == State::Ready).count();
        format!("{role} {ready}/{}", all.count())
    };
    let skew = if cluster.version_skew { ", several versions" } else { "" };
    format!("{} ready{skew}", Doing::ROLES.map(of).join(", "))
}

fn leader(cluster: &Cluster, at: Timestamp) -> String {
    let Some(leader) = &cluster.leader else { return "Leader: none was elected yet".to_owned() };
    if leader.expired {
        return format!("Leader: none; {} led last, in epoch {}", leader.holder, leader.epoch);
    }
    let since = leader.since.map(|since| format!(", since {}", distance(since, at))).unwrap_or_default();
    let leaving = if leader.stepping_down { ", stepping down" } else { "" };
    format!("Leader: {}, epoch {}{since}{leaving}; {} stand by", leader.holder, leader.epoch, leader.standbys)
}

fn queue(cluster: &Cluster) -> String {
    match (&cluster.queue, &cluster.queue_unavailable) {
        (Some(queue), _) => {
            let about = if queue.capped { "at least 10000, about " } else { "" };
            let oldest = seconds(queue.oldest_age_seconds);
            let kinds = by_kind(queue).map(|kinds| format!(" ({kinds})")).unwrap_or_default();
            format!("Queue: {about}{} due or running, the oldest due for {oldest}{kinds}", queue.depth)
        }
        (None, Some(why)) => format!("Queue: not known; {why}"),
        (None, None) => "Queue: not known".to_owned(),
    }
}

fn database(cluster: &Cluster) -> String {
    let Database { replica_set, primary, members, majority_lag_seconds } = &cluster.database;
    let up = members.iter().filter(|member| member.state != MemberState::Unavailable).count();
    let away: Vec<&str> = members
        .iter()
        .filter(|member| member.state == MemberState::Unavailable)
        .map(|member| member.host.as_str())
        .collect();
    let away = if away.is_empty() { String::new() } else { format!(" ({} unavailable)", away.join(", ")) };
    let lag =
        majority_lag_seconds.map(|lag| format!(", majority {} behind", seconds(lag))).unwrap_or_default();
    format!(
        "MongoDB: {}, {up} of {} members{away}, primary {}{lag}; KEK version {} ({})",
        replica_set.as_deref().unwrap_or("no replica set"),
        members.len(),
        primary.as_deref().unwrap_or("none"),
        cluster.kek_version,
        cluster.kek_provider
    )
}

fn running(projects: &[Work]) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for work in projects {
        rows.extend(work.running.iter().map(|job| {
            let owner = job.owner.clone().unwrap_or_else(|| "-".to_owned());
            vec![work.project.clone(), job.id.to_string(), job.kind.clone(), job.attempt.to_string(), owner]
        }));
        if work.more_running {
            rows.push(vec![work.project.clone(), "and more".to_owned()]);
        }
    }
    rows
}

/// Failing certificates, then those of all projects that end soonest.
fn attention(snapshot: &Snapshot) -> Vec<Vec<String>> {
    let of = |list: fn(&Work) -> &Vec<Certificate>| {
        let mut all: Vec<_> = snapshot
            .projects
            .iter()
            .flat_map(|work| list(work).iter().map(|certificate| (work.project.as_str(), certificate)))
            .collect();
        all.sort_by_key(|(_, certificate)| certificate.version.as_ref().map(|version| version.not_after));
        all
    };
    let failing = of(|work| &work.attention.failing);
    let ending = of(|work| &work.attention.ending);
    let rows = failing.into_iter().chain(ending.into_iter().take(ENDING));
    rows.map(|(project, certificate)| {
        let ends = certificate.version.as_ref().map(|version| distance(version.not_after, snapshot.at));
        let why = certificate.problem.as_ref().map(|problem| cut(&problem.to_string(), PROBLEM_COLUMNS));
        vec![
            project.to_owned(),
            cut(names(certificate).first().map_or("", String::as_str), NAME_COLUMNS),
            certificate.status.as_str().to_owned(),
            ends.unwrap_or_else(|| "was never issued".to_owned()),
            why.unwrap_or_default(),
        ]
    })
    .collect()
}

#[cfg(test)]
mod tests;
