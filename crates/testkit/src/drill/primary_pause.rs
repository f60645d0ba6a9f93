// SPDX-License-Identifier: Apache-2.0
//! The database's primary stands still: its sockets stay open and say nothing.

use std::time::Duration;

use super::failover::{self, Fault};
use super::{Drill, Form};

pub(super) const DRILL: Drill = Drill {
    name: "primary-pause",
    injects: "the database's primary stands still (SIGSTOP) for 40 s, 20 s in the tests, while certificates are requested",
    must_hold: "no acknowledged write is lost; nobody waits longer than 15 s for one",
    short: 1,
    soak: 20,
    any_ca: false,
    run: |run| {
        let lasts = match run.form {
            Form::Short => SHORT,
            Form::Soak => SOAK,
        };
        Box::pin(failover::drill(run, Fault::Pause(lasts), failover::PROMISED))
    },
};

/// Longer than the gap may be, so that it cannot end because the primary goes on.
const SHORT: Duration = Duration::from_secs(20);
const SOAK: Duration = Duration::from_secs(40);
