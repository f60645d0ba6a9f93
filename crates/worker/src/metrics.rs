// SPDX-License-Identifier: Apache-2.0
//! What a worker counts.

use cap_core::job::Work;
use prometheus::{HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// How a run of a job ended, as counted.
pub(crate) const OUTCOMES: [&str; 7] =
    ["succeeded", "failed", "again", "superseded", "handed_back", "lost", "dead"];

/// The worker's metrics.
#[derive(Debug, Clone)]
pub struct Metrics {
    pub(crate) jobs: IntCounterVec,
    pub(crate) duration: HistogramVec,
    pub(crate) running: IntGauge,
    pub(crate) leases_lost: IntCounter,
    pub(crate) writes_refused: IntCounter,
}

impl Metrics {
    /// Registers them; counters start at zero.
    ///
    /// # Errors
    /// When one is registered already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            jobs: IntCounterVec::new(
                Opts::new("certautopilot_jobs_total", "Runs of jobs by kind and outcome."),
                &["kind", "outcome"],
            )?,
            duration: HistogramVec::new(
                HistogramOpts::new("certautopilot_job_duration_seconds", "Time that a run of a job took."),
                &["kind"],
            )?,
            running: IntGauge::new(
                "certautopilot_jobs_running",
                "Jobs that this worker holds: at the CA, on their way there, and on their way out.",
            )?,
            leases_lost: IntCounter::new(
                "certautopilot_job_lease_expired_total",
                "Jobs whose lease this worker could not extend in time.",
            )?,
            writes_refused: IntCounter::new(
                "certautopilot_fenced_writes_refused_total",
                "Runs that wrote nothing more because a peer had taken the job over, or could have.",
            )?,
        };
        for kind in Work::KINDS {
            metrics.duration.with_label_values(&[kind]);
            for outcome in OUTCOMES {
                metrics.jobs.with_label_values(&[kind, outcome]).reset();
            }
        }
        registry.register(Box::new(metrics.jobs.clone()))?;
        registry.register(Box::new(metrics.duration.clone()))?;
        registry.register(Box::new(metrics.running.clone()))?;
        registry.register(Box::new(metrics.leases_lost.clone()))?;
        registry.register(Box::new(metrics.writes_refused.clone()))?;
        Ok(metrics)
    }

    /// Jobs that this worker holds.
    #[must_use]
    pub fn running(&self) -> u32 {
        u32::try_from(self.running.get()).unwrap_or(0)
    }
}
