// SPDX-License-Identifier: Apache-2.0
//! What an api replica counts.

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};

use crate::overload::REASONS;

/// How a challenge was answered, as counted.
pub(crate) const CHALLENGE_OUTCOMES: [&str; 3] = ["answered", "unknown", "unavailable"];

/// The api's metrics.
#[derive(Debug, Clone)]
pub struct Metrics {
    pub(crate) requests: IntCounterVec,
    pub(crate) duration: HistogramVec,
    pub(crate) challenges: IntCounterVec,
    pub(crate) shed: IntCounterVec,
}

impl Metrics {
    /// Registers them; counters whose labels are known start at zero.
    ///
    /// # Errors
    /// When one is registered already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let requests =
            Opts::new("certautopilot_http_requests_total", "Requests by method, route and status.");
        let duration =
            HistogramOpts::new("certautopilot_http_request_duration_seconds", "Time to answer a request.");
        let challenges = Opts::new(
            "certautopilot_challenge_responses_total",
            "HTTP-01 requests of CAs by how they were answered.",
        );
        let shed = Opts::new(
            "certautopilot_http_shed_total",
            "Requests that were refused, or cut off, for a limit's sake, by why.",
        );
        let metrics = Self {
            requests: IntCounterVec::new(requests, &["method", "route", "status"])?,
            duration: HistogramVec::new(duration, &["method", "route"])?,
            challenges: IntCounterVec::new(challenges, &["outcome"])?,
            shed: IntCounterVec::new(shed, &["reason"])?,
        };
        for reason in REASONS {
            metrics.shed.with_label_values(&[reason]).reset();
        }
        for outcome in CHALLENGE_OUTCOMES {
            metrics.challenges.with_label_values(&[outcome]).reset();
        }
        registry.register(Box::new(metrics.requests.clone()))?;
        registry.register(Box::new(metrics.duration.clone()))?;
        registry.register(Box::new(metrics.challenges.clone()))?;
        registry.register(Box::new(metrics.shed.clone()))?;
        Ok(metrics)
    }

    /// Makes one series of each metric that has none before the first request, so that the registry shows them all:
    /// for the reference page.
    pub fn show_all(&self) {
        self.requests.with_label_values(&["GET", "/healthz", "200"]);
        self.duration.with_label_values(&["GET", "/healthz"]);
    }
}
