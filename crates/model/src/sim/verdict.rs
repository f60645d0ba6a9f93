// SPDX-License-Identifier: Apache-2.0
//! What must hold when a seed is over.

use std::collections::HashMap;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use cap_core::clock::later;
use cap_core::envelope::Slot;
use cap_core::id::{CertificateId, VersionId};
use cap_core::limits;
use secrecy::ExposeSecret;

use super::ca::number_of;
use super::keys::{Keys, keyring};
use super::ledger::{Certificate, Row, Version};
use super::luck::Dice;
use super::worker::Cluster;
use super::world::{Hands, Inner};

/// Writes that one issuance may cost, its claim among them.
const WRITES: u32 = 7;

/// How long past its expiry an order is watched at least: the hour that the engine allows for clocks that differ, less what
/// they differ by.
const WATCHED: Duration = Duration::from_secs(1_800);

/// What is counted while a seed runs.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Keys made, and for what.
    pub(super) keys: HashMap<usize, (CertificateId, Option<VersionId>)>,
    /// Those of them that nothing was begun with.
    pub(super) spare: Vec<usize>,
    /// Orders that the CA issued for, with the key, those for another key apart.
    pub(super) issued: Vec<(usize, usize)>,
    pub(super) wrong: u32,
    /// New orders at the CA.
    pub(super) placed: u32,
    /// newOrder requests that nobody heard the answer to.
    pub(super) lost_orders: u32,
    /// Runs that ended because the claim was over.
    pub(super) lost_runs: u32,
    /// Signing requests that arrived.
    pub(super) finalizes: u32,
    /// Challenges that the CA was told of before they were answered.
    pub(super) unanswered: u32,
    /// Orders that were given up because the CA left them open.
    pub(super) withdrawn: u32,
    pub(super) crashes: u32,
    pub(super) pauses: u32,
    pub(super) polls: u32,
}

/// Everything that does not hold.
pub(super) fn judge(cluster: &Cluster) -> Vec<String> {
    let mut wrong = Vec::new();
    let inner = cluster.world.inner();
    wrong.extend(bought_twice(&inner));
    wrong.extend(left_behind(&inner));
    wrong.extend(costs(&inner));
    if inner.tally.unanswered > 0 {
        wrong.push(format!(
            "{} challenges were submitted before their answers were stored",
            inner.tally.unanswered
        ));
    }
    // Each claim sends it once at most, however the CA answers.
    if inner.tally.finalizes > inner.database.claims {
        wrong.push(format!("{} signing requests in {} claims", inner.tally.finalizes, inner.database.claims));
    }
    for certificate in &inner.database.certificates {
        wrong.extend(unfinished(&inner, certificate));
        wrong.extend(history(&certificate.versions));
    }
    let versions: Vec<Version> =
        inner.database.certificates.iter().flat_map(|certificate| certificate.versions.clone()).collect();
    drop(inner);
    wrong.extend(versions.iter().filter_map(|version| mismatch(cluster, version)));
    wrong
}

/// More than one certificate for the same version, where the CA did what it was asked.
fn bought_twice(inner: &Inner) -> Vec<String> {
    let mut bought: HashMap<(CertificateId, Option<VersionId>), Vec<usize>> = HashMap::new();
    for (order, key) in inner.tally.issued.iter().filter(|(order, _)| !is_excused(inner, *order)) {
        let Some((certificate, made_for)) = inner.tally.keys.get(key) else {
            return vec![format!("the CA issued for a key that nobody made, order {order}")];
        };
        bought.entry((*certificate, *made_for)).or_default().push(*order);
    }
    let twice = bought.iter().filter(|(_, orders)| orders.len() > 1);
    twice
        .map(|((certificate, made_for), orders)| {
            format!("{certificate} was bought {} times behind {made_for:?}: orders {orders:?}", orders.len())
        })
        .collect()
}

/// Whether an order that was issued may have been given up: it had expired for so long, and until then the CA did not say
/// what had become of it.
fn is_excused(inner: &Inner, number: usize) -> bool {
    let over_at = inner.ca.orders[number].expires + WATCHED;
    inner.database.orders.iter().any(|row| {
        let is_it = row.order.state.placed().is_some_and(|placed| number_of(&placed.url) == Some(number));
        is_it && row.failed_at.is_some_and(|at| at >= over_at)
    })
}

