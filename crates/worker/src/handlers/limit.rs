// SPDX-License-Identifier: Apache-2.0
//! Rate limits that another job met: nothing that the CA is known to refuse is sent to it.

use std::time::Duration;

use cap_core::clock::later;
use cap_core::entropy;
use cap_core::id::IssuerId;
use cap_core::job::{Claim, Settlement};
use cap_core::order::Bucket;
use cap_core::problem::Problem;
use cap_store::StoreError;
use jiff::Timestamp;

use super::World;

/// Those that waited for a limit come back one after the other: over this part of the time that is left.
const SPREAD_DIVISOR: u32 = 10;
/// And over no longer than this.
const SPREAD_MAX: Duration = Duration::from_secs(60);

impl World {
    /// How a run ends that would meet a limit which is kept; nothing when there is none, or none that `goes_past`, which is told
    /// until when it is kept, holds up.
    pub(super) async fn parked(
        &self,
        claim: &Claim,
        issuer: IssuerId,
        buckets: &[Bucket],
        goes_past: impl Fn(Timestamp) -> bool,
    ) -> Result<Option<Settlement>, StoreError> {
        let Some(parked) = self.store.parked(issuer, buckets).await? else { return Ok(None) };
        let until = later(self.clock.now(), parked.left);
        if goes_past(until) {
            return Ok(None);
        }
        let detail = format!(
            "the CA's rate limit is kept until {until}, also when somebody asks for a renewal: {}",
            parked.problem.detail
        );
        let problem = Some(Problem::new(parked.problem.class, &parked.problem.kind, detail));
        let spread = (parked.left / SPREAD_DIVISOR).min(SPREAD_MAX);
        let after = parked.left + entropy::between(self.entropy.as_ref(), Duration::ZERO, spread);
        tracing::debug!(job = %claim.job, ?after, "a rate limit is kept");
        Ok(Some(Settlement::after(after, problem)))
    }
}
