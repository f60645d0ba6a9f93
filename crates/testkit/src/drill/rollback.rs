// SPDX-License-Identifier: Apache-2.0
//! A primary takes writes that no majority has, and takes them back. A canary, written with `w: 1`, shows that it did.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bson::doc;
use futures_util::future::join_all;
use mongodb::Client;
use mongodb::options::{ClientOptions, ReadConcern, WriteConcern};
use serde_json::json;

use super::history::History;
use super::lost_answers::{self, Minted};
use super::sides::{self, Hosts};
use super::world::PATIENCE;
use super::{Drill, Figures, Load, Run, World, checks};
use crate::network::{Host, Network};
use crate::progress::say;
use crate::stack::ApiClient;
use crate::wait::{self, Pending};

pub(super) const DRILL: Drill = Drill {
    name: "rollback",
    injects: "a primary that is cut off takes writes and rolls them back; then answers to commits are lost",
    must_hold: "nothing acknowledged is rolled back, nothing is applied twice; a canary with w: 1 is rolled back each time",
    short: 2,
    soak: 50,
    any_ca: false,
    run: |run| Box::pin(sides::at_desk(move |network| drill(run, network, None))),
};

/// The same with an API whose writes count as done when the primary alone has them: the drill must find that.
///
/// # Errors
/// When the drill cannot be run to its end.
pub async fn rollback_without_majority(run: Run) -> anyhow::Result<Figures> {
    sides::at_desk(move |network| drill(run, network, Some("one-ack"))).await
}

/// The canary's collection.
const COLLECTION: &str = "drill_canary";
/// Canaries at most; the primary steps down before.
const CANARIES: u32 = 50;
/// How long one canary may take.
const CANARY_MAX: Duration = Duration::from_secs(2);
/// The wait between two of them.
const CANARY_PACE: Duration = Duration::from_millis(50);
/// Clients of the API on the primary's side, and for how long each begins to send requests: from before the cut until the
/// primary steps down.
const STRANDED: u32 = 6;
const STRANDED_PACE: Duration = Duration::from_millis(100);
const STRANDED_FOR: Duration = Duration::from_secs(4);
/// Commits that the primary holds back until the network is cut, fewer than there are clients, and for how long: shorter
/// than any try of ours lasts.
const HELD: usize = 4;
const HELD_FOR: Duration = Duration::from_secs(2);
/// The services on the primary's side. `api-0` answers the CA and the drill, so it is the other one.
const INSIDERS: [&str; 2] = ["api-1", "worker-1"];
const VICTIM_API: usize = 1;
const CREATED: u16 = 201;
/// How long a primary goes on without a majority at least: long enough to take writes, on a machine under load too.
const PRIMARY_FOR_MS: i64 = 5_000;
/// More of the oplog than a soak writes.
const OPLOG_MB: u32 = 512;

async fn drill(run: Run, network: Arc<Network>, mutant: Option<&str>) -> anyhow::Result<Figures> {
    let mut options = run.form.options().on(&network);
    options.apis = 2;
    options.replica_set.oplog_mb = OPLOG_MB;
    options.replica_set.election_timeout_ms = options.replica_set.election_timeout_ms.max(PRIMARY_FOR_MS);
    let mut world = World::start(run, options).await?;
    if let Some(mutant) = mutant {
        let api = &mut world.stack.apis[VICTIM_API];
        api.set_env("CAP_DRILL_MUTANT", mutant);
        api.restart()?;
        api.wait_ready(PATIENCE).await?;
    }
    // Made before, so that what is rolled back are documents of it.
    world.collection(COLLECTION).insert_one(doc! { "_id": "first" }).await?;
    let load = Load::start(&world, 2)?;
    let mut drill = Rollback {
        insider: network.host("insider")?,
        network,
        world,
        load,
        seen: Seen::default(),
        minted: vec![],
    };
    for round in 0..run.count {
        drill.roll_back(round).await.with_context(|| format!("rollback {round}"))?;
        let minted = lost_answers::lose(&mut drill.world, &drill.network, round).await;
        drill.minted.push(minted.with_context(|| format!("lost answers {round}"))?);
        let Seen { rollbacks, ours, .. } = &drill.seen;
        say(format_args!(
            "rollback: {} of {}: {rollbacks} rollbacks, {ours} writes of ours",
            round + 1,
            run.count
        ));
    }
    let mut report = drill.load.stop().await?;
    report.acknowledged.append(&mut drill.seen.acknowledged);
    let mut figures = Figures::default();
    drill.seen.judge(run, &mut figures);
    lost_answers::judge(&drill.world, &drill.minted, &mut figures).await?;
    checks::aftermath(&drill.world, &report, &mut figures).await?;
    History::read(drill.world.stack.mongo_uri()).await?.judge_rows(&drill.world, &mut figures).await?;
    Ok(figures)
}

