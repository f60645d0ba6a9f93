// SPDX-License-Identifier: Apache-2.0
//! Which CA.

use std::str::FromStr;

use anyhow::bail;

/// A CA that tests and drills can run against.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CaKind {
    /// Let's Encrypt's test server: every extension, its state in memory.
    #[default]
    Pebble,
    /// A second opinion: other states and texts, orders that outlive a restart, and 500 for an answer now and then. It
    /// has neither renewal information nor profiles.
    StepCa,
}

impl CaKind {
    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pebble => "pebble",
            Self::StepCa => "step-ca",
        }
    }
}

impl FromStr for CaKind {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        match [Self::Pebble, Self::StepCa].into_iter().find(|kind| kind.name() == text) {
            Some(kind) => Ok(kind),
            None => bail!("there is no CA {text:?}; there are pebble and step-ca"),
        }
    }
}
