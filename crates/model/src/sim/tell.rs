// SPDX-License-Identifier: Apache-2.0
//! What happened, in a line of a story.

use std::fmt::Debug;

use cap_core::job::Claim;
use cap_core::order::{LedgerError, Order};

use super::ledger::{Look, Opened, phase};

/// Characters of a line: chains and problems are longer than anybody reads.
const CHARS: usize = 160;

/// The result of an operation on the database.
pub(super) trait Tell {
    fn tell(&self) -> String;
}

/// The beginning of what there is to say.
pub(super) fn short(what: &impl Debug) -> String {
    format!("{what:?}").chars().take(CHARS).collect()
}

impl Tell for bool {
    fn tell(&self) -> String {
        self.to_string()
    }
}

impl Tell for Opened {
    fn tell(&self) -> String {
        short(self)
    }
}

impl Tell for Option<Look> {
    fn tell(&self) -> String {
        short(self)
    }
}

impl Tell for Option<Claim> {
    fn tell(&self) -> String {
        self.as_ref().map_or("nothing".into(), |claim| {
            let Claim { job, fence, failures, setbacks, .. } = claim;
            format!(
                "{job} fence {fence} failures {failures} setbacks {:?}",
                setbacks.map(|before| before.count)
            )
        })
    }
}

impl Tell for Order {
    fn tell(&self) -> String {
        let Self { id, fence, revision, state, .. } = self;
        let url = state.placed().map_or("", |placed| placed.url.as_str());
        format!("{id} fence {fence} revision {revision} {} {url}", phase(state))
    }
}

impl Tell for () {
    fn tell(&self) -> String {
        "done".into()
    }
}

impl<T: Tell> Tell for Result<T, LedgerError> {
    fn tell(&self) -> String {
        self.as_ref().map_or_else(short, Tell::tell)
    }
}

impl Tell for Option<Order> {
    fn tell(&self) -> String {
        self.as_ref().map_or("nothing".into(), Tell::tell)
    }
}
