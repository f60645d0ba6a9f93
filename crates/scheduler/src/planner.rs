// SPDX-License-Identifier: Apache-2.0
//! The planner: reads what is due, page by page, and queues a job for each.

use std::collections::HashMap;
use std::time::Duration;

use cap_core::audit::{Action, Auditor, CannotAudit, Draft, Origin};
use cap_core::clock::Clock;
use cap_core::duty::{self, Candidate};
use cap_core::entropy::Entropy;
use cap_core::envelope::{KekError, KeyringError};
use cap_core::id::CertificateId;
use cap_core::job::{JobDraft, Mandate};
use cap_store::{Planned, Store, StoreError};

use crate::Metrics;

/// The wait between two looks at what is due: what is due has days until it is late.
const LOOK: Duration = Duration::from_secs(5);
/// The wait after a look that failed.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Certificates of one page, beside those that are set aside.
const PAGE: u32 = 500;
/// How long a certificate is left alone after a fault of its own: it must neither fill the log nor be in the way.
const ASIDE: Duration = Duration::from_secs(60);
/// Certificates set aside at most: with more, the fault is hardly theirs.
const ASIDE_MAX: usize = 500;
/// Looks between two log lines about the same fault.
const LOOKS_PER_LINE: u32 = 10;

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

/// Certificates that have a fault of their own, and the boot time at which each is tried again.
type Aside = HashMap<CertificateId, Duration>;

/// Why something was not planned for a certificate.
#[derive(Debug)]
pub(crate) enum Fault {
    /// Nobody's can be, for now.
    Everybody(anyhow::Error),
    /// This one cannot; the others behind it can.
    This(anyhow::Error),
}

impl Planner<'_> {
    /// Plans until the lease can no longer be trusted.
    pub(crate) async fn run(&self) {
        let (mut aside, mut failed_looks) = (Aside::new(), 0_u32);
        while self.mandate.holds() {
            let wait = match self.plan_page(&mut aside).await {
                Ok(has_more) => {
                    if failed_looks > 0 {
                        tracing::info!(failed_looks, "renewals are planned again");
                    }
                    failed_looks = 0;
                    if has_more { Duration::ZERO } else { LOOK }
                }
                Err(error) => {
                    if failed_looks.is_multiple_of(LOOKS_PER_LINE) {
                        tracing::warn!("renewals cannot be planned now; trying again each second: {error:#}");
                    }
                    failed_looks = failed_looks.wrapping_add(1);
                    LOOK_AGAIN
                }
            };
            self.clock.sleep(wait).await;
        }
    }

    /// Plans what is due; answers whether the page was full and something of it was queued.
    async fn plan_page(&self, aside: &mut Aside) -> anyhow::Result<bool> {
        let boottime = self.clock.boottime();
        aside.retain(|_, again_at| *again_at > boottime);
        // The most urgent come first, so those that are set aside fill the head of the page.
        let limit = PAGE.saturating_add(u32::try_from(aside.len())?);
        let now = self.clock.now();
        let candidates = self.store.due_certificates(now, limit, self.epoch).await?;
        let is_full = candidates.len() >= usize::try_from(limit)?;
        let mut queued = false;
        for candidate in candidates {
            if aside.contains_key(&candidate.certificate) {
                continue;
            }
            if !self.mandate.holds() {
                return Ok(false);
            }
            match self.plan(&candidate, now).await {
                Ok(did) => queued |= did,
                Err(Fault::This(error)) if aside.len() < ASIDE_MAX => {
                    tracing::warn!(
                        certificate = %candidate.certificate,
                        again_in_s = ASIDE.as_secs(),
                        "this certificate's renewal could not be planned: {error:#}"
                    );
                    aside.insert(candidate.certificate, boottime + ASIDE);
                }
                Err(Fault::This(error) | Fault::Everybody(error)) => return Err(error),
            }
        }
        Ok(is_full && queued)
    }

    async fn plan(&self, candidate: &Candidate, now: jiff::Timestamp) -> Result<bool, Fault> {
        let Some(work) = duty::renewal(candidate, now) else { return Ok(false) };
        let job = JobDraft::now(candidate.project, work, candidate.fence, self.clock, self.entropy)
            .before(candidate.expires);
        let version = candidate.current.map_or_else(|| "none".to_owned(), |version| version.to_string());
        let draft =
            Draft::new(Action::CertificateRenewalPlanned, Some(candidate.project), candidate.certificate)
                .detail("version", version)
                .detail("due_at", candidate.renew_at.to_string())
                .detail("suggested_by_ca", candidate.is_suggested)
                .detail("epoch", self.epoch);
        // No entry, no renewal: what nobody can audit later must not happen.
        let audit = self.auditor.row(&Origin::service("scheduler"), &draft).await.map_err(Fault::from)?;
        if !self.mandate.holds() {
            return Ok(false);
        }
        let planned = self.store.plan_renewal(&job, candidate.renew_at, self.epoch, &audit).await;
        let planned = planned.map_err(Fault::from)?;
        if planned == Planned::Queued {
            tracing::info!(certificate = %candidate.certificate, job = %job.id, "a renewal was queued");
            self.metrics.renewals.inc();
        }
        Ok(planned == Planned::Queued)
    }
}

impl From<CannotAudit> for Fault {
    fn from(error: CannotAudit) -> Self {
        match error {
            CannotAudit::Key(KeyringError::Kek(KekError::Unavailable(_)) | KeyringError::Store(_)) => {
                Self::Everybody(error.into())
            }
            CannotAudit::Key(
                KeyringError::Kek(KekError::UnknownVersion(_) | KekError::Wrong(_))
                | KeyringError::Missing { .. }
                | KeyringError::CannotOpen(_),
            )
            | CannotAudit::TooLarge(_) => Self::This(error.into()),
        }
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable { .. } | StoreError::Refused { .. } => Self::Everybody(error.into()),
            StoreError::Conflict { .. }
            | StoreError::Fenced
            | StoreError::Replayed(_)
            | StoreError::Corrupt { .. } => Self::This(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_certificates_fault_is_told_from_everybodys_and_with_its_cause() {
        let lost = KeyringError::Missing { key: "audit".into(), version: 3 };
        let Fault::This(error) = Fault::from(CannotAudit::from(lost)) else { panic!("everybody's") };
        assert!(format!("{error:#}").contains("version 3"), "{error:#}");
        let away = KeyringError::Kek(KekError::Unavailable("no route".into()));
        let Fault::Everybody(error) = Fault::from(CannotAudit::from(away)) else { panic!("one's") };
        assert!(format!("{error:#}").contains("no route"), "{error:#}");
        assert!(matches!(Fault::from(StoreError::Fenced), Fault::This(_)));
        let away = StoreError::Unavailable { doing: "queue a renewal", cause: "no primary".into() };
        assert!(matches!(Fault::from(away), Fault::Everybody(_)));
    }
}
