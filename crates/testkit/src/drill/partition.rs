// SPDX-License-Identifier: Apache-2.0
//! The network between members and services is cut: around the primary, in one direction, and between two of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bson::doc;

use super::admission::{ANSWERED_WITHIN, Callers};
use super::history::History;
use super::leadership::Lease;
use super::sides::{self, Hosts};
use super::volume::{self, Volume};
use super::world::PATIENCE;
use super::{Drill, Figures, Form, Load, Run, World, checks};
use crate::network::{Host, Network};
use crate::progress::say;
use crate::wait::{self, Pending};

pub(super) const DRILL: Drill = Drill {
    name: "partition",
    injects: "packets are dropped in turn around the primary, from it, to it, and between an API and the primary and a \
              worker and MongoDB",
    must_hold: "no acknowledged write is lost; one epoch acts; whoever is cut off lets nobody in after 5 s; all is back \
                within 15 s without a restart",
    short: 4,
    soak: 60,
    any_ca: false,
    run: |run| Box::pin(sides::at_desk(move |network| drill(run, network))),
};

/// What is promised of an API without a majority.
const REFUSED_WITHIN: Duration = ANSWERED_WITHIN;
/// What is promised of everything once the network is whole.
const BACK_WITHIN: Duration = Duration::from_secs(15);
/// How long a cut lasts at least: longer than an election and the schedulers' lease, and than an API may let anybody in.
const SHORT_CUT: Duration = Duration::from_secs(7);
const SOAK_CUT: Duration = Duration::from_secs(25);
/// Raw writes that must have been acknowledged in the end.
const SHORT_VOLUME: usize = 2_000;
const SOAK_VOLUME: usize = 100_000;
/// Raw writers where nothing is ever cut, and on the primary's side of each cut.
const WRITERS: usize = 6;
const INSIDERS: usize = 3;
/// Certificates that fall due in each round, before the cut and during it.
const WATCHED: usize = 3;
/// The services that are cut off. `api-0` answers the CA and the drill, so it is the other one.
const VICTIM_API: usize = 1;
const VICTIM_WORKER: usize = 1;
/// More of the oplog than a soak writes.
const OPLOG_MB: u32 = 512;

#[derive(Clone, Copy, Debug)]
enum Fault {
    /// The primary is alone, with some services and clients that reach nobody else.
    MinorityPrimary,
    /// Nobody hears the primary, or it hears nobody.
    OneWay { primary_is_heard: bool },
    /// An API and the leading scheduler do not reach the primary, and reach the others; a worker reaches no member.
    Services,
}

impl Fault {
    fn of(round: u32) -> Self {
        match round % 4 {
            0 => Self::MinorityPrimary,
            1 => Self::OneWay { primary_is_heard: false },
            2 => Self::OneWay { primary_is_heard: true },
            _ => Self::Services,
        }
    }

    /// Whether an API reaches no majority, or no primary of one.
    fn shuts_an_api_out(self) -> bool {
        matches!(self, Self::MinorityPrimary | Self::Services)
    }
}

async fn drill(run: Run, network: Arc<Network>) -> anyhow::Result<Figures> {
    let mut options = run.form.options().on(&network);
    (options.apis, options.schedulers) = (2, 2);
    options.replica_set.oplog_mb = OPLOG_MB;
    let world = World::start(run, options).await?;
    let pids: Vec<i32> = world.services().map(crate::process::Service::pid).collect();
    let names: Vec<String> = (0..WATCHED).map(|n| format!("watched-{n}.example.test")).collect();
    let mut drill = Partition {
        watched: world.issued(&names).await?,
        insider: network.host("insider")?,
        load: Load::start(&world, 2)?,
        windows: 0,
        seen: Seen::default(),
        network,
        world,
    };
    let uri = drill.world.stack.mongo_uri();
    let volumes =
        [Volume::start(drill.network.desk(), uri, WRITERS), Volume::start(&drill.insider, uri, INSIDERS)];
    for round in 0..run.count {
        let fault = Fault::of(round);
        drill.round(fault).await.with_context(|| format!("round {round}, {fault:?}"))?;
        let raw: usize = volumes.iter().map(Volume::count).sum();
        say(format_args!(
            "partition: {} of {}: {fault:?}, {raw} raw writes, {:?}",
            round + 1,
            run.count,
            drill.seen
        ));
    }
    let wanted = if run.form == Form::Short { SHORT_VOLUME } else { SOAK_VOLUME };
    let mut raw = Vec::new();
    for volume in volumes {
        raw.extend(volume.stop().await?);
    }
    let report = drill.load.stop().await?;
    let mut figures = Figures::default();
    drill.seen.judge(&mut figures);
    figures.count("raw writes acknowledged", raw.len());
    figures.none("raw writes short of what was to be made", wanted.saturating_sub(raw.len()));
    figures.none("raw writes lost", volume::lost(&drill.world, &raw).await?);
    History::read(drill.world.stack.mongo_uri()).await?.judge_epochs(&mut figures);
    let restarted = drill.world.services().zip(&pids);
    let restarted =
        restarted.filter(|(service, pid)| service.pid() != **pid || !service.process().is_running());
    figures.none("services that ended", restarted.count());
    checks::aftermath(&drill.world, &report, &mut figures).await?;
    Ok(figures)
}

