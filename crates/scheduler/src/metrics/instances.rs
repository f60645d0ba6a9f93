// SPDX-License-Identifier: Apache-2.0
//! How many processes there are, for as long as this scheduler leads and has counted lately.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cap_core::clock::Clock;
use cap_core::instance::{Doing, Roll, State};
use cap_core::job::Mandate;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntGaugeVec, Opts};

/// How long a count is shown: three looks.
const KEPT: Duration = Duration::from_secs(45);

/// The gauges of the instances.
#[derive(Debug, Clone)]
pub(crate) struct InstanceGauges {
    gauges: IntGaugeVec,
    clock: Arc<dyn Clock>,
    shown: Arc<Mutex<Option<(Duration, Mandate)>>>,
}

impl InstanceGauges {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Result<Self, prometheus::Error> {
        let opts = Opts::new(
            "certautopilot_instances",
            "Processes of the cluster by role and state; lost ones said no goodbye. The leader alone shows it.",
        );
        Ok(Self { gauges: IntGaugeVec::new(opts, &["role", "state"])?, clock, shown: Arc::default() })
    }

    /// Shows a count from now on, until it is old or the lead is over.
    pub(crate) fn show(&self, roll: &Roll, looked_at: Duration, mandate: &Mandate) {
        for role in Doing::ROLES {
            for state in State::ALL {
                let count = i64::try_from(roll.count(role, state)).unwrap_or(i64::MAX);
                self.gauges.with_label_values(&[role, state.as_str()]).set(count);
            }
        }
        self.put(Some((looked_at, mandate.clone())));
    }

    /// Shows nothing any more.
    pub(crate) fn clear(&self) {
        self.put(None);
    }

    /// Shows a cluster without processes.
    pub(crate) fn show_empty(&self) {
        let now = self.clock.boottime();
        self.show(&Roll::default(), now, &Mandate::new(self.clock.clone(), now + KEPT));
    }

    fn put(&self, shown: Option<(Duration, Mandate)>) {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = shown;
    }
}

impl Collector for InstanceGauges {
    fn desc(&self) -> Vec<&Desc> {
        self.gauges.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let is_current = shown.as_ref().is_some_and(|(looked_at, mandate)| {
            self.clock.boottime().saturating_sub(*looked_at) <= KEPT && mandate.holds()
        });
        if is_current { self.gauges.collect() } else { Vec::new() }
    }
}
