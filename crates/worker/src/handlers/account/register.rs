// SPDX-License-Identifier: Apache-2.0
//! Registers an account, or finds it, and tells the CA its contacts; one whose URL is known is told them there. Its key was stored when the
//! issuer was made, so asking twice finds the same account. A rate limit that was met is kept by all, so nobody asks for the account before its time.

use std::sync::Arc;

use cap_core::clock::until;
use cap_core::entropy::Entropy;
use cap_core::envelope::{KeyringError, Slot};
use cap_core::id::IssuerId;
use cap_core::issuer::ExternalAccount;
use cap_core::job::Claim;
use cap_core::limits;
use cap_core::order::{Bucket, CaError, Outcome, Park, deferred};
use cap_core::problem::{Class, Problem};
use jiff::Timestamp;

use super::{Run, Step};

impl Run<'_> {
    pub(super) async fn register(&self) -> Step {
        let known_url = self.issuer.known_url();
        if known_url.is_none() {
            let kept = self.world.parked(self.claim, self.issuer.id, &[Bucket::Account], |_| false).await?;
            if let Some(settlement) = kept {
                return Ok(Some(Outcome::Settle(settlement)));
            }
        }
        if let Some(known) = self.known_by_next_key().await? {
            return known;
        }
        let mut request = self.world.ca_request(&self.issuer).await?;
        // One that is known is not registered: a CA that has forgotten it would make another.
        if let Some(url) = known_url {
            return match self.world.ca.tell_contacts(&request, url).await {
                Ok(()) => self.ready(url.to_owned()).await,
                Err(error) => self.failed(error).await,
            };
        }
        request.external = self.external().await?;
        match self.world.ca.register(&request).await {
            Ok(url) => self.ready(url).await,
            Err(CaError::Later { problem, at }) if problem.class == Class::RateLimited => {
                let (now, entropy) = (self.world.clock.now(), self.world.entropy.as_ref());
                Ok(Some(limited(problem, at, self.claim, self.issuer.id, now, entropy)))
            }
            Err(error) => self.failed(error).await,
        }
    }

    /// What the registration is bound to, its key opened.
    async fn external(&self) -> Result<Option<ExternalAccount>, KeyringError> {
        let Some(external) = &self.issuer.external else { return Ok(None) };
        let slot = Slot::eab_hmac_key(self.issuer.project, self.issuer.id);
        let hmac_key = self.world.keyring.open(&slot, &external.hmac_key).await?;
        Ok(Some(ExternalAccount { kid: external.kid.clone(), hmac_key: Arc::new(hmac_key) }))
    }
}

/// What a limit on registrations means for the job, and for all that would ask for the account.
fn limited(
    problem: Problem,
    at: Timestamp,
    claim: &Claim,
    issuer: IssuerId,
    now: Timestamp,
    entropy: &dyn Entropy,
) -> Outcome {
    let settlement = deferred(claim.setbacks, problem.clone(), at, now, entropy);
    let time = until(now, at).min(limits::RATE_LIMIT_MAX);
    if time.is_zero() {
        return Outcome::Settle(settlement);
    }
    let park = Park { issuer, bucket: Bucket::Account, time, own: None, problem };
    Outcome::Parked(settlement, Box::new(park))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cap_core::clock::{Clock, later};
    use cap_runtime::clock::SystemClock;
    use cap_runtime::entropy::OsEntropy;

    use super::super::tests::claim;
    use super::*;

    #[test]
    fn a_limit_on_accounts_is_kept() {
        let (claim, now) = (claim(), SystemClock.now());
        let issuer = IssuerId::generate(&SystemClock, &OsEntropy);
        let hour = Duration::from_secs(3_600);
        let after = |wait| {
            let problem = Problem::new(Class::RateLimited, "rateLimited", "too many registrations");
            limited(problem, later(now, wait), &claim, issuer, now, &OsEntropy)
        };
        let Outcome::Parked(_, park) = after(hour) else { panic!("{:?}", after(hour)) };
        assert_eq!((park.issuer, park.bucket, park.time), (issuer, Bucket::Account, hour));
        assert!(matches!(after(Duration::ZERO), Outcome::Settle(_)), "it has no time");
    }
}
