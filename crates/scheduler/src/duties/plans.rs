// SPDX-License-Identifier: Apache-2.0
//! Goes through all certificates, a page at a time, and mends what the planner's index says of each: processes of an earlier
//! build change certificates and know nothing of it.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use super::Duties;

pub(super) const NAME: &str = "plans";
/// The wait between two pages: a million certificates are gone through in a working day, and what is due has weeks.
pub(super) const LOOK: Duration = Duration::from_secs(30);
/// Certificates of one page.
const PAGE: u32 = 1_000;

/// How far a leader has come; it begins with its lead.
#[derive(Debug, Default)]
pub(super) struct Round(Mutex<Option<String>>);

pub(super) async fn look(duties: &Duties<'_>, round: &Round) -> anyhow::Result<()> {
    let place = || round.0.lock().unwrap_or_else(PoisonError::into_inner);
    let after = place().clone();
    let (last, mended) = duties.store.mend_plans(after.as_deref(), PAGE, duties.epoch).await?;
    if mended > 0 {
        tracing::info!(certificates = mended, "certificates were not where the planner looks, and are now");
    }
    *place() = last;
    Ok(())
}
