// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask bench lease`: how long nobody leads, and whether a leader of yesterday writes.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use cap_core::clock::Clock as _;
use cap_core::entropy;
use cap_runtime::clock::SystemClock;
use cap_testkit::mongo::ReplicaSetOptions;
use cap_testkit::mongo::driver::bson::doc;
use cap_testkit::process::{Service, Signal};
use cap_testkit::progress::say;
use cap_testkit::wait::{self, Pending};
use clap::Args;
use jiff::SignedDuration;
use tokio::sync::watch;

use super::figures::{Bound, Times, Verdicts, ms};
use super::ground::{Ground, World};
use super::scheduler;
use super::stamps::{Seen, follow};

/// What a lost leader may cost beside its lease.
const SLACK: Duration = Duration::from_millis(500);
/// What a leader that is asked to end may cost.
const STEP_DOWN: Duration = Duration::from_millis(100);
/// What anybody waits for at most, beside the lease.
const LIMIT: Duration = Duration::from_secs(60);
/// Certificates that are due when the leader is lost: it may be at any point of planning them.
const DUE: usize = 60;
/// What a standby says of itself.
const STANDING_BY: &str = "standing by: another scheduler leads";

/// How much to measure.
#[derive(Debug, Args)]
pub(crate) struct LeaseArgs {
    /// Takeovers of each kind.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    count: u16,
    /// The lease, seconds: 5 suits a database that elects within 2 s, as this one does.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(3..=300))]
    lease: u16,
}

/// How a leader is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    Terminated,
    Killed,
    Paused,
}

impl Loss {
    const ALL: [Self; 3] = [Self::Terminated, Self::Killed, Self::Paused];

    fn name(self) -> &'static str {
        match self {
            Self::Terminated => "asked to end (SIGTERM)",
            Self::Killed => "killed (SIGKILL)",
            Self::Paused => "paused (SIGSTOP)",
        }
    }

    fn target(self, lease: Duration) -> Duration {
        match self {
            Self::Terminated => STEP_DOWN,
            Self::Killed | Self::Paused => lease + SLACK,
        }
    }
}

/// Two schedulers, and what the database saw of them.
struct Scene {
    world: World,
    schedulers: [Service; 2],
    seen: watch::Receiver<Seen>,
}

