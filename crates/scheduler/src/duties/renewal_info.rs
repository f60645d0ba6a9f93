// SPDX-License-Identifier: Apache-2.0
//! Has CAs asked when they want certificates renewed: one job for each issuer with looks that are due, whatever their number.
//! A worker does the looking; what it does not come to is due at the next look here.

use std::time::Duration;

use cap_core::duty;
use cap_core::job::JobDraft;
use cap_store::Planned;

use super::Duties;

pub(super) const NAME: &str = "renewal-info";
/// The wait between two looks: half of the shortest between two looks at one certificate.
pub(super) const LOOK: Duration = Duration::from_secs(30);
/// Issuers of one page.
const PAGE: u32 = 200;
/// Pages of one look at most.
const PAGES: u32 = 100;

pub(super) async fn look(duties: &Duties<'_>) -> anyhow::Result<()> {
    let mut after: Option<String> = None;
    for _ in 0..PAGES {
        let now = duties.clock.now();
        let (issuers, last) = duties.store.issuers_to_ask(now, after.as_deref(), PAGE).await?;
        for candidate in &issuers {
            let Some(work) = duty::renewal_look(candidate, now) else { continue };
            if !duties.mandate.holds() {
                return Ok(());
            }
            // Its writes need no fence: they are made only while what they saw is there.
            let job = JobDraft::now(candidate.project, work, 0, duties.clock, duties.entropy);
            if duties.store.plan_renewal_look(&job, duties.epoch).await? == Planned::Queued {
                tracing::debug!(issuer = %candidate.issuer, job = %job.id, "looks at renewal information were queued");
            }
        }
        if last.is_none() {
            break;
        }
        after = last;
    }
    Ok(())
}
