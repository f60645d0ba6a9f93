// SPDX-License-Identifier: Apache-2.0
//! Drift: whether what a certificate's names serve is the certificate's current version.

mod look;
mod settings;
mod sighting;

pub use look::{Look, Lookout, Seen, looks};
pub use settings::{BadDrift, DriftSettings, DriftTarget, Host};
pub use sighting::{Sighting, SightingState, judge, state};

use serde::{Deserialize, Serialize};

/// What the last scan of a certificate found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DriftState {
    /// Every name that was looked at serves the current version.
    Served,
    /// A name serves another certificate.
    Drifted,
    /// No name serves another certificate, and one at least could not be looked at.
    Unreachable,
}

impl DriftState {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Served, Self::Drifted, Self::Unreachable];

    /// The word used in the API and in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Served => "served",
            Self::Drifted => "drifted",
            Self::Unreachable => "unreachable",
        }
    }
}