/// More orders at the CA that no record names than were lost on the way.
fn left_behind(inner: &Inner) -> Option<String> {
    let known: std::collections::HashSet<&str> = inner
        .database
        .orders
        .iter()
        .filter_map(|row| row.order.state.placed())
        .map(|placed| placed.url.as_str())
        .collect();
    let known = u32::try_from(known.len()).unwrap_or(u32::MAX);
    let left = inner.tally.placed.saturating_sub(known);
    let tally = &inner.tally;
    let may = tally.crashes + tally.lost_orders + tally.lost_runs;
    (left > may).then(|| format!("{left} orders were left behind at the CA, and only {may} may be"))
}

/// What an issuance costs in writes.
fn costs(inner: &Inner) -> Option<String> {
    let facts = |row: &Row| row.writes;
    let most = inner.database.orders.iter().map(facts).max().unwrap_or(0);
    // Begun, three steps, ended: the claim is written apart, and may be written again.
    if most > WRITES - 2 {
        return Some(format!("{most} facts were written of one order"));
    }
    let issued = u32::try_from(inner.tally.issued.len()).unwrap_or(u32::MAX);
    let writes = inner.database.orders.iter().map(facts).sum::<u32>() + inner.database.claims;
    (inner.plan.is_calm() && writes > issued * WRITES)
        .then(|| format!("{issued} issuances without a fault cost {writes} writes"))
}

/// A certificate that is neither stored as often as it should be nor failing for a reason that is said, with a next
/// attempt.
fn unfinished(inner: &Inner, certificate: &Certificate) -> Option<String> {
    let stored = i64::try_from(certificate.versions.len()).unwrap_or(i64::MAX);
    if stored == inner.plan.versions {
        return None;
    }
    if stored > inner.plan.versions {
        return Some(format!("{} has {stored} versions", certificate.id));
    }
    if !inner.plan.ca.holds_a_grudge {
        return Some(format!("{} is not done: {stored} versions, {:?}", certificate.id, certificate.problem));
    }
    let soon = later(inner.time(), limits::DEAD_WAIT * 2);
    let is_said = certificate.problem.is_some() && certificate.next_attempt_at.is_some_and(|at| at < soon);
    let has_job = inner.database.jobs.iter().any(|job| job.claim_at.is_some());
    (!is_said || !has_job)
        .then(|| format!("{} fails and nobody is told why, or nobody tries again", certificate.id))
}

/// Versions that do not follow each other.
fn history(versions: &[Version]) -> Option<String> {
    let mut before = None;
    for (index, version) in versions.iter().enumerate() {
        let number = i64::try_from(index).unwrap_or(i64::MAX) + 1;
        if version.made_for != before || version.version.number != number {
            return Some(format!("version {number} does not follow the one before it"));
        }
        before = Some(version.version.id);
    }
    None
}

/// A version whose key is not the one that its certificate is for.
fn mismatch(cluster: &Cluster, version: &Version) -> Option<String> {
    let clock = Arc::new(Hands { world: cluster.world.clone(), process: 0, ahead_s: 0 });
    let keyring = keyring(cluster.id, cluster.wrapped.clone(), clock, Arc::new(Dice::new(0)));
    let (id, version) = (version.version.id, &version.version);
    let slot = Slot::version_key(cluster.world.inner().database.project, id);
    let opened = std::pin::pin!(keyring.open(&slot, &version.key));
    let opened = match opened.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(opened)) => opened,
        Poll::Ready(Err(error)) => return Some(format!("the key of {id} does not open: {error}")),
        Poll::Pending => return Some(format!("the key of {id} is waited for")),
    };
    let keys: &Keys = cluster.keys;
    let (of_key, of_chain) =
        (keys.of_bytes(opened.expose_secret()), keys.of_chain(&version.issued.chain_pem));
    (of_key.is_none() || of_key != of_chain).then(|| format!("the key of {id} is not its certificate's"))
}
