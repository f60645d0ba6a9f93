// SPDX-License-Identifier: Apache-2.0
//! Metrics of this process, in Prometheus' text format.

mod process;
mod reference;

pub use reference::{Section, reference_markdown};

use prometheus::core::Collector;
use prometheus::{Encoder, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

use crate::args::VERSION;
use crate::role::Role;

/// The prefix of every metric of ours.
pub const PREFIX: &str = "certautopilot";

/// The registry and the ways to fill it. Clones share it.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
}

/// A metric that cannot be registered: its name or labels are not allowed, or it exists already. A bug.
pub type MetricError = prometheus::Error;

impl Metrics {
    /// A registry that already tells what this build is and what the process uses.
    ///
    /// # Errors
    /// Never, unless two of our own metrics share a name.
    pub fn new(role: Role) -> Result<Self, MetricError> {
        let metrics = Self { registry: Registry::new() };
        let build = metrics.gauges("build_info", "What this process is; always 1.", &["version", "role"])?;
        build.with_label_values(&[VERSION, role.name()]).set(1);
        metrics.registry.register(Box::new(process::Usage::new()?))?;
        Ok(metrics)
    }

    /// The registry itself, for collectors of another kind.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// A counter. `name` is without the prefix and ends in `_total`; `help` is a sentence. Exists at zero at once.
    ///
    /// # Errors
    /// When the name is not allowed or taken; the same holds for the others.
    pub fn counter(&self, name: &str, help: &str) -> Result<IntCounter, MetricError> {
        self.register(IntCounter::with_opts(opts(name, help))?)
    }

    /// Counters by label. Touch each combination that can be known beforehand, so that it exists at zero.
    ///
    /// # Errors
    /// As [`Metrics::counter`].
    pub fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, MetricError> {
        self.register(IntCounterVec::new(opts(name, help), labels)?)
    }

    /// A gauge of whole numbers.
    ///
    /// # Errors
    /// As [`Metrics::counter`].
    pub fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, MetricError> {
        self.register(IntGauge::with_opts(opts(name, help))?)
    }

    /// Gauges of whole numbers by label.
    ///
    /// # Errors
    /// As [`Metrics::counter`].
    pub fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, MetricError> {
        self.register(IntGaugeVec::new(opts(name, help), labels)?)
    }

    /// Everything, as Prometheus reads it.
    ///
    /// # Errors
    /// When a metric cannot be written down: a bug.
    pub fn exposition(&self) -> Result<String, MetricError> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }

    /// The media type of [`Metrics::exposition`].
    #[must_use]
    pub fn media_type(&self) -> String {
        TextEncoder::new().format_type().to_owned()
    }

    fn register<C: Collector + Clone + 'static>(&self, metric: C) -> Result<C, MetricError> {
        self.registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace(PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_build_and_the_process_tell_of_themselves() {
        let text = Metrics::new(Role::Worker).unwrap().exposition().unwrap();
        let line = format!("certautopilot_build_info{{role=\"worker\",version=\"{VERSION}\"}} 1\n");
        assert!(text.contains(&line), "{text}");
        assert!(text.contains("# HELP certautopilot_build_info "));
        assert!(text.contains("# TYPE certautopilot_build_info gauge\n"));
        for name in ["process_resident_memory_bytes", "process_open_fds", "process_threads"] {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap();
            let value: f64 = line.rsplit(' ').next().unwrap().parse().unwrap();
            assert!(value >= 1.0, "{line}");
        }
        assert!(text.contains("# TYPE process_cpu_seconds_total counter\n"));
    }

    #[test]
    fn counters_exist_at_zero_and_names_are_unique() {
        let metrics = Metrics::new(Role::Api).unwrap();
        metrics.counter("leader_transitions_total", "Times that the lead changed.").unwrap();
        assert!(metrics.exposition().unwrap().contains("certautopilot_leader_transitions_total 0\n"));
        assert!(metrics.counter("leader_transitions_total", "Again.").is_err());
    }
}
