// SPDX-License-Identifier: Apache-2.0
//! The CA fails in eight ways at once, each of them for names of its own, while a load goes on beside.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use cap_core::fault::Mutant;
use serde_json::json;

use super::victims::MUTANT;
use super::world::{PATIENCE, version_of};
use super::{Drill, Figures, Form, Load, Run, World, checks};
use crate::ca::{Asked, Fault, FaultRule, Wrong};
use crate::wait::{self, Pending};

pub(super) const DRILL: Drill = Drill {
    name: "ca-faults",
    injects: "for names of its own each: rate limits, server errors, stalls of 30 s, resets after finalize, orders stuck in \
              processing, lost answers and shared orders, late failures, wrong certificates",
    must_hold: "every certificate is issued within 5 minutes, none twice, and no limit of a CA is exceeded; without the \
                watch on finalized orders the drill fails",
    short: 3,
    soak: 50,
    any_ca: false,
    run: |run| Box::pin(drill(run)),
};

/// What is promised of each certificate.
const ISSUED_WITHIN: Duration = Duration::from_secs(300);
/// Let's Encrypt's limit on certificates for one set of names, in 7 days; orders count as if each were one.
const ORDERS_OF_ONE_SET: usize = 5;
const STALL_MS: u64 = 30_000;
const RETRY_AFTER_S: u32 = 2;
/// Looks at an order that is stuck: for longer than a worker waits in place.
const LOOKS: u32 = 12;
/// The status of a certificate whose last attempt failed.
const FAILING: &str = "failing";
/// Names whose orders nobody watches.
const UNWATCHED: &str = "unwatched";

/// One of the eight: the beginning of its names, and what is injected for them.
struct Kind {
    names: &'static str,
    rules: Vec<FaultRule>,
}

fn kinds() -> Vec<Kind> {
    let each = |fault, at: &[Asked]| FaultRule::always(fault).at(at).times_each(1);
    let limit = |as_date| Fault::RateLimited { retry_after_s: RETRY_AFTER_S, as_date };
    let error = |status, acts| Fault::ServerError { status, acts };
    vec![
        Kind {
            names: "limited",
            rules: vec![each(limit(false), &[Asked::NewOrder]), each(limit(true), &[Asked::Finalize])],
        },
        Kind {
            names: "errors",
            rules: vec![
                each(error(500, false), &[Asked::NewOrder]),
                each(error(503, false), &[Asked::Challenge]),
                each(error(502, true), &[Asked::Finalize]),
                each(error(500, false), &[Asked::Certificate]),
            ],
        },
        Kind { names: "stalled", rules: vec![each(Fault::Stall { ms: STALL_MS }, &[Asked::Finalize])] },
        Kind { names: "reset", rules: reset() },
        Kind {
            names: "processing",
            rules: vec![each(Fault::Processing { looks: LOOKS }, &[Asked::Finalize])],
        },
        Kind {
            names: "shared",
            rules: vec![
                each(Fault::SharedOrder, &[Asked::NewOrder]),
                each(Fault::LostResponse, &[Asked::NewOrder]),
            ],
        },
        Kind { names: "late", rules: vec![each(Fault::LateFailure, &[Asked::Finalize])] },
        Kind {
            names: "wrong",
            rules: [Wrong::Key, Wrong::Names]
                .map(|wrong| each(Fault::WrongCertificate { wrong }, &[Asked::Certificate]))
                .to_vec(),
        },
    ]
}

/// The CA issues, the answer is lost, and a replica of it that lags refuses to be asked.
fn reset() -> Vec<FaultRule> {
    vec![
        FaultRule::always(Fault::Reset).at(&[Asked::Finalize]).times_each(1),
        FaultRule::always(Fault::Refused).times_each(1),
    ]
}

