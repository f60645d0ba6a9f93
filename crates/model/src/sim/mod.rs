// SPDX-License-Identifier: Apache-2.0
//! The engine itself, in a world out of a seed.
//!
//! `world` has the time and the wire, `ca` and `account` the CA, `ledger` the database, `worker` what claims and settles
//! around the engine, `plan` what a seed is about, `verdict` what must hold in the end. One thread, no clock but the
//! world's: the same seed is the same story, word by word.

mod account;
mod ca;
mod keys;
mod ledger;
mod luck;
mod plan;
mod tell;
mod verdict;
mod worker;
mod world;

use std::collections::{BTreeSet, HashSet};
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use cap_core::id::{CertificateId, ClusterId, IssuerId, ProjectId};

pub use plan::Mutant;

use keys::{Keys, Wrapped};
use ledger::{Certificate, Database};
use luck::Luck;
use plan::Plan;
use worker::{Cluster, Worker};
use world::{Blow, Process, World};

/// How long after the storm everything must be well: what failed on its last day is tried again within the next, and what
/// needs a person after a day.
const CALM: Duration = Duration::from_secs(4 * 86_400);
/// Events after which a seed never comes to rest.
const EVENTS_MAX: u32 = 2_000_000;
/// Certificates for the same names at most.
const CERTIFICATES_MAX: usize = 2;

/// How one seed went.
#[derive(Debug, Clone, Default)]
pub struct Story {
    /// What did not hold.
    pub wrong: Vec<String>,
    /// What happened, where it was asked for.
    pub trace: String,
    /// Certificates issued for us.
    pub issued: u64,
    /// Workers that died.
    pub crashes: u64,
    /// Workers that stood still.
    pub pauses: u64,
    /// Orders that were given up because the CA left them open.
    pub withdrawn: u64,
    /// Polls of workers, each of which could have been the last.
    pub polls: u64,
    /// Which steps orders took: from this phase to that.
    pub moves: BTreeSet<(&'static str, &'static str)>,
}

/// How many seeds went.
#[derive(Debug, Clone, Default)]
pub struct Stories {
    /// Seeds run.
    pub seeds: u64,
    /// The lowest seed that went wrong, and how.
    pub failed: Option<(u64, Story)>,
    /// All of them together.
    pub sum: Story,
}

type Life = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs one seed.
#[must_use]
pub fn run(seed: u64, mutant: Option<Mutant>, traced: bool) -> Story {
    let mut luck = Luck::new(seed);
    let plan = Plan::new(&mut luck, mutant);
    let cluster = cluster(plan, luck, traced);
    let mut theatre = Theatre { cluster, seed, lives: Vec::new() };
    let mut wrong: Vec<String> = theatre.play().err().into_iter().collect();
    drop(theatre.lives);
    wrong.extend(verdict::judge(&theatre.cluster));
    let mut inner = theatre.cluster.world.inner();
    let issued = u64::try_from(inner.tally.issued.len()).unwrap_or(u64::MAX);
    let (crashes, pauses, polls) =
        (inner.tally.crashes.into(), inner.tally.pauses.into(), inner.tally.polls.into());
    let withdrawn = inner.tally.withdrawn.into();
    let moves = inner.database.moves.iter().copied().collect();
    Story { wrong, trace: inner.trace(), issued, crashes, pauses, withdrawn, polls, moves }
}

/// Runs these seeds, on every core; ends early behind the first that goes wrong, with these words in what it says.
#[must_use]
pub fn run_all(seeds: Range<u64>, mutant: Option<Mutant>, words: &str) -> Stories {
    let (next, end) = (AtomicU64::new(seeds.start), AtomicU64::new(seeds.end));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let stories = std::thread::scope(|scope| {
        let work = || {
            let mut stories = Stories::default();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= end.load(Ordering::Relaxed) {
                    return stories;
                }
                let mut story = run_guarded(seed, mutant, false);
                story.wrong.retain(|wrong| wrong.contains(words));
                if !story.wrong.is_empty() {
                    end.fetch_min(seed, Ordering::Relaxed);
                }
                stories.add(seed, story);
            }
        };
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        workers.into_iter().filter_map(|worker| worker.join().ok()).collect::<Vec<_>>()
    });
    let mut all = stories.into_iter().fold(Stories::default(), Stories::with);
    if let Some((seed, story)) = &mut all.failed {
        // The same again, word by word, and written down this time.
        *story = run_guarded(*seed, mutant, true);
    }
    all
}

/// What is wrong with a seed in which something panics.
const PANIC: &str = "something panicked, as is said above";

/// A seed in which something panics went wrong as well, and is named.
fn run_guarded(seed: u64, mutant: Option<Mutant>, traced: bool) -> Story {
    std::panic::catch_unwind(|| run(seed, mutant, traced))
        .unwrap_or_else(|_| Story { wrong: vec![PANIC.to_owned()], ..Story::default() })
}

impl Stories {
    fn add(&mut self, seed: u64, story: Story) {
        self.seeds += 1;
        self.sum.issued += story.issued;
        self.sum.crashes += story.crashes;
        self.sum.pauses += story.pauses;
        self.sum.withdrawn += story.withdrawn;
        self.sum.polls += story.polls;
        self.sum.moves.extend(&story.moves);
        if !story.wrong.is_empty() && self.failed.as_ref().is_none_or(|(earlier, _)| seed < *earlier) {
            self.failed = Some((seed, story));
        }
    }

