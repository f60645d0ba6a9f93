// SPDX-License-Identifier: Apache-2.0
//! The CA refuses good nonces, a twentieth of them and a fifth: whoever tries three times and gives up loses 2 of 1,000
//! issuances at the first rate.

use std::time::{Duration, Instant};

use bson::doc;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{Drill, Figures, Form, Report, Run, World, checks};
use crate::ca::{Fault, FaultRule};
use crate::wait::{self, Pending};

pub(super) const DRILL: Drill = Drill {
    name: "bad-nonces",
    injects: "of all good nonces 5 % are refused (badNonce), then 20 %, while so many certificates are issued at each rate",
    must_hold: "every certificate is issued, none twice, and no attempt counts as failed",
    short: 60,
    soak: 1_000,
    any_ca: true,
    run: |run| Box::pin(drill(run)),
};

/// How many good nonces of a hundred are refused.
const PERCENT: [u8; 2] = [5, 20];
/// Requests for certificates that are under way at once.
const POSTS: usize = 8;
/// How long one certificate may take at most, on top of what all of them may.
const ISSUED_WITHIN: Duration = Duration::from_secs(300);
const EACH: Duration = Duration::from_millis(500);
const SEED: u64 = 555;

async fn drill(run: Run) -> anyhow::Result<Figures> {
    let mut options = run.form.options();
    // Nothing happens to the database here.
    options.shared_mongo = run.form == Form::Short;
    let world = World::start(run, options).await?;
    let mut figures = Figures::default();
    let (mut refused, mut calm) = (0, 0);
    for percent in PERCENT {
        let rule = FaultRule::always(Fault::BadNonce).likely(f64::from(percent) / 100.0, SEED);
        world.stack.ca().inject(&rule).await?;
        let took = issue(&world, percent).await?;
        world.stack.ca().heal().await?;
        figures.time(&format!("{} certificates at {percent} %", run.count), took);
        let before = refused;
        refused = world.stack.ca().counts().await?.faults.get("bad-nonce").copied().unwrap_or_default();
        figures.count(&format!("good nonces refused at {percent} %"), usize::try_from(refused - before)?);
        calm += usize::from(refused == before);
    }
    figures.none("rates without a refusal", calm);
    let failed = doc! { "action": "certificate.attempt_failed" };
    let failed = world.collection("audit_outbox").count_documents(failed).await?;
    figures.none("attempts that failed", usize::try_from(failed)?);
    checks::aftermath(&world, &Report::default(), &mut figures).await?;
    Ok(figures)
}

/// Issues as many certificates as the run says; answers how long that took.
async fn issue(world: &World, percent: u8) -> anyhow::Result<Duration> {
    let (api, began) = (world.api()?, Instant::now());
    let names: Vec<String> =
        (0..world.run.count).map(|n| format!("refused-{percent}-{n}.example.test")).collect();
    let asked = names.iter().map(|name| async { world.demo.request(&api, &[name]).await });
    let asked: Vec<String> = stream::iter(asked).buffered(POSTS).try_collect().await?;
    let versions = world.collection("certificate_versions");
    let mine = doc! { "certificate": { "$in": &asked } };
    let limit = ISSUED_WITHIN + EACH * world.run.count;
    wait::until("every certificate to be issued", limit, || async {
        let done = versions.count_documents(mine.clone()).await.map_err(Pending::not_yet)?;
        if usize::try_from(done).is_ok_and(|done| done == asked.len()) {
            return Ok(());
        }
        Err(Pending::not_yet(format_args!("{done} of {}", asked.len())))
    })
    .await?;
    Ok(began.elapsed())
}
