// SPDX-License-Identifier: Apache-2.0
//! The leader's duties beside planning: each looks at its own pace, and one that fails stops no other.

mod cleanup;
mod notices;
mod plans;
mod ranks;
mod renewal_info;
mod totals;

use std::time::Duration;

use cap_core::audit::Auditor;
use cap_core::clock::Clock;
use cap_core::entropy::Entropy;
use cap_core::job::Mandate;
use cap_store::{Store, StoreError};

use crate::Metrics;

/// The names of all duties, as metrics have them.
pub(crate) const NAMES: [&str; 6] =
    [totals::NAME, notices::NAME, cleanup::NAME, renewal_info::NAME, ranks::NAME, plans::NAME];
/// Looks between two log lines about the same fault.
const LOOKS_PER_LINE: u32 = 10;
/// Pages of one part of a look at most; the rest waits for the next look.
const PAGES: u32 = 100;

/// What the duties of one term of one leader work with.
pub(crate) struct Duties<'a> {
    pub(crate) store: &'a Store,
    pub(crate) auditor: &'a Auditor,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) entropy: &'a dyn Entropy,
    pub(crate) mandate: &'a Mandate,
    pub(crate) epoch: i64,
    pub(crate) metrics: &'a Metrics,
}

impl Duties<'_> {
    /// Does all of them until the lease can no longer be trusted.
    pub(crate) async fn run(&self) {
        let round = plans::Round::default();
        tokio::join!(
            self.repeat(totals::NAME, totals::LOOK, async || totals::look(self).await),
            self.repeat(notices::NAME, notices::LOOK, async || notices::look(self).await),
            self.repeat(cleanup::NAME, cleanup::LOOK, async || cleanup::look(self).await),
            self.repeat(renewal_info::NAME, renewal_info::LOOK, async || renewal_info::look(self).await),
            self.repeat(ranks::NAME, ranks::LOOK, async || ranks::look(self).await),
            self.repeat(plans::NAME, plans::LOOK, async || plans::look(self, &round).await),
        );
    }

    /// Looks, and waits, and looks again.
    async fn repeat(&self, name: &'static str, wait: Duration, look: impl AsyncFn() -> anyhow::Result<()>) {
        let mut failed_looks = 0_u32;
        while self.mandate.holds() {
            match look().await {
                Ok(()) => {
                    if failed_looks > 0 {
                        tracing::info!(duty = name, failed_looks, "this duty of the leader is done again");
                    }
                    failed_looks = 0;
                }
                Err(error) if is_over(&error) => {
                    tracing::info!(duty = name, epoch = self.epoch, "a later leader has this duty");
                }
                Err(error) => {
                    self.metrics.duty_failures.with_label_values(&[name]).inc();
                    if failed_looks.is_multiple_of(LOOKS_PER_LINE) {
                        let again_in_s = wait.as_secs();
                        tracing::warn!(duty = name, again_in_s, "a duty of the leader failed: {error:#}");
                    }
                    failed_looks = failed_looks.wrapping_add(1);
                }
            }
            self.clock.sleep(wait).await;
        }
    }
}

/// Does page after page of `full` records, until one is not full.
async fn pages(
    duties: &Duties<'_>,
    full: u32,
    page: impl AsyncFn() -> Result<u32, StoreError>,
) -> anyhow::Result<()> {
    for _ in 0..PAGES {
        if !duties.mandate.holds() || page().await? < full {
            break;
        }
    }
    Ok(())
}

/// Whether a look failed because another leader works in a later epoch.
fn is_over(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(StoreError::Fenced))
}
