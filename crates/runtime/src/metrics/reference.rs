// SPDX-License-Identifier: Apache-2.0
//! docs/reference/metrics.md, from what the registries show.

use std::fmt::Write;

use prometheus::Registry;
use prometheus::proto::{Metric, MetricFamily, MetricType};

const HEAD: &str = "\
# Metrics

<!-- Written by `cargo xtask codegen` from the registries of the services. -->

Every process shows its metrics at `/metrics` of `CAP_ADMIN_LISTEN`, in Prometheus' text format. Times are in seconds;
counters end in `_total` and start at zero with the process.
";

/// A part of the page: who has these metrics.
#[derive(Debug)]
pub struct Section<'a> {
    /// Its title.
    pub title: &'a str,
    /// Where they are registered. A metric without any series is not shown.
    pub registry: &'a Registry,
}

/// The page.
#[must_use]
pub fn reference_markdown(sections: &[Section<'_>]) -> String {
    let mut page = HEAD.to_owned();
    for Section { title, registry } in sections {
        let _ = write!(page, "\n## {title}\n\n| metric | type | labels | meaning |\n|---|---|---|---|\n");
        // Sorted by name, as the registry gives them.
        for family in registry.gather() {
            let _ = writeln!(
                page,
                "| `{}` | {} | {} | {} |",
                family.name(),
                kind(&family),
                labels(&family),
                family.help().replace('|', "\\|")
            );
        }
    }
    page
}

fn kind(family: &MetricFamily) -> &'static str {
    match family.get_field_type() {
        MetricType::COUNTER => "counter",
        MetricType::GAUGE => "gauge",
        MetricType::HISTOGRAM => "histogram",
        MetricType::SUMMARY => "summary",
        MetricType::UNTYPED => "untyped",
    }
}

fn labels(family: &MetricFamily) -> String {
    let first = family.get_metric().first();
    let names = first.into_iter().flat_map(Metric::get_label);
    names.map(|label| format!("`{}`", label.name())).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use prometheus::{HistogramOpts, HistogramVec, IntCounter};

    use super::*;

    #[test]
    fn each_metric_is_a_row_with_its_labels() {
        let registry = Registry::new();
        registry.register(Box::new(IntCounter::new("b_total", "How often: a | b.").unwrap())).unwrap();
        let opts = HistogramOpts::new("a_seconds", "How long.");
        let histogram = HistogramVec::new(opts, &["route", "method"]).unwrap();
        registry.register(Box::new(histogram.clone())).unwrap();
        histogram.with_label_values(&["/x", "GET"]);
        let page = reference_markdown(&[Section { title: "api", registry: &registry }]);
        let rows = "\n## api\n\n| metric | type | labels | meaning |\n|---|---|---|---|\n\
                    | `a_seconds` | histogram | `method`, `route` | How long. |\n\
                    | `b_total` | counter |  | How often: a \\| b. |\n";
        assert!(page.ends_with(rows), "{page}");
    }
}
