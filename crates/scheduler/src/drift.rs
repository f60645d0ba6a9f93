// SPDX-License-Identifier: Apache-2.0
//! The planner of drift scans: has certificates follow their project's settings, reads which scans are due, page by page,
//! queues a job for each, and counts what was found. It goes on beside the planner of renewals and never in its way.

use std::time::Duration;

use cap_core::clock::Clock;
use cap_core::duty::{self, DriftCandidate};
use cap_core::entropy::Entropy;
use cap_core::job::{JobDraft, Mandate};
use cap_store::{Enrolment, Planned, Store, StoreError};

use crate::Metrics;

/// The wait between two looks at what is due: a scan is wanted every few minutes at most, so that a leader need not ask
/// often.
const LOOK: Duration = Duration::from_secs(30);
/// The wait between two counts: two of them within the time for which one is shown.
const COUNT: Duration = Duration::from_secs(60);
/// Certificates of one page.
const PAGE: u32 = 500;

/// Plans scans for one term of one leader.
pub(crate) struct DriftPlanner<'a> {
    pub(crate) store: &'a Store,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) entropy: &'a dyn Entropy,
    pub(crate) mandate: &'a Mandate,
    pub(crate) epoch: i64,
    pub(crate) metrics: &'a Metrics,
}

impl DriftPlanner<'_> {
    /// Plans and counts until the lease can no longer be trusted.
    pub(crate) async fn run(&self) {
        let (mut round, mut counted_at, mut is_failing) = (Enrolment::default(), None, false);
        let mut is_stuck = false;
        while self.mandate.holds() {
            let has_more = match self.look(&mut round, &mut is_stuck).await {
                Ok(has_more) => {
                    is_failing = false;
                    has_more
                }
                Err(error) => {
                    if !is_failing {
                        tracing::warn!(%error, "drift scans cannot be planned now; trying again");
                    }
                    is_failing = true;
                    false
                }
            };
            let now = self.clock.boottime();
            if counted_at.is_none_or(|at| now.saturating_sub(at) >= COUNT) {
                counted_at = Some(now);
                self.count(now).await;
            }
            if !has_more {
                self.clock.sleep(LOOK).await;
            }
        }
    }

    /// Some followers and a page of what is due; answers whether there may be more of either. What cannot follow now keeps nothing that is
    /// due from being planned.
    async fn look(&self, round: &mut Enrolment, is_stuck: &mut bool) -> Result<bool, StoreError> {
        let followed = self.store.enrol_drift(round, self.epoch).await;
        if let Err(error) = &followed
            && !*is_stuck
        {
            tracing::warn!(%error, "a project's settings do not reach its certificates now; trying again");
        }
        *is_stuck = followed.is_err();
        Ok(self.plan_due().await? || followed.unwrap_or(false))
    }

    /// A page of what is due; answers whether there may be more.
    async fn plan_due(&self) -> Result<bool, StoreError> {
        let now = self.clock.now();
        let due = self.store.due_drift(now, PAGE).await?;
        if due.is_empty() {
            return Ok(false);
        }
        let mut projects: Vec<_> = due.iter().map(|candidate| candidate.project).collect();
        projects.sort_unstable();
        projects.dedup();
        let settings = self.store.drift_settings(&projects).await?;
        let is_full = u32::try_from(due.len()).is_ok_and(|found| found >= PAGE);
        let mut queued = false;
        for candidate in due {
            // A project without any has them off; its certificates are about to follow.
            let settings = settings.get(&candidate.project).copied().unwrap_or_default();
            let Some((work, next)) = duty::drift_scan(&candidate, &settings, now) else { continue };
            if !self.mandate.holds() {
                return Ok(false);
            }
            let job = JobDraft::now(candidate.project, work, candidate.fence, self.clock, self.entropy);
            queued |= self.plan(&candidate, &job, next).await?;
        }
        Ok(is_full && queued)
    }

    async fn plan(
        &self,
        candidate: &DriftCandidate,
        job: &JobDraft,
        next: Duration,
    ) -> Result<bool, StoreError> {
        match self.store.plan_drift(job, candidate.drift_at, next, self.epoch).await {
            Ok(Planned::Queued) => {
                tracing::debug!(certificate = %candidate.certificate, job = %job.id, "a drift scan was queued");
                self.metrics.drift_scans.inc();
                Ok(true)
            }
            Ok(Planned::Unneeded) => Ok(false),
            Err(error @ (StoreError::Unavailable { .. } | StoreError::Refused { .. })) => Err(error),
            // This one's own; the others behind it can be planned.
            Err(error) => {
                tracing::warn!(certificate = %candidate.certificate, %error, "its drift scan could not be planned");
                Ok(false)
            }
        }
    }

    async fn count(&self, counted_at: Duration) {
        match self.store.count_drift().await {
            Ok(counts) => self.metrics.drift.show(counts, counted_at, self.mandate),
            Err(error) => tracing::warn!(%error, "drift cannot be counted now; trying again"),
        }
    }
}
