// SPDX-License-Identifier: Apache-2.0
//! The roll: all instances at one moment, and what somebody should look at.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{Doing, Instance, Standing, State};
use crate::clock::until;
use crate::lease::SKEW_MAX;

/// Names that a warning lists; the rest is counted.
const NAMES_LISTED: usize = 5;

/// Instances as they are at one moment: none that was replaced, and each in the state that it has now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roll(Vec<Instance>);

impl Roll {
    /// The roll at `now`, by the database's clock; by role, name and start.
    #[must_use]
    pub fn call(mut all: Vec<Instance>, now: Timestamp) -> Self {
        let replaced: Vec<bool> =
            all.iter().map(|one| all.iter().any(|other| one.is_replaced_by(other))).collect();
        let mut replaced = replaced.into_iter();
        all.retain(|_| !replaced.next().unwrap_or(false));
        for instance in all.iter_mut().filter(|instance| instance.is_lost(now)) {
            instance.state = State::Lost;
        }
        all.sort_by(|a, b| {
            let key = |i: &Instance| (place(i.doing), i.name.clone(), i.started_at);
            key(a).cmp(&key(b))
        });
        Self(all)
    }

    /// All of them.
    #[must_use]
    pub fn instances(&self) -> &[Instance] {
        &self.0
    }

    /// Those that are not lost.
    pub fn living(&self) -> impl Iterator<Item = &Instance> {
        self.0.iter().filter(|instance| instance.state != State::Lost)
    }

    /// Schedulers that would take over at once if `holder` gave the lead up.
    #[must_use]
    pub fn standbys(&self, holder: &str) -> usize {
        let is_holder = |one: &&Instance| one.doing.role() == "scheduler" && one.name == holder;
        let leads = |one: &Instance| matches!(one.doing, Doing::Scheduler(Standing::Leads { .. }));
        let stands_by =
            |one: &&Instance| one.state == State::Ready && one.doing == Doing::Scheduler(Standing::StandsBy);
        let candidates = self.living().filter(stands_by).count();
        // Whoever has just won may have said last that it stands by.
        let won_just_now = !self.living().any(|one| is_holder(&one) && leads(one))
            && self.living().filter(stands_by).any(|one| is_holder(&one));
        candidates - usize::from(won_just_now)
    }

    /// How many are of this role and in this state.
    #[must_use]
    pub fn count(&self, role: &str, state: State) -> usize {
        self.0.iter().filter(|one| one.doing.role() == role && one.state == state).count()
    }

    /// Living ones that share role and name, each group once.
    #[must_use]
    pub fn namesakes(&self) -> Vec<Vec<&Instance>> {
        let mut groups: BTreeMap<_, Vec<&Instance>> = BTreeMap::new();
        for instance in self.living() {
            groups.entry((instance.doing.role(), instance.name.as_str())).or_default().push(instance);
        }
        groups.into_values().filter(|group| group.len() > 1).collect()
    }

    /// What somebody should look at, a sentence each: what, why, what to do.
    #[must_use]
    pub fn warnings(&self, now: Timestamp) -> Vec<String> {
        let mut warnings = Vec::new();
        for group in self.namesakes() {
            let places: Vec<String> = group.iter().map(|i| format!("pid {} on {}", i.pid, i.host)).collect();
            warnings.push(format!(
                "{} living {} processes are called {} ({}); give each a CAP_INSTANCE_NAME of its own",
                group.len(),
                group[0].doing.role(),
                group[0].name,
                listed(&places)
            ));
        }
        warnings.extend(self.version_skew());
        for lost in self.0.iter().filter(|one| one.state == State::Lost) {
            warnings.push(format!(
                "{} {} is lost: it was last seen {} s ago and did not say goodbye; see whether its host runs. It is \
                 forgotten a day after it was seen",
                lost.doing.role(),
                lost.name,
                until(lost.seen_at, now).as_secs()
            ));
        }
        for wrong in self.living().filter(|one| one.skew.unsigned_abs() > SKEW_MAX) {
            warnings.push(format!(
                "the clock of {} {} is {} s from the database's; look at the time service of both hosts",
                wrong.doing.role(),
                wrong.name,
                wrong.skew.unsigned_abs().as_secs()
            ));
        }
        warnings
    }

    /// Says who has which version, when there are several.
    fn version_skew(&self) -> Option<String> {
        let mut versions: BTreeMap<(&str, Option<&str>), Vec<String>> = BTreeMap::new();
        for one in self.living() {
            versions.entry((&one.version, one.commit.as_deref())).or_default().push(one.name.clone());
        }
        if versions.len() < 2 {
            return None;
        }
        let told: Vec<String> = versions
            .iter()
            .map(|((version, commit), names)| {
                let commit = commit.map(|commit| format!(" ({commit})")).unwrap_or_default();
                format!("{version}{commit}: {}", listed(names))
            })
            .collect();
        Some(format!(
            "processes of {} versions run ({}); that is well during a rollout, and otherwise one was forgotten",
            versions.len(),
            told.join("; ")
        ))
    }
}

fn place(doing: Doing) -> usize {
    Doing::ROLES.iter().position(|role| *role == doing.role()).unwrap_or(Doing::ROLES.len())
}

/// The first few, and how many more there are.
fn listed(names: &[String]) -> String {
    let shown = names.iter().take(NAMES_LISTED).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMES_LISTED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
