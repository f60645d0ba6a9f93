// SPDX-License-Identifier: Apache-2.0
//! How many certificates are in each state of drift, for as long as this scheduler leads and has counted lately.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cap_core::clock::Clock;
use cap_core::drift::DriftState;
use cap_core::job::Mandate;
use cap_core::limits::DRIFT_COUNT_KEPT;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntGaugeVec, Opts};

type Counts = [(DriftState, u64); 3];

/// The gauge of drift.
#[derive(Debug, Clone)]
pub(crate) struct DriftGauge {
    gauge: IntGaugeVec,
    clock: Arc<dyn Clock>,
    shown: Arc<Mutex<Option<Shown>>>,
}

#[derive(Debug)]
struct Shown {
    counts: Counts,
    /// The boot time before the count.
    counted_at: Duration,
    mandate: Mandate,
}

impl DriftGauge {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Result<Self, prometheus::Error> {
        let opts = Opts::new(
            "certautopilot_drift",
            "Certificates by what the last drift scan of their current version found, each state counted up to 100000. The \
             leader alone shows it.",
        );
        Ok(Self { gauge: IntGaugeVec::new(opts, &["state"])?, clock, shown: Arc::default() })
    }

    /// Shows a count from now on, until it is old or the lead is over.
    pub(crate) fn show(&self, counts: Counts, counted_at: Duration, mandate: &Mandate) {
        self.put(Some(Shown { counts, counted_at, mandate: mandate.clone() }));
    }

    /// Shows nothing any more.
    pub(crate) fn clear(&self) {
        self.put(None);
    }

    /// Shows that there is none.
    pub(crate) fn show_empty(&self) {
        let now = self.clock.boottime();
        let mandate = Mandate::new(self.clock.clone(), now + DRIFT_COUNT_KEPT);
        self.show(DriftState::ALL.map(|state| (state, 0)), now, &mandate);
    }

    fn put(&self, shown: Option<Shown>) {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = shown;
    }

    /// What may be shown at this moment.
    fn current(&self) -> Option<Counts> {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let is_current = |shown: &&Shown| {
            let age = self.clock.boottime().saturating_sub(shown.counted_at);
            age <= DRIFT_COUNT_KEPT && shown.mandate.holds()
        };
        shown.as_ref().filter(is_current).map(|shown| shown.counts)
    }
}

impl Collector for DriftGauge {
    fn desc(&self) -> Vec<&Desc> {
        self.gauge.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Some(counts) = self.current() else { return Vec::new() };
        for (state, count) in counts {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.gauge.with_label_values(&[state.as_str()]).set(count);
        }
        self.gauge.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use cap_runtime::clock::SystemClock;

    fn shown(gauge: &DriftGauge) -> usize {
        gauge.collect().iter().map(|family| family.get_metric().len()).sum()
    }

    #[test]
    fn every_state_is_shown_by_a_leader_and_none_by_another() {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let gauge = DriftGauge::new(clock.clone()).unwrap();
        assert_eq!(shown(&gauge), 0, "who has not led has not counted");
        gauge.show_empty();
        assert_eq!(shown(&gauge), 3);
        let now = clock.boottime();
        let counts = DriftState::ALL.map(|state| (state, 7));
        let held = Mandate::new(clock.clone(), now + DRIFT_COUNT_KEPT);
        gauge.show(counts, now.saturating_sub(DRIFT_COUNT_KEPT * 2), &held);
        assert_eq!(shown(&gauge), 0, "an old count");
        gauge.show(counts, now, &held);
        assert_eq!(shown(&gauge), 3);
        held.revoke();
        assert_eq!(shown(&gauge), 0, "the lead is over");
        gauge.show_empty();
        gauge.clear();
        assert_eq!(shown(&gauge), 0);
    }
}
