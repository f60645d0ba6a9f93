// SPDX-License-Identifier: Apache-2.0
//! Makes a notice for each certificate that runs out although it should have been renewed. It shares nothing with the
//! planner of renewals but the certificates: whatever keeps a renewal from happening does not keep the notice.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::bail;
use cap_core::audit::{Action, Draft, Origin};
use cap_core::expiry::{self, NoticeId, Threshold};
use cap_store::{Due, NoticeRecord, Noticed};
use jiff::Timestamp;

use super::Duties;
use crate::planner::Fault;

pub(super) const NAME: &str = "notices";
/// The wait between two looks: a small part of what an eighth of the shortest life is, an hour's.
pub(super) const LOOK: Duration = Duration::from_secs(30);
/// Certificates of one page, beside those that have a fault of their own.
const PAGE: u32 = 200;
/// Pages of one look at most.
const PAGES: u32 = 500;
/// Certificates with a fault of their own that one look passes over: with more, the fault is hardly theirs.
const FAULTY_MAX: usize = 200;

pub(super) async fn look(duties: &Duties<'_>) -> anyhow::Result<()> {
    let mut faulty = HashSet::new();
    for _ in 0..PAGES {
        // The longest due come first, so those with a fault fill the head of the page.
        let limit = PAGE.saturating_add(u32::try_from(faulty.len())?);
        let due = duties.store.due_notices(duties.clock.now(), limit).await?;
        let is_full = due.len() >= usize::try_from(limit)?;
        for due in due.iter().filter(|due| !faulty.contains(&due.certificate.id)).collect::<Vec<_>>() {
            if !duties.mandate.holds() {
                return Ok(());
            }
            match notice(duties, due).await {
                Ok(()) => {}
                Err(Fault::This(error)) if faulty.len() < FAULTY_MAX => {
                    tracing::warn!(certificate = %due.certificate.id, "no notice could be made about this certificate: {error:#}");
                    faulty.insert(due.certificate.id);
                }
                Err(Fault::This(error) | Fault::Everybody(error)) => return Err(error),
            }
        }
        if !is_full {
            break;
        }
    }
    if !faulty.is_empty() {
        bail!(
            "{} certificates that run out have a fault of their own; the lines above name them",
            faulty.len()
        );
    }
    Ok(())
}

async fn notice(duties: &Duties<'_>, due: &Due) -> Result<(), Fault> {
    let now = duties.clock.now();
    let look = expiry::look(due.version.not_before, due.version.not_after, now);
    let Some(threshold) = look.reached else {
        return Ok(duties.store.postpone_notice(due, look, duties.epoch).await?);
    };
    let record = record(due, threshold, now);
    let draft = Draft::new(Action::CertificateExpiryNoticed, Some(record.project), record.id.certificate)
        .detail("version", record.id.version.to_string())
        .detail("kind", threshold.as_str())
        .detail("not_after", record.not_after.to_string())
        .detail("reason", record.reason.as_str())
        .detail("epoch", duties.epoch);
    let audit = duties.auditor.row(&Origin::service("scheduler"), &draft).await?;
    if !duties.mandate.holds() {
        return Ok(());
    }
    if duties.store.notice(due, &record, look, duties.epoch, &audit).await? == Noticed::Made {
        duties.metrics.notices.with_label_values(&[threshold.as_str()]).inc();
        tell(&record);
    }
    Ok(())
}

fn record(due: &Due, threshold: Threshold, now: Timestamp) -> NoticeRecord {
    let certificate = &due.certificate;
    let (auto_renew, own) = (certificate.spec.auto_renew, certificate.problem.as_ref());
    let (reason, problem) = expiry::reason(auto_renew, own, due.issuer_problem.as_ref());
    NoticeRecord {
        id: NoticeId { certificate: certificate.id, version: due.version.id, threshold },
        project: certificate.project,
        name: certificate.spec.names.identifiers().first().map(ToString::to_string).unwrap_or_default(),
        not_after: due.version.not_after,
        reason,
        problem,
        noticed_at: now,
        open: true,
        resolved_at: None,
    }
}

fn tell(notice: &NoticeRecord) {
    let NoticeRecord { id, project, name, not_after, reason, .. } = notice;
    let (certificate, version, kind) = (id.certificate, id.version, id.threshold.as_str());
    let (why, remedy) = (reason.as_str(), reason.remedy());
    match id.threshold {
        Threshold::Expired => {
            tracing::error!(%certificate, %version, %project, name, %not_after, kind, reason = why, "a certificate has expired: {remedy}");
        }
        Threshold::QuarterLeft | Threshold::EighthLeft => {
            tracing::warn!(%certificate, %version, %project, name, %not_after, kind, reason = why, "a certificate runs out: {remedy}");
        }
    }
}