struct Partition {
    network: Arc<Network>,
    /// A client of the primary's side.
    insider: Arc<Host>,
    world: World,
    watched: Vec<String>,
    load: Load,
    windows: i64,
    seen: Seen,
}

/// The worst of all rounds.
#[derive(Debug, Default)]
struct Seen {
    let_in_for: Duration,
    refused: usize,
    answered: Duration,
    otherwise: usize,
    hung: usize,
    gap: Duration,
    back: Duration,
}

impl Seen {
    fn judge(&self, figures: &mut Figures) {
        figures.at_most("still let in by an API that is cut off", self.let_in_for, REFUSED_WITHIN);
        figures.count("calls that it refused", self.refused);
        figures.none("drills without such a refusal", usize::from(self.refused == 0));
        figures.at_most("answer of a refusal (longest)", self.answered, REFUSED_WITHIN);
        figures.none("calls answered otherwise, or not at all", self.otherwise);
        figures.none("calls without an answer after 5 s, whenever they ended", self.hung);
        figures.time("wait of a write to be acknowledged", self.gap);
        figures.at_most("all back", self.back, BACK_WITHIN);
    }
}

impl Partition {
    async fn round(&mut self, fault: Fault) -> anyhow::Result<()> {
        let primary = sides::member(sides::primary(&self.world).await?);
        let leader = Lease::read(&self.world).await?.holder;
        self.due().await?;
        let callers = fault.shuts_an_api_out().then(|| self.world.stack.client(VICTIM_API)).transpose()?;
        let callers = callers.as_ref().map(Callers::start);

        let cut = Instant::now();
        self.cut(fault, &primary, &leader)?;
        // Whoever has a majority goes on: writes, and a leader that plans.
        self.load.wait_more(3, PATIENCE).await?;
        self.due().await?;
        let lasts = if self.world.run.form == Form::Short { SHORT_CUT } else { SOAK_CUT };
        tokio::time::sleep_until((cut + lasts).into()).await;
        self.load.wait_more(1, PATIENCE).await?;
        self.seen.gap = self.seen.gap.max(self.load.longest_wait(cut));
        let healed = Instant::now();
        self.network.heal()?;
        self.wait_back().await?;
        self.seen.back = self.seen.back.max(healed.elapsed());
        if let Some(callers) = callers {
            let told = callers.stop(cut, healed).await;
            self.seen.let_in_for = self.seen.let_in_for.max(told.let_in_for);
            self.seen.refused += told.refused;
            self.seen.answered = self.seen.answered.max(told.answered);
            self.seen.otherwise += told.otherwise;
            self.seen.hung += told.hung;
        }
        self.world.wait_version(&self.watched, self.windows + 1, PATIENCE).await
    }

    /// The watched certificates fall due, once those that did before are renewed.
    async fn due(&mut self) -> anyhow::Result<()> {
        self.world.wait_version(&self.watched, self.windows + 1, PATIENCE).await?;
        self.world.make_due(&self.watched, 0).await?;
        self.windows += 1;
        Ok(())
    }

    fn cut(&self, fault: Fault, primary: &str, leader: &str) -> anyhow::Result<()> {
        let (network, host) = (&self.network, |name: &str| self.network.host(name));
        let hosts = Hosts::of(network, &self.world, &self.insider)?;
        let (api, worker) = (format!("api-{VICTIM_API}"), format!("worker-{VICTIM_WORKER}"));
        let (api, worker, leader) = (host(&api)?, host(&worker)?, host(leader)?);
        let primary = host(primary)?;
        match fault {
            Fault::MinorityPrimary => {
                let insiders = [&primary, &api, &worker, &leader, &self.insider];
                hosts.part(network, &insiders.map(|host| host.name()))
            }
            Fault::OneWay { primary_is_heard: false } => {
                network.cut_one_way(hosts.others(&primary).map(|other| (&*primary, other)))
            }
            Fault::OneWay { primary_is_heard: true } => {
                network.cut_one_way(hosts.others(&primary).map(|other| (other, &*primary)))
            }
            Fault::Services => {
                let without_mongo = hosts.members.iter().map(|member| (&*worker, &**member));
                network.cut(without_mongo.chain([(&*api, &*primary), (&*leader, &*primary)]))
            }
        }
    }

    /// Waits until members and services are well, each API takes writes, and a scheduler leads.
    async fn wait_back(&mut self) -> anyhow::Result<()> {
        for service in self.world.services() {
            service.wait_ready(PATIENCE).await?;
        }
        self.world.wait_healthy().await?;
        for index in 0..self.world.stack.apis.len() {
            let api = self.world.stack.client(index)?;
            wait::until(&format!("api-{index} to let callers in"), PATIENCE, || async {
                api.get("/api/v1/projects?limit=1").await.map(drop).map_err(Pending::not_yet)
            })
            .await?;
        }
        let leases = self.world.collection("leases");
        let held = doc! { "_id": "scheduler", "$expr": { "$gt": ["$expires_at", "$$NOW"] } };
        wait::until("a leader", PATIENCE, || async {
            let found = leases.count_documents(held.clone()).await.map_err(Pending::not_yet)?;
            if found == 1 { Ok(()) } else { Err(Pending::not_yet("the lease ran out")) }
        })
        .await?;
        self.load.wait_more(2, PATIENCE).await?;
        Ok(())
    }
}
