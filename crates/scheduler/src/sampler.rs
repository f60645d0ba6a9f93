// SPDX-License-Identifier: Apache-2.0
//! The sampler: looks at the queue every few seconds, and shows how deep it is.

use std::time::Duration;

use cap_core::clock::Clock;
use cap_core::job::Mandate;
use cap_core::queue::Sample;
use cap_store::{Store, StoreError};

use crate::Metrics;

/// The wait between two looks: a look may fail within the time for which one is told. They are four commands each where nothing is
/// due, beside a `hello` for the database's time, and an idle leader is to stay below 120 a minute.
const LOOK: Duration = Duration::from_secs(12);

/// Samples for one term of one leader.
pub(crate) struct Sampler<'a> {
    pub(crate) store: &'a Store,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) mandate: &'a Mandate,
    pub(crate) epoch: i64,
    pub(crate) metrics: &'a Metrics,
}

impl Sampler<'_> {
    /// Samples until the lease can no longer be trusted.
    pub(crate) async fn run(&self) {
        while self.mandate.holds() {
            let looked_at = self.clock.boottime();
            match self.sample().await {
                Ok(sample) => self.metrics.queue.show(sample, looked_at, self.mandate),
                Err(StoreError::Fenced) => {
                    self.metrics.queue.clear();
                    tracing::info!(epoch = self.epoch, "how deep the queue is, a later leader says");
                }
                // What was shown before goes by itself when it is too old.
                Err(error) => {
                    tracing::warn!(%error, "how deep the queue is cannot be told now; trying again")
                }
            }
            self.clock.sleep(LOOK).await;
        }
    }

    async fn sample(&self) -> Result<Sample, StoreError> {
        // Before it is counted: a job whose lease ends in years is about to be due.
        match self.store.shorten_wrong_leases(self.epoch).await? {
            0 => {}
            jobs => tracing::warn!(
                jobs,
                "running jobs had leases that end far too late, stamped by a database clock that was wrong; they end when a right one would"
            ),
        }
        let sample = self.store.sample_queue().await?;
        if !self.mandate.holds() {
            return Err(StoreError::Fenced);
        }
        self.store.record_queue(&sample, self.epoch).await?;
        Ok(sample)
    }
}
