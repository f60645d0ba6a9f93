// SPDX-License-Identifier: Apache-2.0
//! Time as a parameter.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

/// Where a process learns the time. Real processes use the system's clocks; tests use their own.
#[async_trait]
pub trait Clock: Debug + Send + Sync {
    /// Civil time, as good as this host's clock. Where two hosts must agree, the database's time decides instead.
    fn now(&self) -> Timestamp;

    /// Time since this host booted, counting suspension (`CLOCK_BOOTTIME`): what promises with a number on them
    /// are measured with, since neither a clock change nor a pause can make it run backwards or stand still.
    fn boottime(&self) -> Duration;

    /// A time that has come, whichever of the clocks that this process knows is ahead: whether something at a CA is over is
    /// judged by it, since what is given up too soon is bought twice.
    fn surely(&self) -> Timestamp {
        self.now()
    }

    /// Waits.
    async fn sleep(&self, time: Duration);
}

/// `instant` moved by `by`, held at the ends of the representable range.
#[must_use]
pub fn later(instant: Timestamp, by: Duration) -> Timestamp {
    instant.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// `instant` less `by`, or the first instant there is.
#[must_use]
pub fn earlier(instant: Timestamp, by: Duration) -> Timestamp {
    instant.checked_sub(by).unwrap_or(Timestamp::MIN)
}

/// The time from `from` to `to`; zero when `to` is not later.
#[must_use]
pub fn until(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or(Duration::ZERO)
}
