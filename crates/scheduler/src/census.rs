// SPDX-License-Identifier: Apache-2.0
//! The census: the leader counts the processes of the cluster, for whoever wants to be alerted when one is lost.

use std::time::Duration;

use cap_core::clock::Clock;
use cap_core::job::Mandate;
use cap_store::Store;

use crate::Metrics;

/// The wait between two counts: processes tell of themselves as often, roughly.
const LOOK: Duration = Duration::from_secs(15);

/// Counts for one term of one leader.
pub(crate) struct Census<'a> {
    pub(crate) store: &'a Store,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) mandate: &'a Mandate,
    pub(crate) metrics: &'a Metrics,
}

impl Census<'_> {
    /// Counts until the lease can no longer be trusted.
    pub(crate) async fn run(&self) {
        while self.mandate.holds() {
            let looked_at = self.clock.boottime();
            match self.store.roll().await {
                Ok((roll, _)) => self.metrics.instances.show(&roll, looked_at, self.mandate),
                // What was shown before goes by itself when it is too old.
                Err(error) => tracing::debug!(%error, "the instances were not counted; trying again"),
            }
            self.clock.sleep(LOOK).await;
        }
    }
}
