// SPDX-License-Identifier: Apache-2.0
//! What a scheduler counts.

mod drift;
mod instances;
mod queue;

use std::sync::Arc;

use cap_core::clock::Clock;
use cap_core::expiry::Threshold;
use prometheus::{Gauge, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use drift::DriftGauge;
use instances::InstanceGauges;
use queue::QueueGauges;

/// The scheduler's metrics.
#[derive(Debug, Clone)]
pub struct Metrics {
    pub(crate) leader: IntGauge,
    pub(crate) transitions: IntCounter,
    pub(crate) renewals: IntCounter,
    pub(crate) skew: Gauge,
    pub(crate) queue: QueueGauges,
    pub(crate) instances: InstanceGauges,
    pub(crate) notices: IntCounterVec,
    pub(crate) counted: IntCounter,
    pub(crate) duty_failures: IntCounterVec,
    pub(crate) drift: DriftGauge,
    pub(crate) drift_scans: IntCounter,
}

impl Metrics {
    /// Registers them; counters start at zero.
    ///
    /// # Errors
    /// When one is registered already.
    pub fn new(registry: &Registry, clock: Arc<dyn Clock>) -> Result<Self, prometheus::Error> {
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
                "How far the database's clock was ahead of this host's when the lease was won or extended last.",
            )?,
            queue: QueueGauges::new(clock.clone())?,
            instances: InstanceGauges::new(clock.clone())?,
            notices: IntCounterVec::new(
                Opts::new(
                    "certautopilot_notices_total",
                    "Notices that this scheduler made about certificates that run out, by how far they have.",
                ),
                &["kind"],
            )?,
            counted: IntCounter::new(
                "certautopilot_jobs_counted_total",
                "Finished jobs that this scheduler counted into the hourly totals.",
            )?,
            duty_failures: IntCounterVec::new(
                Opts::new(
                    "certautopilot_duty_failures_total",
                    "Looks of a duty of the leader that failed; it looks again by itself.",
                ),
                &["duty"],
            )?,
            drift: DriftGauge::new(clock)?,
            drift_scans: IntCounter::new(
                "certautopilot_drift_scans_planned_total",
                "Drift scans that this scheduler queued.",
            )?,
        };
        for kind in Threshold::ALL {
            metrics.notices.with_label_values(&[kind.as_str()]);
        }
        for duty in crate::duties::NAMES {
            metrics.duty_failures.with_label_values(&[duty]);
        }
        registry.register(Box::new(metrics.leader.clone()))?;
        registry.register(Box::new(metrics.transitions.clone()))?;
        registry.register(Box::new(metrics.renewals.clone()))?;
        registry.register(Box::new(metrics.skew.clone()))?;
        registry.register(Box::new(metrics.queue.clone()))?;
        registry.register(Box::new(metrics.instances.clone()))?;
        registry.register(Box::new(metrics.notices.clone()))?;
        registry.register(Box::new(metrics.counted.clone()))?;
        registry.register(Box::new(metrics.duty_failures.clone()))?;
        registry.register(Box::new(metrics.drift.clone()))?;
        registry.register(Box::new(metrics.drift_scans.clone()))?;
        Ok(metrics)
    }

    /// Shows those too that only a leader has.
    pub fn show_all(&self) {
        self.queue.show_empty();
        self.instances.show_empty();
        self.drift.show_empty();
    }
}
