// SPDX-License-Identifier: Apache-2.0
//! Clocks of schedulers, workers and apis jump while renewals fall due and certificates are asked for.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bson::doc;
use serde_json::json;

use super::clocks::Clocks;
use super::leadership::{Lease, Watch, queued_otherwise, scheduler, settled};
use super::world::{PATIENCE, version_of};
use super::{Drill, Figures, Form, Load, Run, World, checks};
use crate::process::{Service, series};
use crate::stack::{ApiClient, Stack};
use crate::wait::{self, Pending};

pub(super) const DRILL: Drill = Drill {
    name: "clock",
    injects: "the clock of the leading scheduler, of all schedulers, of all workers, or of all apis jumps by 5 minutes or 2 \
              days, ahead or back, while renewals fall due",
    must_hold: "no two schedulers lead; nothing is renewed before it is due, by a wrong clock, or not at all; tokens are good \
                and end by the right time",
    short: 8,
    soak: 100,
    any_ca: false,
    run: |run| Box::pin(drill(run)),
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    Leader,
    Schedulers,
    Workers,
    Apis,
}

const FIVE_MINUTES_S: i64 = 5 * 60;
const TWO_DAYS_S: i64 = 2 * 24 * 3_600;
/// Every combination; the first eight have each clock twice, and each jump.
const JUMPS: [(Whose, i64); 16] = [
    (Whose::Leader, FIVE_MINUTES_S),
    (Whose::Workers, -TWO_DAYS_S),
    (Whose::Schedulers, TWO_DAYS_S),
    (Whose::Apis, -TWO_DAYS_S),
    (Whose::Leader, -FIVE_MINUTES_S),
    (Whose::Workers, TWO_DAYS_S),
    (Whose::Schedulers, -TWO_DAYS_S),
    (Whose::Apis, TWO_DAYS_S),
    (Whose::Leader, TWO_DAYS_S),
    (Whose::Workers, FIVE_MINUTES_S),
    (Whose::Schedulers, -FIVE_MINUTES_S),
    (Whose::Apis, FIVE_MINUTES_S),
    (Whose::Leader, -TWO_DAYS_S),
    (Whose::Workers, -FIVE_MINUTES_S),
    (Whose::Schedulers, FIVE_MINUTES_S),
    (Whose::Apis, -FIVE_MINUTES_S),
];
/// Certificates that fall due in each round.
const WATCHED: usize = 3;
/// How often the lease changes hands among those who may not lead, before the clocks are right again.
const TURNS: i64 = 3;
/// Later than any drill ends.
const IN_MONTHS_MS: i64 = 60 * 24 * 3_600 * 1_000;
/// From the time that a renewal is due, and may be planned, until it is stored.
const RENEWED_WITHIN: Duration = Duration::from_secs(60);
const PLANNED: &str = "certautopilot_renewals_planned_total";

struct Watched {
    /// They fall due in each round.
    due: Vec<String>,
    /// They fall due by the clocks that jump ahead, and by no other.
    later: Vec<String>,
}

#[derive(Default)]
struct Seen {
    longest: Duration,
    early: usize,
    by_a_wrong_clock: f64,
    tokens_misjudged: usize,
}

async fn drill(run: Run) -> anyhow::Result<Figures> {
    let mut options = run.form.options();
    options.schedulers = 3;
    // Nothing happens to the database here.
    options.shared_mongo = run.form == Form::Short;
    let mut world = World::start(run, options).await?;
    let clocks = Clocks::create().await?;
    let Stack { schedulers, workers, apis, .. } = &mut world.stack;
    for service in schedulers.iter_mut().chain(workers).chain(apis) {
        clocks.give(service)?;
    }
    for service in world.services() {
        service.wait_ready(PATIENCE).await?;
    }
    let names = |word: &str| (0..WATCHED).map(|n| format!("{word}-{n}.example.test")).collect::<Vec<_>>();
    let watched =
        Watched { due: world.issued(&names("due")).await?, later: world.issued(&names("later")).await? };
    let (watch, load) = (Watch::start(&world)?, Load::start(&world, 1)?);
    let mut seen = Seen::default();
    for (round, jump) in (1..=run.count).zip(JUMPS.into_iter().cycle()) {
        let done = jumped(&world, &clocks, &watched, i64::from(round), jump, &mut seen).await;
        done.with_context(|| format!("round {round}, {jump:?}"))?;
    }
    let report = load.stop().await?;
    let (looks, doubled) = watch.end();
    ensure!(looks > 0, "nobody ever looked who leads");
    let mut figures = Figures::default();
    let rounds = usize::try_from(run.count)?;
    figures.count("looks at who leads", looks);
    figures.none("two leaders at once", doubled);
    figures.count("renewals that fell due", rounds * WATCHED);
    figures.at_most("renewed after (longest)", seen.longest, RENEWED_WITHIN);
    figures.none("renewals before they were due", seen.early);
    figures.add("renewals planned by a wrong clock", seen.by_a_wrong_clock, "", Some(0.0));
    figures.none("tokens misjudged by an api whose clock is wrong", seen.tokens_misjudged);
    let otherwise = queued_otherwise(&world, &watched.due, rounds).await?;
    figures.none("renewals not queued once", otherwise + queued_otherwise(&world, &watched.later, 0).await?);
    checks::aftermath(&world, &report, &mut figures).await?;
    Ok(figures)
}

