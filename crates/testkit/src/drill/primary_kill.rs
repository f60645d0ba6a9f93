// SPDX-License-Identifier: Apache-2.0
//! The database's primary is killed and comes back.

use super::Drill;
use super::failover::{self, Fault};

pub(super) const DRILL: Drill = Drill {
    name: "primary-kill",
    injects: "the database's primary is killed (SIGKILL) and comes back, while certificates are requested",
    must_hold: "no acknowledged write is lost; nobody waits longer than 15 s for one",
    short: 2,
    soak: 50,
    any_ca: false,
    run: |run| Box::pin(failover::drill(run, Fault::Kill, failover::PROMISED)),
};
