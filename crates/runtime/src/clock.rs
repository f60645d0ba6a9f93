// SPDX-License-Identifier: Apache-2.0
//! The clocks of this host.

use std::time::Duration;

use async_trait::async_trait;
use cap_core::clock::Clock;
use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};

/// The system's clocks. The one place that reads them.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        #[expect(
            clippy::disallowed_methods,
            reason = "this is the clock that everybody else is told to take"
        )]
        Timestamp::now()
    }

    fn boottime(&self) -> Duration {
        // The kernel's time since boot is never negative.
        Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default()
    }

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_since_boot_is_past_zero_and_never_runs_backwards() {
        let first = SystemClock.boottime();
        assert!(first > Duration::ZERO);
        assert!(SystemClock.boottime() >= first);
    }
}