/// One round: clocks jump, certificates fall due, clocks are right again.
async fn jumped(
    world: &World,
    clocks: &Clocks,
    watched: &Watched,
    round: i64,
    (whose, ahead_s): (Whose, i64),
    seen: &mut Seen,
) -> anyhow::Result<()> {
    let began = Instant::now();
    let first = settled(world).await?;
    // Half the jump ahead: due by the wrong clock, and not by the right one before the round is over.
    let later = Duration::from_secs(ahead_s.unsigned_abs() / 2);
    world.make_due(&watched.later, i64::try_from(later.as_millis())?).await?;
    let names: Vec<&str> = match whose {
        Whose::Leader => vec![first.holder.as_str()],
        Whose::Schedulers => world.stack.schedulers.iter().map(Service::name).collect(),
        Whose::Workers => world.stack.workers.iter().map(Service::name).collect(),
        Whose::Apis => world.stack.apis.iter().map(Service::name).collect(),
    };
    let are_schedulers = matches!(whose, Whose::Leader | Whose::Schedulers);
    let before = if are_schedulers { planned(world, &names).await? } else { 0.0 };
    names.iter().try_for_each(|name| clocks.turn(name, ahead_s))?;
    if are_schedulers {
        wait_left(world, &first).await?;
    }
    world.make_due(&watched.due, 0).await?;
    let mut due_at = Instant::now();
    if whose == Whose::Schedulers {
        let turns = first.epoch + TURNS;
        wait_epoch(world, turns).await?;
        seen.early += renewed(world, &watched.due, round).await?;
        seen.by_a_wrong_clock += planned(world, &names).await? - before;
        names.iter().try_for_each(|name| clocks.turn(name, 0))?;
        due_at = Instant::now();
    }
    world.wait_version(&watched.due, round + 1, PATIENCE).await?;
    seen.longest = seen.longest.max(due_at.elapsed());
    if whose == Whose::Leader {
        seen.by_a_wrong_clock += planned(world, &names).await? - before;
    }
    if whose == Whose::Apis {
        seen.tokens_misjudged += tokens_misjudged(world, ahead_s / 2).await?;
    }
    names.iter().try_for_each(|name| clocks.turn(name, 0))?;
    seen.early += renewed(world, &watched.later, 1).await?;
    ensure!(began.elapsed() < later, "the round took {:?}: it shows nothing", began.elapsed());
    world.make_due(&watched.later, IN_MONTHS_MS).await
}

/// How often an api does not take a token that has so many seconds left, or takes one that ended so many seconds ago.
async fn tokens_misjudged(world: &World, seconds: i64) -> anyhow::Result<usize> {
    let made = json!({ "name": "ends-soon", "role": "viewer", "expires_in": "1h" });
    let made = world.api()?.post("/api/v1/tokens", &made).await?;
    let token = made["token"].as_str().context("no token was made")?;
    let id = made["id"].as_str().context("the token has no id")?;
    let mut misjudged = 0;
    for (left, right) in [(seconds.abs(), 200), (-seconds.abs(), 401)] {
        let end = doc! { "$dateAdd": { "startDate": "$$NOW", "unit": "second", "amount": left } };
        let set = vec![doc! { "$set": { "expires_at": end } }];
        world.collection("tokens").update_one(doc! { "_id": id }, set).await?;
        for index in 0..world.stack.apis.len() {
            let api = ApiClient::new(world.stack.api_url(index)?, token)?;
            let answer = api.call("GET", "/api/v1/projects", None, None).await?;
            misjudged += usize::from(answer.status != right);
        }
    }
    Ok(misjudged)
}

/// Waits until the lease is no longer that of the leader whose clock jumped.
async fn wait_left(world: &World, first: &Lease) -> anyhow::Result<()> {
    wait_epoch(world, first.epoch + 1).await
}

async fn wait_epoch(world: &World, epoch: i64) -> anyhow::Result<()> {
    wait::until(&format!("epoch {epoch} of the lease"), PATIENCE, || async {
        let now = Lease::read(world).await.map_err(Pending::not_yet)?;
        if now.epoch >= epoch { Ok(()) } else { Err(Pending::not_yet(format_args!("{now:?}"))) }
    })
    .await
}

/// How many renewals these schedulers queued so far.
async fn planned(world: &World, names: &[&str]) -> anyhow::Result<f64> {
    let mut sum = 0.0;
    for name in names {
        let scheduler = scheduler(world, name)?;
        sum += wait::until(&format!("{PLANNED} of {name}"), PATIENCE, || async {
            let metrics = scheduler.metrics().await.map_err(Pending::not_yet)?;
            series(&metrics, PLANNED).ok_or_else(|| Pending::not_yet("not there"))
        })
        .await?;
    }
    Ok(sum)
}

/// How many of these have a later version than this.
async fn renewed(world: &World, certificates: &[String], version: i64) -> anyhow::Result<usize> {
    let mut count = 0;
    for certificate in certificates {
        count += usize::from(version_of(&world.record(certificate).await?) > version);
    }
    Ok(count)
}
