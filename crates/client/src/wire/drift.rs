// SPDX-License-Identifier: Apache-2.0
//! Drift over the wire.

use cap_core::drift::{DriftState, Sighting};
use cap_core::id::VersionId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// How the certificates of a project are scanned for drift.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectDrift {
    /// Whether they are.
    pub enabled: bool,
    /// The port that is looked at, unless a certificate has another one.
    pub port: u16,
    /// From one scan to the next, as in `6h`.
    pub interval: String,
}

/// `PATCH /projects/{p}`: what is absent stays.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpdateProject {
    /// What it weighs where workers' places are short, from 1 to 100; an owner says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// How its certificates are scanned for drift.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<UpdateProjectDrift>,
}

/// Changes of [`ProjectDrift`]: what is absent stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpdateProjectDrift {
    /// Whether certificates are scanned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// The port that is looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// From one scan to the next, as in `6h`: 5 minutes to 30 days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<String>,
}

/// Where a certificate is served.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DriftTarget {
    /// The host that is connected to for every name: a DNS name or an address; each name itself when unset.
    #[serde(default)]
    pub host: Option<String>,
    /// The port; the project's when unset.
    #[serde(default)]
    pub port: Option<u16>,
}

/// Whether what a certificate's names serve is its current version.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Drift {
    /// The host that is connected to for every name, where one is configured.
    pub host: Option<String>,
    /// The port, where one is configured for this certificate.
    pub port: Option<u16>,
    /// What the last scan of the current version found; nothing before there was one.
    pub state: Option<DriftState>,
    /// The version that what was seen was compared with.
    pub version: Option<VersionId>,
    /// When.
    pub scanned_at: Option<Timestamp>,
    /// What each name showed.
    pub names: Vec<Sighting>,
}
