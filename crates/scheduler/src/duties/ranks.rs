// SPDX-License-Identifier: Apache-2.0
//! Ranks jobs anew that have waited until what they renew came near its end.

use std::time::Duration;

use super::{Duties, pages};

pub(super) const NAME: &str = "ranks";
/// The wait between two looks: of the hours that a rank stands for, it takes nothing.
pub(super) const LOOK: Duration = Duration::from_secs(30);
/// Jobs of one page.
const PAGE: u32 = 500;

pub(super) async fn look(duties: &Duties<'_>) -> anyhow::Result<()> {
    pages(duties, PAGE, async || duties.store.age_ranks(duties.clock.now(), PAGE, duties.epoch).await).await
}