struct Rollback {
    network: Arc<Network>,
    /// A client of the primary's side.
    insider: Arc<Host>,
    world: World,
    load: Load,
    seen: Seen,
    minted: Vec<Minted>,
}

#[derive(Default)]
struct Seen {
    /// Rounds in which a canary was found among what the member took back.
    rollbacks: usize,
    /// Canaries that the set still has.
    canaries_kept: usize,
    /// Our own writes that were taken back.
    ours: usize,
    /// Requests that led to two things.
    twice: usize,
    /// Paths of what was acknowledged on the primary's side while it was cut off.
    acknowledged: Vec<String>,
}

impl Seen {
    fn judge(&self, run: Run, figures: &mut Figures) {
        let rounds = usize::try_from(run.count).unwrap_or(usize::MAX);
        figures.count("rollbacks", self.rollbacks);
        figures.none("rounds without a rollback", rounds.saturating_sub(self.rollbacks));
        figures.none("canaries with w: 1 that are still there", self.canaries_kept);
        figures.count("unacknowledged writes of ours that were rolled back", self.ours);
        figures.none("drills without such a write", usize::from(self.ours == 0));
        figures.none("requests that made two things", self.twice);
    }
}

impl Rollback {
    async fn roll_back(&mut self, round: u32) -> anyhow::Result<()> {
        let index = sides::primary(&self.world).await?;
        let (name, insider) = (sides::member(index), self.insider.clone());
        let hosts = Hosts::of(&self.network, &self.world, &insider)?;
        let api = self.world.stack.client(VICTIM_API)?;
        let direct = self.direct_uri(index)?;

        // The network is cut while some of these are being committed; others come when it is.
        self.load.wait_more(1, PATIENCE).await?;
        let held = doc! {
            "failCommands": ["commitTransaction"], "appName": "certautopilot-api", "blockConnection": true,
            "blockTimeMS": i64::try_from(HELD_FOR.as_millis())?,
        };
        let held_before = self.world.replica_set()?.fail_commands(index, i32::try_from(HELD)?, held).await?;
        let until = Instant::now() + STRANDED_FOR;
        let stranded: Vec<_> =
            (0..STRANDED).map(|n| tokio::spawn(strand(api.clone(), round, n, until))).collect();
        let set = self.world.replica_set()?;
        wait::until("commits to be held back", PATIENCE, || async {
            match set.failed_commands(index).await.map_err(Pending::not_yet)? - held_before {
                HELD => Ok(()),
                held => Err(Pending::not_yet(held)),
            }
        })
        .await?;
        let cut = Instant::now();
        hosts.part(&self.network, &[&[name.as_str(), insider.name()], &INSIDERS[..]].concat())?;
        let canaries = tokio::task::spawn_blocking(move || insider.run(|| write_canaries(&direct, round)));
        let stranded = join_all(stranded).await.into_iter().collect::<Result<Vec<_>, _>>()?.concat();
        let canaries = canaries.await??;
        ensure!(!canaries.is_empty(), "the primary took no canary after the cut");
        self.world.replica_set()?.wait_primary_other_than(index, PATIENCE).await?;
        self.load.wait_more(2, PATIENCE).await?;
        self.network.heal()?;

        let folder = self.world.replica_set()?.data_dir(index)?.join("rollback");
        let taken_back = wait::until("the canary to be rolled back", PATIENCE, || async {
            let found = names_in(&folder, &format!("canary-{round}-")).map_err(Pending::Never)?;
            if found.is_empty() {
                Err(Pending::not_yet("no canary in the member's rollback files"))
            } else {
                Ok(found)
            }
        });
        taken_back.await.with_context(|| format!("{:?} after the cut", cut.elapsed()))?;
        self.seen.rollbacks += 1;
        self.world.wait_healthy().await?;
        self.seen.ours += names_in(&folder, &format!("stranded-{round}-"))?.len();
        self.seen.canaries_kept += self.kept(&canaries).await?;
        for (name, path) in stranded {
            match path {
                Some(path) => self.seen.acknowledged.push(path),
                None => self.send_again(&name).await?,
            }
        }
        Ok(())
    }

