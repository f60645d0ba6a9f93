// SPDX-License-Identifier: Apache-2.0
//! The database's primary steps down under load.

use std::time::Duration;

use super::Drill;
use super::failover::{self, Fault};

pub(super) const DRILL: Drill = Drill {
    name: "primary-stepdown",
    injects: "the database's primary steps down while certificates are requested",
    must_hold: "no acknowledged write is lost; nobody waits longer than 15 s for one (aim: 2 s)",
    short: 5,
    soak: 100,
    any_ca: false,
    run: |run| Box::pin(failover::drill(run, Fault::StepDown { for_seconds: DOWN_SECONDS }, AIM)),
};

/// So long that another is elected first.
const DOWN_SECONDS: i32 = 10;
/// An election that the old primary hands over takes no time-out.
const AIM: Duration = Duration::from_secs(2);
