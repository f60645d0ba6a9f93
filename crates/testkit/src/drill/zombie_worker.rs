// SPDX-License-Identifier: Apache-2.0
//! Workers are stopped in mid-issuance until their leases are over and a peer has finished; then they go on. Nothing tells
//! them that they slept.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use bson::{Document, doc};
use cap_core::fault::Mutant;
use serde_json::Value;

use super::victims::{MUTANT, STOP, Victims};
use super::world::PATIENCE;
use super::{Drill, Figures, Report, Run, checks};
use crate::process::{Signal, series};
use crate::wait::{self, Pending};

pub(super) const DRILL: Drill = Drill {
    name: "zombie-worker",
    injects: "a worker is stopped (SIGSTOP) in mid-issuance past its lease, a peer finishes, the worker goes on (SIGCONT)",
    must_hold: "every late write is refused, nothing changes, one certificate each; without the fence the drill fails",
    short: 10,
    soak: 300,
    any_ca: false,
    run: |run| Box::pin(drill(run)),
};

/// Where a zombie stops: right before each kind of write, which it makes as soon as it goes on; and around its acts.
const WRITES: [&str; 5] = [
    "open.before",
    "record-ordered.before",
    "record-challenged.before",
    "record-ready.before",
    "record-issued.before",
];
const ACTS: [&str; 5] =
    ["new-order.before", "authorizations.after", "submit.before", "finalize.before", "download.after"];
/// Zombies of one batch; the worker behind them is the peer.
const ZOMBIES: usize = 5;
const PEER: usize = ZOMBIES;
/// The lease in the tests: a batch stops within half of it.
const SHORT_LEASE: Duration = Duration::from_secs(12);
const REFUSED: &str = "certautopilot_fenced_writes_refused_total";

async fn drill(run: Run) -> anyhow::Result<Figures> {
    let victims = Victims::start(run, ZOMBIES + 1, SHORT_LEASE).await?;
    let mut drill = Zombies { victims, seen: Seen::default() };
    let points: Vec<&str> =
        WRITES.into_iter().chain(ACTS).cycle().take(usize::try_from(run.count)?).collect();
    let mut left = points.as_slice();
    while !left.is_empty() {
        let stopped = drill.batch(left).await?;
        left = &left[stopped..];
    }
    let mut figures = Figures::default();
    drill.seen.judge(&mut figures);
    drill.victims.rest().await?;
    checks::aftermath(&drill.victims.world, &Report::default(), &mut figures).await?;
    figures.none("no fence, and not noticed", usize::from(!drill.notices_a_missing_fence().await?));
    Ok(figures)
}

/// A worker that stands still.
struct Zombie {
    worker: usize,
    point: &'static str,
    name: String,
    certificate: String,
}

/// All that is written of one certificate.
type Written = (Value, Option<Document>, Value);

struct Zombies {
    victims: Victims,
    seen: Seen,
}

#[derive(Default)]
struct Seen {
    zombies: usize,
    before_a_write: usize,
    refused: usize,
    changed: usize,
    went_on: usize,
    bought_otherwise: usize,
}

impl Seen {
    fn judge(&self, figures: &mut Figures) {
        figures.count("zombies", self.zombies);
        figures.count("late writes refused", self.refused);
        figures.none("late writes not refused", self.before_a_write.saturating_sub(self.refused));
        figures.none("records that a zombie changed", self.changed);
        figures.none("zombies that took their job for done", self.went_on);
        figures.none("zombies whose certificate was not bought once", self.bought_otherwise);
    }
}

