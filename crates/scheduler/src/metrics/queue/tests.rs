// SPDX-License-Identifier: Apache-2.0
//! The gauges on a clock that the test moves.

use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use prometheus::{Registry, TextEncoder};

use cap_core::queue::OfKind;

use super::*;

/// Boot time, in seconds.
#[derive(Debug, Default)]
struct Moved(AtomicU64);

#[async_trait::async_trait]
impl Clock for Moved {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    fn boottime(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::Relaxed))
    }

    async fn sleep(&self, _: Duration) {}
}

struct Bench {
    clock: Arc<Moved>,
    registry: Registry,
    gauges: QueueGauges,
}

impl Bench {
    /// Gauges that show a sample of seven jobs from second 0, for a lead that lasts so long.
    fn leading_for(seconds: u64) -> Self {
        let (clock, registry) = (Arc::new(Moved::default()), Registry::new());
        let gauges = QueueGauges::new(clock.clone()).unwrap();
        registry.register(Box::new(gauges.clone())).unwrap();
        let depth = Depth { jobs: 7, capped: false };
        let oldest_age = Duration::from_millis(1_500);
        let mut kinds = ByKind::default();
        kinds[2] = OfKind { due: 3, running: 1, capped: false, oldest_age };
        let sample = Sample { depth, oldest_age, kinds: Some(kinds), measured_at: Timestamp::UNIX_EPOCH };
        gauges.show(sample, Duration::ZERO, &Mandate::new(clock.clone(), Duration::from_secs(seconds)));
        Self { clock, registry, gauges }
    }

    fn shown_at(&self, second: u64) -> String {
        self.clock.0.store(second, Ordering::Relaxed);
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap()
    }
}

#[test]
fn a_sample_is_shown_while_it_is_young_and_then_not_at_all() {
    let bench = Bench::leading_for(3_600);
    let shown = bench.shown_at(30);
    assert!(shown.contains("certautopilot_queue_depth 7\n"), "{shown}");
    assert!(shown.contains("certautopilot_queue_oldest_age_seconds 1.5\n"), "{shown}");
    for line in [
        "certautopilot_queue_jobs{kind=\"drift-scan\",state=\"due\"} 3\n",
        "certautopilot_queue_jobs{kind=\"drift-scan\",state=\"running\"} 1\n",
        "certautopilot_queue_jobs{kind=\"issue\",state=\"due\"} 0\n",
        "certautopilot_queue_kind_oldest_age_seconds{kind=\"drift-scan\"} 1.5\n",
    ] {
        assert!(shown.contains(line), "{line} is not in {shown}");
    }
    assert_eq!(bench.shown_at(31), "");
}

#[test]
fn who_leads_no_more_shows_nothing() {
    let bench = Bench::leading_for(12);
    assert_ne!(bench.shown_at(11), "");
    assert_eq!(bench.shown_at(12), "", "its lease cannot be trusted any more");
    let bench = Bench::leading_for(12);
    bench.gauges.clear();
    assert_eq!(bench.shown_at(1), "");
}
