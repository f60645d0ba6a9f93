// SPDX-License-Identifier: Apache-2.0
//! A worker dies at each failpoint of an issuance, and a peer finishes. A batch of them dies before the peer comes: the
//! leases of all run out at once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use cap_core::fault::{Mutant, POINTS};

use super::victims::{KILL, MUTANT, PEER, VICTIM, Victims};
use super::world::PATIENCE;
use super::{Drill, Figures, Report, Run, checks};

pub(super) const DRILL: Drill = Drill {
    name: "failpoints",
    injects: "a worker dies at each failpoint of issuance, before and after each act and each commit, and a peer goes on",
    must_hold: "every point is hit; one certificate each; one order each, and one more where the CA made the order and \
                nobody wrote down where it is; without the key stored before the order the drill fails",
    short: 1,
    soak: 20,
    any_ca: false,
    run: |run| Box::pin(drill(run)),
};

/// The victim and its peer.
const WORKERS: usize = 2;
/// The lease in the tests: a batch dies within [`BATCH_PART`] of it.
const SHORT_LEASE: Duration = Duration::from_secs(30);
/// After this part of a lease no more victims are made, lest one takes over what an earlier one left.
const BATCH_PART: (u32, u32) = (3, 4);
/// Who dies here leaves a job that is due at once, or is about to be: a peer comes before the next victim does.
const DUE_AT_ONCE: [&str; 1] = ["claim.before"];
/// Between these the CA has made the order and nobody has written down where it is: whoever resumes places another.
const UNKNOWN_ORDER: [&str; 2] = ["new-order.after", "record-ordered.before"];
/// Here that is being written down: whoever resumes finds it, or places another.
const PERHAPS_UNKNOWN: [&str; 2] = ["authorizations.before", "authorizations.after"];
/// Where a key that is not stored is missed: the CA has it, and nobody else.
const KEY_IS_MISSED: &str = "finalize.after";
/// What a certificate says whose CA has issued for another key.
const WRONG_KEY: &str = "wrong-certificate";
const MUTANT_LEASE: &str = "5s";

async fn drill(run: Run) -> anyhow::Result<Figures> {
    let victims = Victims::start(run, WORKERS, SHORT_LEASE).await?;
    let mut drill = Failpoints { victims, seen: Seen::default() };
    for round in 0..run.count {
        drill.round(round).await.with_context(|| format!("round {round}"))?;
    }
    let mut figures = Figures::default();
    drill.seen.judge(&mut figures);
    drill.victims.rest().await?;
    checks::aftermath(&drill.victims.world, &Report::default(), &mut figures).await?;
    let unnoticed = usize::from(!drill.notices_a_late_key().await?);
    figures.none("key stored late, and not noticed", unnoticed);
    Ok(figures)
}

struct Failpoints {
    victims: Victims,
    seen: Seen,
}

#[derive(Default)]
struct Seen {
    deaths: usize,
    passed: BTreeSet<String>,
    /// By point: what was not as it must be.
    wrong: BTreeMap<String, String>,
}

impl Seen {
    fn judge(&self, figures: &mut Figures) {
        figures.count("deaths", self.deaths);
        let missed = POINTS.iter().filter(|point| !self.passed.contains(**point)).count();
        figures.none(&format!("of {} points, not hit", POINTS.len()), missed);
        for (point, wrong) in &self.wrong {
            crate::progress::say(format_args!("failpoints: {point}: {wrong}"));
        }
        figures.none("points at which something was wrong", self.wrong.len());
    }
}

impl Failpoints {
    async fn round(&mut self, round: u32) -> anyhow::Result<()> {
        let mut dead: Vec<(&str, String)> = Vec::new();
        let mut first_death: Option<Instant> = None;
        for point in POINTS {
            let batch = self.victims.lease * BATCH_PART.0 / BATCH_PART.1;
            let batch_is_over = first_death.is_some_and(|died| died.elapsed() > batch);
            if batch_is_over || dead.iter().any(|(point, _)| DUE_AT_ONCE.contains(point)) {
                self.recover(&mut dead).await?;
                first_death = None;
            }
            let name = format!("{}-{round}.example.test", point.replace('.', "-"));
            self.die_at(point, &name).await.with_context(|| format!("dying at {point}"))?;
            first_death.get_or_insert_with(Instant::now);
            dead.push((point, name));
        }
        self.recover(&mut dead).await
    }

    /// Has a worker die at this point while it issues for this name.
    async fn die_at(&mut self, point: &str, name: &str) -> anyhow::Result<()> {
        let hits = self.victims.begin(VICTIM, &[(KILL, point)])?;
        self.victims.request(name).await?;
        let worker = &self.victims.world.stack.workers[VICTIM];
        let code = worker.wait_exit(PATIENCE).await?;
        ensure!(code.is_none(), "it ended with {code:?}: {}", worker.process().log_tail());
        self.seen.deaths += 1;
        let passed = passed(&hits)?;
        ensure!(passed.last().map(String::as_str) == Some(point), "it died elsewhere: {passed:?}");
        self.seen.passed.extend(passed);
        let finalized = self.victims.counted(name).await?.finalized;
        if finalized != u64::from(is_finalized(point)) {
            self.seen.wrong.insert(point.to_owned(), format!("{finalized} finalized when it died"));
        }
        Ok(())
    }

    /// Has the peer finish what the dead left.
    async fn recover(&mut self, dead: &mut Vec<(&str, String)>) -> anyhow::Result<()> {
        self.victims.begin(PEER, &[])?;
        for (point, name) in dead.drain(..) {
            self.victims.valid(&name, PATIENCE).await?;
            let counted = self.victims.counted(&name).await?;
            let orders = match point {
                point if UNKNOWN_ORDER.contains(&point) => 2..=2,
                point if PERHAPS_UNKNOWN.contains(&point) => 1..=2,
                _ => 1..=1,
            };
            let is_one = (counted.finalized, counted.certificates) == (1, 1);
            if !is_one || !orders.contains(&counted.orders) {
                self.seen.wrong.insert(point.to_owned(), format!("{counted:?}"));
            }
        }
        self.victims.world.stack.workers[PEER].kill9()
    }

    /// Whether a peer that has no stored key is noticed where the key is missed.
    async fn notices_a_late_key(&mut self) -> anyhow::Result<bool> {
        const NAME: &str = "late-key.example.test";
        self.victims.kill_all()?;
        self.victims.set_lease(MUTANT_LEASE);
        self.die_at(KEY_IS_MISSED, NAME).await?;
        self.victims.begin(PEER, &[(MUTANT, Mutant::LateKey.name())])?;
        self.victims.says(NAME, WRONG_KEY, PATIENCE).await
    }
}

/// Whether the CA issues although a worker dies there.
fn is_finalized(point: &str) -> bool {
    let position = |name| POINTS.iter().position(|known| *known == name);
    position(point) >= position("finalize.after")
}

fn passed(hits: &Path) -> anyhow::Result<Vec<String>> {
    let text = std::fs::read_to_string(hits).with_context(|| {
        format!("{}: these binaries have no failpoints: build them with --all-features", hits.display())
    })?;
    Ok(text.lines().map(str::to_owned).collect())
}
