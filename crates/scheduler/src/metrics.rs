// SPDX-License-Identifier: Apache-2.0
//! What a scheduler counts.

use prometheus::{Gauge, IntCounter, IntGauge, Registry};

/// The scheduler's metrics.
#[derive(Debug, Clone)]
pub struct Metrics {
    pub(crate) leader: IntGauge,
    pub(crate) transitions: IntCounter,
    pub(crate) renewals: IntCounter,
    pub(crate) skew: Gauge,
}

impl Metrics {
    /// Registers them; counters start at zero.
    ///
    /// # Errors
    /// When one is registered already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            leader: IntGauge::new("certautopilot_leader", "Whether this scheduler leads: 1 or 0.")?,
            transitions: IntCounter::new(
                "certautopilot_leader_transitions_total",
                "How often this scheduler began to lead.",
            )?,
            renewals: IntCounter::new(
                "certautopilot_renewals_planned_total",
                "Renewals that this scheduler queued.",
            )?,
            skew: Gauge::new(
                "certautopilot_clock_skew_seconds",
                "How far the database's clock was ahead of this host's at the last answer to a leader.",
            )?,
        };
        registry.register(Box::new(metrics.leader.clone()))?;
        registry.register(Box::new(metrics.transitions.clone()))?;
        registry.register(Box::new(metrics.renewals.clone()))?;
        registry.register(Box::new(metrics.skew.clone()))?;
        Ok(metrics)
    }
}
