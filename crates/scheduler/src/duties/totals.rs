// SPDX-License-Identifier: Apache-2.0
//! Counts finished jobs into hourly totals; a job that is counted may go.

use std::time::Duration;

use cap_store::COUNT_PAGE;

use super::Duties;

pub(super) const NAME: &str = "totals";
/// The wait between two looks. Nobody is in a hurry: jobs that are not counted stay.
pub(super) const LOOK: Duration = Duration::from_secs(60);
/// Pages of one look at most: what a day of the busiest cluster leaves behind takes a few looks.
const PAGES: u32 = 2_000;

pub(super) async fn look(duties: &Duties<'_>) -> anyhow::Result<()> {
    for _ in 0..PAGES {
        if !duties.mandate.holds() {
            return Ok(());
        }
        let counted = duties.store.count_finished(duties.epoch).await?;
        duties.metrics.counted.inc_by(counted.into());
        if counted < COUNT_PAGE {
            break;
        }
    }
    Ok(())
}
