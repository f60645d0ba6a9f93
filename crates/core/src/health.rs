// SPDX-License-Identifier: Apache-2.0
//! Readiness: what must work for a process to be given work.

use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

/// One thing that must work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// The database has a primary that a majority follows.
    Mongo,
    /// The KEK opens its canary.
    Kek,
    /// The database's schema is one that this build knows.
    Schema,
    /// The process is not shutting down.
    Shutdown,
}

/// What one check found: nothing wrong, or what is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Which check.
    pub check: Check,
    /// What is wrong; nothing when it passed.
    pub fault: Option<String>,
}

/// Finds out whether one thing works.
#[async_trait]
pub trait Probe: Send + Sync {
    /// Which check it is for.
    fn check(&self) -> Check;

    /// How many times the usual wait there is between two tries that pass. More than one where nobody's answer hangs on
    /// how fresh the last one is.
    fn pace(&self) -> u32 {
        1
    }

    /// One try: nothing when it works, else what is wrong, for the operator. It may hang: it is given up in time.
    async fn probe(&self) -> Result<(), String>;
}

impl Check {
    /// Every check, in the order in which they are shown.
    pub const ALL: [Self; 4] = [Self::Mongo, Self::Kek, Self::Schema, Self::Shutdown];

    /// The word for it in queries and answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mongo => "mongo",
            Self::Kek => "kek",
            Self::Schema => "schema",
            Self::Shutdown => "shutdown",
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.fault {
            None => write!(f, "[+]{} ok", self.check.as_str()),
            Some(fault) => write!(f, "[-]{} failed: {fault}", self.check.as_str()),
        }
    }
}