    /// This member alone, whatever it thinks that it is.
    fn direct_uri(&self, index: usize) -> anyhow::Result<String> {
        let set = self.world.stack.infrastructure.replica_set.as_ref().context("a replica set of its own")?;
        let address = &set.process(index)?.launch().address;
        let database = self.world.collection(COLLECTION).namespace().db;
        Ok(format!("mongodb://{address}/{database}?directConnection=true"))
    }

    async fn kept(&self, canaries: &[String]) -> anyhow::Result<usize> {
        let collection = self.world.collection(COLLECTION);
        let found = collection.count_documents(doc! { "_id": { "$in": canaries } });
        Ok(usize::try_from(found.read_concern(ReadConcern::majority()).await?)?)
    }

    /// A request is sent to each API again until it is acknowledged: it made one thing.
    async fn send_again(&mut self, name: &str) -> anyhow::Result<()> {
        let mut made = BTreeSet::new();
        for index in [0, VICTIM_API] {
            let api = self.world.stack.client(index)?;
            let path = wait::until(name, PATIENCE, || async {
                send(&api, name).await.ok_or_else(|| Pending::not_yet("it is not acknowledged"))
            });
            made.insert(path.await?);
        }
        self.seen.twice += made.len().saturating_sub(1);
        self.seen.acknowledged.extend(made);
        Ok(())
    }
}

/// Inserts canaries for as long as the primary takes them; answers those that it acknowledged by itself.
async fn write_canaries(uri: &str, round: u32) -> anyhow::Result<Vec<String>> {
    let mut options = ClientOptions::parse(uri).await?;
    options.connect_timeout = Some(CANARY_MAX);
    options.server_selection_timeout = Some(CANARY_MAX);
    options.write_concern = Some(WriteConcern::nodes(1));
    options.retry_writes = Some(false);
    let client = Client::with_options(options)?;
    let database = client.default_database().context("the member's connection string names a database")?;
    let canaries = database.collection(COLLECTION);
    let mut acknowledged = Vec::new();
    for n in 0..CANARIES {
        let id = format!("canary-{round}-{n}-");
        let written = canaries.insert_one(doc! { "_id": &id }).into_future();
        if !matches!(tokio::time::timeout(CANARY_MAX, written).await, Ok(Ok(_))) {
            break;
        }
        acknowledged.push(id);
        tokio::time::sleep(CANARY_PACE).await;
    }
    Ok(acknowledged)
}

/// Asks for projects one after the other; answers their names, and the paths of those that were acknowledged.
async fn strand(api: ApiClient, round: u32, client: u32, until: Instant) -> Vec<(String, Option<String>)> {
    let mut sent = Vec::new();
    while Instant::now() < until {
        let name = format!("stranded-{round}-{client}-{}", sent.len());
        let path = send(&api, &name).await;
        sent.push((name, path));
        tokio::time::sleep(STRANDED_PACE).await;
    }
    sent
}

/// Asks for a project of this name once; answers its path if that was acknowledged.
async fn send(api: &ApiClient, name: &str) -> Option<String> {
    const PROJECTS: &str = "/api/v1/projects";
    let answer = api.call("POST", PROJECTS, Some(&json!({ "name": name })), Some(name)).await.ok()?;
    let made = answer.json()["id"].as_str().map(|id| format!("{PROJECTS}/{id}"));
    made.filter(|_| answer.status == CREATED)
}

/// The distinct words that begin so, in the files below a folder; none where there is no such folder. What a member
/// takes back it writes there, as BSON.
fn names_in(folder: &Path, prefix: &str) -> anyhow::Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let Ok(entries) = fs::read_dir(folder) else { return Ok(found) };
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            found.append(&mut names_in(&path, prefix)?);
            continue;
        }
        let text = String::from_utf8_lossy(&fs::read(&path)?).into_owned();
        let is_end = |c: char| !c.is_ascii_alphanumeric() && c != '-';
        found.extend(
            text.match_indices(prefix)
                .filter_map(|(at, _)| Some(text[at..].split(is_end).next()?.to_owned())),
        );
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn names_are_found_in_binary_files_of_every_depth() {
        let scratch = Scratch::create().unwrap();
        assert!(names_in(&scratch.path().join("none"), "a-").unwrap().is_empty());
        fs::create_dir(scratch.path().join("inner")).unwrap();
        fs::write(scratch.path().join("inner/removed.bson"), b"\x05\0a-1\0\xff\xfea-2\0a-1\0b-3\0").unwrap();
        let found = names_in(scratch.path(), "a-").unwrap();
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["a-1", "a-2"]);
    }
}