pub(crate) async fn run(args: LeaseArgs) -> anyhow::Result<ExitCode> {
    super::build().await?;
    let lease = Duration::from_secs(args.lease.into());
    let ground = Ground::start(ReplicaSetOptions::default()).await?;
    let world = ground.world("lease").await?;
    let seen = follow(&world.raw).await?;
    let first = scheduler::start(&ground, &world, "scheduler-0", Some(lease)).await?;
    let mut scene = Scene {
        schedulers: [first, scheduler::start(&ground, &world, "scheduler-1", Some(lease)).await?],
        world,
        seen,
    };
    scene.until("a leader", |seen| seen.epoch > 0).await?;
    scene.stood_by(0).await?;
    let mut verdicts = Verdicts::default();
    for loss in Loss::ALL {
        say(format_args!("{} takeovers from a leader that is {}", args.count, loss.name()));
        let mut took = Vec::new();
        for _ in 0..args.count {
            took.push(scene.takeover(loss, lease).await?);
        }
        let times = Times::new(took);
        let (median, worst) = (ms(times.median()), ms(times.worst()));
        println!(
            "\na leader that is {}: {} times, median {median:.0} ms, worst {worst:.0} ms",
            loss.name(),
            times.len()
        );
        verdicts.judge(loss.name(), worst, Bound::Most, ms(loss.target(lease)), "ms");
    }
    let seen = scene.seen.borrow().clone();
    println!("\n{} terms, {} stamped writes", seen.epoch, seen.stamped);
    ensure!(seen.stamped > 0, "no leader wrote anything, so nothing is known of stale writes");
    verdicts.judge("stale writes", super::figures::number(seen.stale), Bound::Most, 0.0, "of all");
    Ok(if verdicts.conclude() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Scene {
    /// Takes the leader away; answers how long it took until the other one led, as the database saw it.
    async fn takeover(&mut self, loss: Loss, lease: Duration) -> anyhow::Result<Duration> {
        let before = self.seen.borrow().clone();
        let names = self.schedulers.iter().position(|one| one.name() == before.holder);
        let leader = names.with_context(|| format!("no scheduler is called {:?}", before.holder))?;
        let heard = self.standing_by(leader)?;
        self.make_due().await?;
        // Anywhere between two heartbeats, and anywhere in the planning.
        let phase = entropy::between(self.world.entropy.as_ref(), Duration::ZERO, lease / 3);
        self.world.clock.sleep(phase).await;
        let began = SystemClock.boottime();
        let service = &self.schedulers[leader];
        match loss {
            Loss::Terminated => service.signal(Signal::TERM).map(drop)?,
            Loss::Killed => service.kill9()?,
            Loss::Paused => service.signal(Signal::STOP).map(drop)?,
        }
        let next = self.until("another leader", |seen| seen.epoch > before.epoch).await?;
        ensure!(next.holder != before.holder, "{} leads again although it was {}", next.holder, loss.name());
        let took = next.won_at.saturating_sub(began);
        match loss {
            Loss::Terminated => {
                self.schedulers[leader].wait_exit(LIMIT).await?;
                self.schedulers[leader].restart()?;
            }
            Loss::Killed => self.schedulers[leader].restart()?,
            Loss::Paused => self.schedulers[leader].signal(Signal::CONT).map(drop)?,
        }
        self.stood_by_again(leader, heard).await?;
        self.all_planned().await?;
        Ok(took)
    }

    async fn until(&mut self, what: &str, is_so: impl FnMut(&Seen) -> bool) -> anyhow::Result<Seen> {
        let waited = tokio::time::timeout(LIMIT, self.seen.wait_for(is_so)).await;
        let seen = waited.with_context(|| format!("gave up waiting for {what}"))?;
        Ok(seen.context("the database is watched no more")?.clone())
    }

    /// How often a scheduler has said that it stands by.
    fn standing_by(&self, index: usize) -> anyhow::Result<usize> {
        let log = std::fs::read_to_string(self.schedulers[index].process().log())?;
        Ok(log.matches(STANDING_BY).count())
    }

    /// Waits until the one that does not lead stands by.
    async fn stood_by(&self, heard: usize) -> anyhow::Result<()> {
        let holder = self.seen.borrow().holder.clone();
        let other = self.schedulers.iter().position(|one| one.name() != holder).context("two schedulers")?;
        self.stood_by_again(other, heard).await
    }

    async fn stood_by_again(&self, index: usize, heard: usize) -> anyhow::Result<()> {
        wait::until("the other scheduler to stand by", LIMIT, || async {
            match self.standing_by(index).map_err(Pending::not_yet)? {
                times if times > heard => Ok(()),
                times => Err(Pending::not_yet(format_args!("it said so {times} times"))),
            }
        })
        .await
    }

    /// More certificates that are due, so that the leader has something to write.
    async fn make_due(&self) -> anyhow::Result<()> {
        let due = self.world.clock.now().checked_sub(SignedDuration::from_secs(1))?;
        let certificates =
            (0..DUE).map(|n| self.world.certificate(n, due)).collect::<anyhow::Result<Vec<_>>>()?;
        self.world.collection("certificates").insert_many(certificates).await?;
        Ok(())
    }

    async fn all_planned(&self) -> anyhow::Result<()> {
        let left = doc! { "planned_for": { "$exists": false } };
        wait::until("the new leader to plan what is due", LIMIT, || async {
            let certificates = self.world.collection("certificates");
            match certificates.count_documents(left.clone()).limit(1).await.map_err(Pending::not_yet)? {
                0 => Ok(()),
                _ => Err(Pending::not_yet("some are not planned")),
            }
        })
        .await
    }
}