impl Zombies {
    /// As many zombies as fit into half a lease, and their peer; answers how many there were.
    async fn batch(&mut self, points: &[&'static str]) -> anyhow::Result<usize> {
        self.victims.kill_all()?;
        let (mut zombies, began) = (Vec::new(), Instant::now());
        for (worker, point) in points.iter().take(ZOMBIES).enumerate() {
            // One that begins later could take over the job of an earlier one.
            if began.elapsed() > self.victims.lease / 2 {
                break;
            }
            zombies.push(
                self.stop_at(worker, point, None).await.with_context(|| format!("stopping at {point}"))?,
            );
        }
        self.finish(&zombies).await?;
        for zombie in &zombies {
            self.wake(zombie).await.with_context(|| format!("after {}", zombie.point))?;
        }
        Ok(zombies.len())
    }

    async fn stop_at(
        &mut self,
        worker: usize,
        point: &'static str,
        without: Option<Mutant>,
    ) -> anyhow::Result<Zombie> {
        let mut told = vec![(STOP, point)];
        told.extend(without.map(|mutant| (MUTANT, mutant.name())));
        let hits = self.victims.begin(worker, &told)?;
        let number = self.seen.zombies;
        self.seen.zombies += 1;
        let name = format!("{}-{number}.example.test", point.replace('.', "-"));
        let certificate = self.victims.request(&name).await?;
        self.victims.wait_at(&hits, point).await?;
        Ok(Zombie { worker, point, name, certificate })
    }

    /// Has the peer finish what the zombies stand in the middle of.
    async fn finish(&mut self, zombies: &[Zombie]) -> anyhow::Result<()> {
        self.victims.begin(PEER, &[])?;
        for zombie in zombies {
            self.victims.valid(&zombie.name, PATIENCE).await?;
        }
        Ok(())
    }

    async fn wake(&mut self, zombie: &Zombie) -> anyhow::Result<()> {
        let before = self.written(&zombie.certificate).await?;
        let worker = &self.victims.world.stack.workers[zombie.worker];
        worker.signal(Signal::CONT)?;
        let lost = outcome("lost");
        let metrics = wait::until("the zombie to give up", PATIENCE, || async {
            let text = worker.metrics().await.map_err(Pending::not_yet)?;
            match (series(&text, &lost), series(&text, "certautopilot_jobs_running")) {
                (Some(given_up), Some(0.0)) if given_up > 0.0 => Ok(text),
                seen => Err(Pending::not_yet(format_args!("{seen:?}"))),
            }
        })
        .await?;
        if WRITES.contains(&zombie.point) {
            self.seen.before_a_write += 1;
            self.seen.refused += usize::from(series(&metrics, REFUSED) == Some(1.0));
        }
        self.seen.went_on += usize::from(series(&metrics, &outcome("succeeded")) != Some(0.0));
        self.seen.changed += usize::from(self.written(&zombie.certificate).await? != before);
        let counted = self.victims.counted(&zombie.name).await?;
        // Whoever stopped before its order was written down leaves it behind.
        let is_once = (counted.finalized, counted.certificates) == (1, 1) && counted.orders <= 2;
        self.seen.bought_otherwise += usize::from(!is_once);
        Ok(())
    }

    async fn written(&self, certificate: &str) -> anyhow::Result<Written> {
        let world = &self.victims.world;
        let record = world.record(certificate).await?;
        let order = world.collection("orders").find_one(doc! { "certificate": certificate }).await?;
        let versions = world.api()?.get(&world.path(&format!("certificates/{certificate}/versions"))).await?;
        Ok((record, order, versions))
    }

    /// Whether a zombie without the fence is noticed: it overwrites what its peer wrote.
    async fn notices_a_missing_fence(&mut self) -> anyhow::Result<bool> {
        const POINT: &str = "record-ordered.before";
        self.victims.kill_all()?;
        let zombie = self.stop_at(0, POINT, Some(Mutant::NoFence)).await?;
        self.finish(std::slice::from_ref(&zombie)).await?;
        let before = self.written(&zombie.certificate).await?;
        self.victims.world.stack.workers[zombie.worker].signal(Signal::CONT)?;
        let changed = wait::until("the zombie to overwrite its peer's order", self.victims.lease, || async {
            let now = self.written(&zombie.certificate).await.map_err(Pending::not_yet)?;
            if now == before { Err(Pending::not_yet("it is as the peer left it")) } else { Ok(()) }
        });
        Ok(changed.await.is_ok())
    }
}

fn outcome(word: &str) -> String {
    format!("certautopilot_jobs_total{{kind=\"issue\",outcome=\"{word}\"}}")
}
