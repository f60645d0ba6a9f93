// SPDX-License-Identifier: Apache-2.0
//! How deep the queue is, for as long as this scheduler leads and has looked lately: no number at all is better than one
//! that is not true any more.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cap_core::clock::Clock;
use cap_core::job::{Mandate, Work};
use cap_core::limits::QUEUE_SAMPLE_KEPT;
use cap_core::queue::{ByKind, Depth, Sample};
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, GaugeVec, IntGauge, IntGaugeVec, Opts};

/// The gauges of the queue: two of all of it, by which workers are scaled, and two by kind.
#[derive(Debug, Clone)]
pub(crate) struct QueueGauges {
    depth: IntGauge,
    oldest_age: Gauge,
    jobs: IntGaugeVec,
    oldest_of_kind: GaugeVec,
    clock: Arc<dyn Clock>,
    shown: Arc<Mutex<Option<Shown>>>,
}

/// A sample of this process's own.
#[derive(Debug)]
struct Shown {
    sample: Sample,
    /// The boot time before the look.
    looked_at: Duration,
    mandate: Mandate,
}

impl QueueGauges {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Result<Self, prometheus::Error> {
        Ok(Self {
            depth: IntGauge::new(
                "certautopilot_queue_depth",
                "Jobs that are due or running, without those that stand apart (drift scans, looks at renewal information, revocations); beyond 10000 an estimate, never below that. The leader alone shows it.",
            )?,
            oldest_age: Gauge::new(
                "certautopilot_queue_oldest_age_seconds",
                "How long the oldest job that is due has been due, or 0. The leader alone shows it.",
            )?,
            jobs: IntGaugeVec::new(
                Opts::new(
                    "certautopilot_queue_jobs",
                    "Jobs by kind that are due, or running; beyond 10000 no more are counted, and those of kind issue are an estimate. The leader alone shows it.",
                ),
                &["kind", "state"],
            )?,
            oldest_of_kind: GaugeVec::new(
                Opts::new(
                    "certautopilot_queue_kind_oldest_age_seconds",
                    "How long the oldest job of a kind that is due has been due, or 0. The leader alone shows it.",
                ),
                &["kind"],
            )?,
            clock,
            shown: Arc::default(),
        })
    }

    /// Shows a sample from now on, until it is old or the lead is over.
    pub(crate) fn show(&self, sample: Sample, looked_at: Duration, mandate: &Mandate) {
        self.put(Some(Shown { sample, looked_at, mandate: mandate.clone() }));
    }

    /// Shows nothing any more.
    pub(crate) fn clear(&self) {
        self.put(None);
    }

    /// Shows an empty queue.
    pub(crate) fn show_empty(&self) {
        let looked_at = self.clock.boottime();
        let mandate = Mandate::new(self.clock.clone(), looked_at + QUEUE_SAMPLE_KEPT);
        let depth = Depth { jobs: 0, capped: false };
        let kinds = Some(ByKind::default());
        let sample = Sample { depth, oldest_age: Duration::ZERO, kinds, measured_at: self.clock.now() };
        self.show(sample, looked_at, &mandate);
    }

    fn put(&self, shown: Option<Shown>) {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = shown;
    }

    /// What may be shown at this moment.
    fn current(&self) -> Option<Sample> {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let is_current = |shown: &&Shown| {
            let age = self.clock.boottime().saturating_sub(shown.looked_at);
            age <= QUEUE_SAMPLE_KEPT && shown.mandate.holds()
        };
        shown.as_ref().filter(is_current).map(|shown| shown.sample)
    }
}

impl Collector for QueueGauges {
    fn desc(&self) -> Vec<&Desc> {
        let by_kind = self.jobs.desc().into_iter().chain(self.oldest_of_kind.desc());
        self.depth.desc().into_iter().chain(self.oldest_age.desc()).chain(by_kind).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Some(sample) = self.current() else { return Vec::new() };
        self.depth.set(i64::try_from(sample.depth.jobs).unwrap_or(i64::MAX));
        self.oldest_age.set(sample.oldest_age.as_secs_f64());
        for (kind, of_kind) in Work::KINDS.iter().zip(sample.kinds.unwrap_or_default()) {
            for (state, jobs) in [("due", of_kind.due), ("running", of_kind.running)] {
                self.jobs.with_label_values(&[*kind, state]).set(i64::try_from(jobs).unwrap_or(i64::MAX));
            }
            self.oldest_of_kind.with_label_values(&[*kind]).set(of_kind.oldest_age.as_secs_f64());
        }
        let by_kind = self.jobs.collect().into_iter().chain(self.oldest_of_kind.collect());
        self.depth.collect().into_iter().chain(self.oldest_age.collect()).chain(by_kind).collect()
    }
}

#[cfg(test)]
mod tests;
