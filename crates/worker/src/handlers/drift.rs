// SPDX-License-Identifier: Apache-2.0
//! Looks at what a certificate's names serve, and writes down what was seen.

use std::time::Duration;

use cap_core::drift::{self, DriftSettings, Sighting};
use cap_core::entropy;
use cap_core::id::CertificateId;
use cap_core::job::{Claim, Mandate, Settlement};
use cap_core::limits;
use cap_core::order::Outcome;
use cap_store::{CertificateRecord, DriftFound, DriftSeen, StoreError, VersionRecord};
use futures_util::{StreamExt, stream};

use super::{Trouble, World};

/// The part of the interval by which the next scan is sooner or later: certificates that were enrolled together drift apart.
const JITTER_DIVISOR: u32 = 20;

pub(super) async fn run(
    world: &World,
    claim: &Claim,
    mandate: &Mandate,
    certificate: CertificateId,
) -> Result<Outcome, Trouble> {
    let superseded = Ok(Outcome::Settle(Settlement::Superseded));
    // As they are now: what was turned off meanwhile is not connected to.
    let project = match world.store.project(&claim.project.to_string()).await {
        Err(error @ StoreError::Corrupt { .. }) => {
            // The next scan is planned after the usual time: nothing is gained by trying this one again.
            tracing::error!(project = %claim.project, %error, "what a certificate's names serve is not looked at");
            return superseded;
        }
        project => project?,
    };
    let Some(on) = project.and_then(|project| project.drift).filter(|drift| drift.settings().enabled) else {
        return superseded;
    };
    let Some(certificate) = world.store.certificate(claim.project, certificate).await? else {
        return superseded;
    };
    let Some(version) = &certificate.version else { return superseded };
    let settings = on.settings();
    let names = tokio::select! {
        names = scan(world, &certificate, version, &settings) => names,
        outcome = world.ended(mandate) => return Ok(outcome),
    };
    if is_meant_otherwise(world, claim, &certificate, on.generation).await? {
        // Whoever asked for a scan of the other place was answered with this job: it goes there, no sooner than another would.
        return Ok(Outcome::Settle(Settlement::Again {
            after: limits::DRIFT_SCAN_AGAIN,
            problem: None,
            setbacks: None,
        }));
    }
    let found = DriftFound {
        certificate: certificate.id,
        state: drift::state(&names),
        seen: DriftSeen { version: version.id, scanned_at: world.clock.now(), names },
        target: certificate.drift.target.clone(),
        generation: on.generation,
        next: next(world, settings.interval),
    };
    tracing::info!(certificate = %certificate.id, state = found.state.as_str(), "what its names serve was looked at");
    world.persisted(mandate, || world.store.record_drift(claim, &found)).await?;
    Ok(Outcome::Stored)
}

/// Whether the certificate is looked for elsewhere, or under other settings, than when the scan began. Another version is no reason: a
/// server has a while to load it.
async fn is_meant_otherwise(
    world: &World,
    claim: &Claim,
    scanned: &CertificateRecord,
    generation: i64,
) -> Result<bool, StoreError> {
    let Some(now) = world.store.certificate(claim.project, scanned.id).await? else { return Ok(false) };
    let project = world.store.project(&claim.project.to_string()).await?;
    let on = project.and_then(|project| project.drift).filter(|drift| drift.settings().enabled);
    Ok(now.drift.target != scanned.drift.target || on.is_some_and(|on| on.generation != generation))
}

/// What every name shows, in the order of the names.
async fn scan(
    world: &World,
    certificate: &CertificateRecord,
    version: &VersionRecord,
    settings: &DriftSettings,
) -> Vec<Sighting> {
    let names = certificate.spec.names.identifiers();
    let looks = drift::looks(names, certificate.drift.target.as_ref(), settings.port);
    let sightings = looks.map(|look| async {
        match look {
            Ok(look) => drift::judge(&look, &world.lookout.look(&look).await, &version.fingerprint_sha256),
            Err(left_out) => *left_out,
        }
    });
    stream::iter(sightings).buffered(limits::DRIFT_LOOKS).collect().await
}

fn next(world: &World, interval: Duration) -> Duration {
    let jitter = interval / JITTER_DIVISOR;
    interval - jitter + entropy::between(world.entropy.as_ref(), Duration::ZERO, jitter * 2)
}
