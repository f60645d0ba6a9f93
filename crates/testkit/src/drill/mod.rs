// SPDX-License-Identifier: Apache-2.0
//! Drills: a fault is injected into a running system, over and over, and what was promised is measured.
//!
//! Each is a file here and a row of [`ALL`]. `cargo xtask drill` runs them long, with the product's own settings; the
//! tests run each in a short form, with short leases. Both judge by the same [`Figures`].

mod admission;
mod bad_nonces;
mod ca_faults;
mod checks;
mod clock;
mod clocks;
mod disk_full;
mod failover;
mod failpoints;
mod figures;
mod history;
mod leader;
mod leadership;
mod load;
mod lost_answers;
mod partition;
mod pem;
mod primary_kill;
mod primary_pause;
mod primary_stepdown;
mod quorum_loss;
mod rollback;
mod secrets;
mod sides;
mod timings;
mod usage;
mod victims;
mod volume;
mod worker_kill;
mod world;
mod zombie_worker;

use futures_util::future::LocalBoxFuture;

pub use checks::{aftermath, aftermath_within};
pub use figures::{Figure, Figures};
pub use leader::leader_without_epoch;
pub use load::{Load, Report};
pub use quorum_loss::quorum_loss_without_gate;
pub use rollback::rollback_without_majority;
pub use timings::Timings;
pub use world::World;

use crate::ca::CaKind;

/// With which settings a drill runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// In the tests: job lease 5 s, scheduler lease 3 s, elections after 2 s. Judged by what is promised alone, since
    /// the tests share their machine.
    Short,
    /// By hand, for hours: the product's and MongoDB's own settings. Judged by what is aimed at too.
    Soak,
}

/// One run of a drill.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// With which settings.
    pub form: Form,
    /// How often the fault is injected.
    pub count: u32,
    /// Against which CA.
    pub ca: CaKind,
}

/// A drill.
#[derive(Clone, Copy, Debug)]
pub struct Drill {
    /// How it is called on the command line.
    pub name: &'static str,
    /// The fault.
    pub injects: &'static str,
    /// What must hold, beside what must hold after every drill.
    pub must_hold: &'static str,
    /// How often the fault is injected in the tests.
    pub short: u32,
    /// How often it is by hand.
    pub soak: u32,
    /// Whether it can be run against another CA than Pebble.
    pub any_ca: bool,
    /// Runs it on a system of its own, which ends with it.
    pub run: fn(Run) -> LocalBoxFuture<'static, anyhow::Result<Figures>>,
}

/// Every drill, in the order of the table in docs/reliability.md.
pub const ALL: &[Drill] = &[
    worker_kill::DRILL,
    failpoints::DRILL,
    zombie_worker::DRILL,
    leader::DRILL,
    primary_stepdown::DRILL,
    primary_kill::DRILL,
    primary_pause::DRILL,
    partition::DRILL,
    quorum_loss::DRILL,
    rollback::DRILL,
    clock::DRILL,
    disk_full::DRILL,
    ca_faults::DRILL,
    bad_nonces::DRILL,
];

impl Drill {
    /// How it is run, unless somebody says another count.
    #[must_use]
    pub fn usual(&self, form: Form) -> Run {
        let count = match form {
            Form::Short => self.short,
            Form::Soak => self.soak,
        };
        Run { form, count, ca: CaKind::default() }
    }
}

/// The drill of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Drill> {
    ALL.iter().find(|drill| drill.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_drill_has_a_name_of_its_own_and_is_found_by_it() {
        let names: BTreeSet<&str> = ALL.iter().map(|drill| drill.name).collect();
        assert_eq!(names.len(), ALL.len());
        assert!(names.iter().all(|name| find(name).is_some_and(|drill| drill.name == *name)));
        assert!(find("all").is_none(), "`cargo xtask drill all` runs every one");
    }

    #[test]
    fn a_soak_is_longer_than_a_test() {
        assert!(ALL.iter().all(|drill| 0 < drill.short && drill.short < drill.soak));
    }
}