async fn drill(run: Run) -> anyhow::Result<Figures> {
    let mut options = run.form.options();
    // Nothing happens to the database here.
    options.shared_mongo = run.form == Form::Short;
    let mut world = World::start(run, options).await?;
    let kinds = kinds();
    for rule in kinds.iter().flat_map(|kind| kind.rules.iter().map(|rule| rule.clone().names(kind.names))) {
        world.stack.ca().inject(&rule).await?;
    }
    let load = Load::start(&world, 1)?;
    let mut asked = BTreeMap::new();
    for number in 0..run.count {
        for kind in &kinds {
            let name = format!("{}-{number}.example.test", kind.names);
            let certificate = world.demo.request(&world.api()?, &[&name]).await?;
            asked.insert(name, (certificate, Instant::now()));
        }
    }
    let mut longest: BTreeMap<&str, Duration> = BTreeMap::new();
    let mut asked_again = BTreeMap::new();
    for (name, (certificate, since)) in &asked {
        let again = issue(&world, certificate, *since).await.with_context(|| name.clone())?;
        asked_again.insert(name.as_str(), again);
        let kind =
            kinds.iter().map(|kind| kind.names).find(|kind| name.starts_with(kind)).unwrap_or_default();
        let took = longest.entry(kind).or_default();
        *took = (*took).max(since.elapsed());
    }
    let report = load.stop().await?;
    let mut figures = Figures::default();
    for (kind, took) in &longest {
        figures.at_most(&format!("{kind}: issued after (longest)"), *took, ISSUED_WITHIN);
    }
    judge_at_ca(&world, &kinds, &asked_again, &mut figures).await?;
    checks::aftermath(&world, &report, &mut figures).await?;
    figures.none("no watch, and not noticed", usize::from(!notices_a_missing_watch(&mut world).await?));
    Ok(figures)
}

/// Waits until the certificate is valid. A person who sees that an attempt failed asks for the next one at once; answers how
/// often.
async fn issue(world: &World, certificate: &str, since: Instant) -> anyhow::Result<u64> {
    let api = world.api()?;
    let path = world.path(&format!("certificates/{certificate}"));
    let limit = ISSUED_WITHIN.saturating_sub(since.elapsed());
    let asked = AtomicU64::new(0);
    let what = format!("{path} to be valid");
    let issued = wait::until(&what, limit, || async {
        let record = api.get(&path).await.map_err(Pending::not_yet)?;
        if version_of(&record) > 0 {
            return Ok(());
        }
        if record["status"] == FAILING {
            // Counted although the answer may be lost: it may have been heard.
            asked.fetch_add(1, Ordering::Relaxed);
            api.post(&format!("{path}/renew"), &json!({})).await.map_err(Pending::not_yet)?;
        }
        Err(Pending::not_yet(record))
    });
    issued.await?;
    Ok(asked.into_inner())
}

/// What the CA would have against us.
async fn judge_at_ca(
    world: &World,
    kinds: &[Kind],
    asked_again: &BTreeMap<&str, u64>,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let counts = world.stack.ca().counts().await?;
    for (kind, injected) in &counts.faults {
        figures.count(&format!("faults: {kind}"), usize::try_from(*injected)?);
    }
    let wanted = kinds.iter().flat_map(|kind| &kind.rules).map(|rule| rule.fault.kind());
    figures.none(
        "kinds that were never injected",
        wanted.filter(|kind| !counts.faults.contains_key(*kind)).count(),
    );
    let orders = counts.name_sets.values().map(|of| of.orders).max().unwrap_or_default();
    figures.count_at_most("orders for one set of names (most)", usize::try_from(orders)?, ORDERS_OF_ONE_SET);
    figures.none("orders placed before Retry-After was over", usize::try_from(counts.too_early)?);
    // Who asks again at the very moment at which the certificate becomes valid asks for its renewal, and gets one.
    let asked_for = |names: &str| 1 + asked_again.get(names).copied().unwrap_or(0);
    let doubled = counts.name_sets.iter().filter(|(names, of)| of.finalized > asked_for(names)).count();
    figures.none("sets of names bought more often than asked for", doubled);
    let shared = counts.name_sets.iter().filter(|(names, of)| names.starts_with("shared") && of.orders > 1);
    figures.none("second orders where the CA had one open", shared.count());
    Ok(())
}

/// Whether workers that do not watch finalized orders are noticed: they buy the certificate again.
async fn notices_a_missing_watch(world: &mut World) -> anyhow::Result<bool> {
    world.stack.ca().heal().await?;
    for rule in reset() {
        world.stack.ca().inject(&rule.names(UNWATCHED)).await?;
    }
    for worker in &mut world.stack.workers {
        worker.set_env(MUTANT, Mutant::NoWatch.name());
        worker.restart()?;
        worker.wait_ready(PATIENCE).await?;
    }
    let name = format!("{UNWATCHED}.example.test");
    let certificate = world.demo.request(&world.api()?, &[&name]).await?;
    issue(world, &certificate, Instant::now()).await?;
    Ok(world.stack.ca().counts().await?.of(&[&name]).finalized > 1)
}
