// SPDX-License-Identifier: Apache-2.0
//! The planner: reads what is due, page by page, and queues a job for each.

use std::time::Duration;

use cap_core::audit::{Action, Auditor, Draft, Origin};
use cap_core::clock::Clock;
use cap_core::duty::{self, Candidate};
use cap_core::entropy::Entropy;
use cap_core::job::{JobDraft, Mandate};
use cap_core::page::Page;
use cap_store::{Planned, Store, StoreError};

use crate::Metrics;

/// The wait between two looks at what is due.
const LOOK: Duration = Duration::from_secs(1);
/// Certificates of one page.
const PAGE: u32 = 500;

/// Plans for one term of one leader.
pub(crate) struct Planner<'a> {
    pub(crate) store: &'a Store,
    pub(crate) auditor: &'a Auditor,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) entropy: &'a dyn Entropy,
    pub(crate) mandate: &'a Mandate,
    pub(crate) epoch: i64,
    pub(crate) metrics: &'a Metrics,
}

impl Planner<'_> {
    /// Plans until the lease can no longer be trusted.
    pub(crate) async fn run(&self) {
        while self.mandate.holds() {
            match self.plan_page().await {
                // A full page may have more behind it.
                Ok(true) => {}
                Ok(false) => self.clock.sleep(LOOK).await,
                Err(error) => {
                    tracing::warn!(%error, "renewals could not be planned; trying again");
                    self.clock.sleep(LOOK).await;
                }
            }
        }
    }

    /// Plans what is due; answers whether the page was full and something of it was queued.
    async fn plan_page(&self) -> Result<bool, StoreError> {
        let page = Page { limit: PAGE, after: None };
        let now = self.clock.now();
        let candidates = self.store.due_certificates(now, &page).await?;
        let full = candidates.len() == usize::try_from(PAGE).unwrap_or(usize::MAX);
        let mut queued = false;
        for candidate in candidates {
            if !self.mandate.holds() {
                return Ok(false);
            }
            queued |= self.plan(&candidate, now).await?;
        }
        Ok(full && queued)
    }

    async fn plan(&self, candidate: &Candidate, now: jiff::Timestamp) -> Result<bool, StoreError> {
        let Some(work) = duty::renewal(candidate, now) else { return Ok(false) };
        let job = JobDraft::now(candidate.project, work, candidate.fence, self.clock, self.entropy);
        let draft =
            Draft::new(Action::CertificateRenewalPlanned, Some(candidate.project), candidate.certificate)
                .detail("version", candidate.current.to_string())
                .detail("due_at", candidate.renew_at.to_string())
                .detail("epoch", self.epoch);
        let audit = match self.auditor.row(&Origin::service("scheduler"), &draft).await {
            Ok(audit) => audit,
            Err(error) => {
                tracing::warn!(%error, certificate = %candidate.certificate, "a renewal could not be audited, so it waits");
                return Ok(false);
            }
        };
        let planned = self.store.plan_renewal(&job, self.epoch, &audit).await?;
        if planned == Planned::Queued {
            tracing::info!(certificate = %candidate.certificate, job = %job.id, "a renewal was queued");
            self.metrics.renewals.inc();
        }
        Ok(planned == Planned::Queued)
    }
}