    fn with(mut self, other: Self) -> Self {
        self.seeds += other.seeds;
        self.sum.issued += other.sum.issued;
        self.sum.crashes += other.sum.crashes;
        self.sum.pauses += other.sum.pauses;
        self.sum.withdrawn += other.sum.withdrawn;
        self.sum.polls += other.sum.polls;
        self.sum.moves.extend(other.sum.moves);
        self.failed = [self.failed, other.failed].into_iter().flatten().min_by_key(|(seed, _)| *seed);
        self
    }
}

fn id<T: std::str::FromStr>(prefix: &str, number: usize) -> T
where
    T::Err: std::fmt::Debug,
{
    #[expect(clippy::expect_used, reason = "the ids of the simulation are written here")]
    format!("{prefix}_{number:032x}").parse().expect("an id")
}

fn cluster(plan: Plan, luck: Luck, traced: bool) -> Cluster {
    let certificate = |number| Certificate {
        id: id::<CertificateId>("crt", number),
        fence: 0,
        order: None,
        versions: Vec::new(),
        problem: None,
        next_attempt_at: None,
    };
    let database = Database {
        project: id::<ProjectId>("prj", 1),
        certificates: (0..plan.certificates.min(CERTIFICATES_MAX)).map(certificate).collect(),
        orders: Vec::new(),
        jobs: Vec::new(),
        answers: HashSet::new(),
        moves: HashSet::new(),
        claims: 0,
        mutant: plan.mutant,
    };
    Cluster {
        world: World::new(plan, luck, database, traced),
        wrapped: Arc::new(Wrapped::default()),
        id: id::<ClusterId>("cls", 1),
        issuer: id::<IssuerId>("iss", 1),
        keys: Keys::stock(),
    }
}

/// Where the story is played: every life that began, and those that are over.
struct Theatre {
    cluster: Cluster,
    seed: u64,
    lives: Vec<Actor>,
}

/// One life of one worker.
struct Actor {
    life: Option<Life>,
    /// Stands still until then.
    paused_until: Duration,
    ahead_s: i64,
}

/// What can happen next.
#[derive(Debug, Clone, Copy)]
enum Next {
    Arrival(usize),
    Poll(Process),
}

impl Theatre {
    fn enter(&mut self, at: Duration, ahead_s: i64) {
        let process = self.cluster.world.inner().begin(at);
        let seed = self.seed.wrapping_mul(0x1_0001).wrapping_add(process as u64);
        let worker = Worker::new(self.cluster.clone(), process, ahead_s, seed);
        self.lives.push(Actor { life: Some(Box::pin(worker.live())), paused_until: Duration::ZERO, ahead_s });
    }

    fn play(&mut self) -> Result<(), String> {
        let skews = self.cluster.world.inner().plan.skew_s.clone();
        for ahead_s in skews {
            self.enter(Duration::ZERO, ahead_s);
        }
        self.cluster.world.inner().queue_changed();
        for _ in 0..EVENTS_MAX {
            match self.next() {
                Some(Next::Arrival(nth)) => self.cluster.world.inner().take_in(nth),
                Some(Next::Poll(process)) => self.poll(process),
                None if self.go_on() => {}
                None => {
                    self.cluster.world.inner().ca_goes_on();
                    return Ok(());
                }
            }
        }
        Err(format!("it does not come to rest within {EVENTS_MAX} events"))
    }

    /// One of the things that can happen now.
    fn next(&self) -> Option<Next> {
        let mut inner = self.cluster.world.inner();
        let now = inner.now;
        let arrivals = (0..inner.arrived()).map(Next::Arrival);
        let runs = |process: &Process| {
            let actor = &self.lives[*process];
            actor.life.is_some()
                && actor.paused_until <= now
                && inner.wakes_at(*process).is_some_and(|at| at <= now)
        };
        let polls = (0..self.lives.len()).filter(runs).map(Next::Poll);
        let all: Vec<Next> = arrivals.chain(polls).collect();
        (!all.is_empty()).then(|| inner.luck.pick(&all))
    }

    /// Time goes on to the next thing that happens; false when nothing does, or too late.
    fn go_on(&self) -> bool {
        let mut inner = self.cluster.world.inner();
        let wakes = self.lives.iter().enumerate().filter(|(_, actor)| actor.life.is_some());
        let wakes =
            wakes.filter_map(|(process, actor)| inner.wakes_at(process).map(|at| at.max(actor.paused_until)));
        let next = wakes.chain(inner.arrives_at()).min();
        let end = inner.plan.storm + CALM;
        match next.filter(|next| *next <= end) {
            Some(next) => {
                inner.now = inner.now.max(next);
                true
            }
            None => false,
        }
    }

    /// Polls a process once, unless something befalls it.
    fn poll(&mut self, process: Process) {
        let (now, blow) = {
            let mut inner = self.cluster.world.inner();
            (inner.now, inner.blow(process))
        };
        match blow {
            Some(Blow::Crash(back_after)) => {
                self.lives[process].life = None;
                self.cluster.world.inner().sleeps(process);
                self.enter(now + back_after, self.lives[process].ahead_s);
            }
            Some(Blow::Pause(lasts)) => self.lives[process].paused_until = now + lasts,
            None => {
                {
                    let mut inner = self.cluster.world.inner();
                    inner.sleeps(process);
                    inner.tally.polls += 1;
                }
                if let Some(life) = &mut self.lives[process].life {
                    // A worker works for ever.
                    let _ = life.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                }
            }
        }
    }
}
