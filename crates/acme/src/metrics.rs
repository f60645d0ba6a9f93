// SPDX-License-Identifier: Apache-2.0
//! What is counted of the traffic with CAs.

use std::time::Duration;

use http::StatusCode;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};

use crate::call::Action;
use crate::unreachable::Unreachable;

/// Seconds: from a CA on the same host to the longest request that we wait for.
const BUCKETS_S: [f64; 11] = [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0];
/// How requests end, as a label: few enough to count from the start.
const STATUSES: [&str; 7] = ["2xx", "3xx", "4xx", "429", "5xx", "timeout", "unreachable"];

/// The metrics of all CAs.
#[derive(Clone)]
pub(crate) struct Metrics {
    requests: IntCounterVec,
    seconds: HistogramVec,
    rate_limited: IntCounterVec,
}

/// The metrics of one CA.
pub(crate) struct CaMetrics {
    ca: String,
    all: Metrics,
}

impl Metrics {
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let requests =
            Opts::new("certautopilot_acme_requests_total", "Requests sent to CAs, by how they ended.");
        let seconds = HistogramOpts::new(
            "certautopilot_acme_request_duration_seconds",
            "How long requests to CAs took, from connecting to the last octet of the answer.",
        );
        let rate_limited = Opts::new(
            "certautopilot_acme_rate_limited_total",
            "Requests that a CA refused because of a rate limit.",
        );
        let metrics = Self {
            requests: IntCounterVec::new(requests, &["ca", "action", "status"])?,
            seconds: HistogramVec::new(seconds.buckets(BUCKETS_S.to_vec()), &["ca", "action"])?,
            rate_limited: IntCounterVec::new(rate_limited, &["ca"])?,
        };
        registry.register(Box::new(metrics.requests.clone()))?;
        registry.register(Box::new(metrics.seconds.clone()))?;
        registry.register(Box::new(metrics.rate_limited.clone()))?;
        Ok(metrics)
    }

    /// Those of the CA at this host, at zero from now on: an alert on a rate needs the value before the first event.
    pub(crate) fn of(&self, ca: &str) -> CaMetrics {
        for action in Action::ALL.map(Action::label) {
            for status in STATUSES {
                self.requests.with_label_values(&[ca, action, status]);
            }
            self.seconds.with_label_values(&[ca, action]);
        }
        self.rate_limited.with_label_values(&[ca]);
        CaMetrics { ca: ca.to_owned(), all: self.clone() }
    }
}

impl CaMetrics {
    pub(crate) fn ended(&self, action: Action, how: Result<StatusCode, &Unreachable>, took: Duration) {
        let action = action.label();
        let requests = &self.all.requests;
        requests.with_label_values(&[self.ca.as_str(), action, status(how)]).inc();
        let seconds = &self.all.seconds;
        seconds.with_label_values(&[self.ca.as_str(), action]).observe(took.as_secs_f64());
    }

    pub(crate) fn rate_limited(&self) {
        self.all.rate_limited.with_label_values(&[self.ca.as_str()]).inc();
    }
}

fn status(how: Result<StatusCode, &Unreachable>) -> &'static str {
    match how.map(|status| status.as_u16()) {
        Ok(429) => "429",
        Ok(..=299) => "2xx",
        Ok(300..=399) => "3xx",
        Ok(400..=499) => "4xx",
        Ok(500..) => "5xx",
        Err(Unreachable::Slow(_)) => "timeout",
        Err(_) => "unreachable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_of_a_known_ca_exists_at_zero() {
        let registry = Registry::new();
        let metrics = Metrics::register(&registry).unwrap();
        assert!(registry.gather().is_empty());
        let ca = metrics.of("ca.example.test");
        let counts: Vec<usize> = registry.gather().iter().map(|f| f.get_metric().len()).collect();
        // In the order of their names: limits, times, requests by how they ended.
        let actions = Action::ALL.len();
        assert_eq!(counts, [1, actions, actions * 7]);
        ca.ended(Action::Order, Ok(StatusCode::OK), Duration::from_millis(3));
        let value = metrics.requests.with_label_values(&["ca.example.test", "order", "2xx"]).get();
        assert_eq!(value, 1);
    }

    #[test]
    fn a_second_registration_is_refused() {
        let registry = Registry::new();
        assert!(Metrics::register(&registry).is_ok());
        assert!(Metrics::register(&registry).is_err());
    }
}
