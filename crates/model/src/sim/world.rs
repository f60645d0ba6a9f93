// SPDX-License-Identifier: Apache-2.0
//! The world of one seed: one time, one wire on which every request and every answer travels, processes that are polled
//! one at a time.
//!
//! A request is carried out when it arrives, whatever has become of its sender by then; an answer wakes a process that
//! may be gone. So between any two awaits of the code there is a moment at which its process can end.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use cap_core::clock::{Clock, later};
use jiff::{SignedDuration, Timestamp};

use super::ca::Ca;
use super::ledger::Database;
use super::luck::Luck;
use super::plan::Plan;
use super::verdict::Tally;

/// When every seed begins.
pub(super) const BEGIN_S: i64 = 1_790_000_000;

/// A process: one life of one worker.
pub(super) type Process = usize;

/// Everything that processes share.
#[derive(Debug)]
pub(super) struct World(Mutex<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) now: Duration,
    pub(super) luck: Luck,
    pub(super) plan: Plan,
    pub(super) database: Database,
    pub(super) ca: Ca,
    pub(super) tally: Tally,
    wire: Vec<Delivery>,
    /// When each process wants to be polled next.
    wakes: Vec<Option<Duration>>,
    /// Those that wait for a job.
    idle: Vec<Process>,
    trace: Option<String>,
}

/// Something on its way.
struct Delivery {
    at: Duration,
    arrive: Box<dyn FnOnce(&mut Inner) + Send>,
}

impl std::fmt::Debug for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "arrives at {:?}", self.at)
    }
}

/// How a request travels.
#[derive(Debug, Clone, Copy)]
pub(super) struct Travel {
    /// After how long it is carried out, if ever.
    pub(super) arrives: Option<Duration>,
    /// How long after that its answer is back, if ever.
    pub(super) returns: Option<Duration>,
    /// After how long the sender gives up.
    pub(super) limit: Duration,
}

/// What may befall a process, and for how long.
#[derive(Debug, Clone, Copy)]
pub(super) enum Blow {
    /// It is gone, and another one begins so long after.
    Crash(Duration),
    /// It stands still.
    Pause(Duration),
}

/// No answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lost;

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    pub(super) fn new(plan: Plan, luck: Luck, database: Database, traced: bool) -> Arc<Self> {
        let ca = Ca::new(plan.ca);
        Arc::new(Self(Mutex::new(Inner {
            now: Duration::ZERO,
            luck,
            plan,
            database,
            ca,
            tally: Tally::default(),
            wire: Vec::new(),
            wakes: Vec::new(),
            idle: Vec::new(),
            trace: traced.then(String::new),
        })))
    }

    pub(super) fn inner(&self) -> MutexGuard<'_, Inner> {
        lock(&self.0)
    }

    /// Sends a request and waits for its answer, or until the sender gives up.
    pub(super) async fn call<R: Send + 'static>(
        self: &Arc<Self>,
        process: Process,
        travel: impl FnOnce(&mut Inner) -> Travel,
        request: impl FnOnce(&mut Inner) -> R + Send + 'static,
    ) -> Result<R, Lost> {
        let answer = Arc::new(Mutex::new(None));
        let gives_up_at = {
            let mut inner = self.inner();
            let travel = travel(&mut inner);
            let back = answer.clone();
            if let Some(arrives) = travel.arrives {
                inner.send(arrives, move |inner| {
                    let result = request(inner);
                    if let Some(returns) = travel.returns {
                        inner.send(returns, move |inner| {
                            *lock(&back) = Some(result);
                            inner.wake(process, inner.now);
                        });
                    }
                });
            }
            inner.now + travel.limit
        };
        std::future::poll_fn(|_| {
            if let Some(result) = lock(&answer).take() {
                return Poll::Ready(Ok(result));
            }
            self.inner().reached(process, gives_up_at).map(|()| Err(Lost))
        })
        .await
    }

    pub(super) async fn sleep_until(&self, process: Process, at: Duration) {
        std::future::poll_fn(|_| self.inner().reached(process, at)).await;
    }
}

impl Inner {
    fn send(&mut self, after: Duration, arrive: impl FnOnce(&mut Self) + Send + 'static) {
        self.wire.push(Delivery { at: self.now + after, arrive: Box::new(arrive) });
    }

    /// Ready from `at` on; until then the process wants to be polled at that time.
    fn reached(&mut self, process: Process, at: Duration) -> Poll<()> {
        if self.now >= at {
            return Poll::Ready(());
        }
        self.wake(process, at);
        Poll::Pending
    }

    /// Polls a process at `at`, unless it is polled sooner.
    pub(super) fn wake(&mut self, process: Process, at: Duration) {
        if let Some(wake) = self.wakes.get_mut(process) {
            *wake = Some(wake.map_or(at, |sooner| sooner.min(at)));
        }
    }

    /// Ready when a job is due; until then the process is polled when one may be.
    pub(super) fn is_due(&mut self, process: Process) -> Poll<()> {
        match self.database.due_at() {
            Some(at) if at <= self.now => return Poll::Ready(()),
            Some(at) => self.wake(process, at),
            None => {}
        }
        self.idle.push(process);
        Poll::Pending
    }

    /// The queue changed: what has become possible is planned, and whoever waits for a job looks again.
    pub(super) fn queue_changed(&mut self) {
        self.database.plan(self.plan.versions, self.now);
        for process in std::mem::take(&mut self.idle) {
            self.wake(process, self.now);
        }
    }

    /// Whether the process waits for a job.
    pub(super) fn is_idle(&self, process: Process) -> bool {
        self.idle.contains(&process)
    }

    /// The CA's orders go on by themselves.
    pub(super) fn ca_goes_on(&mut self) {
        for number in self.ca.go_on(self.now) {
            let order = &self.ca.orders[number];
            match order.key {
                Some(key) if !order.is_wrong => self.tally.issued.push((number, key)),
                _ => self.tally.wrong += 1,
            }
            let (key, is_wrong) = (order.key, order.is_wrong);
            self.note(|| format!("CA: order {number} is issued for key {key:?}, wrong: {is_wrong}"));
        }
    }

    /// Makes room for another process, which is polled from `at` on.
    pub(super) fn begin(&mut self, at: Duration) -> Process {
        self.wakes.push(Some(at));
        self.wakes.len() - 1
    }

    /// When the process wants to be polled next.
    pub(super) fn wakes_at(&self, process: Process) -> Option<Duration> {
        self.wakes[process]
    }

    /// The process is about to be polled, or gone.
    pub(super) fn sleeps(&mut self, process: Process) {
        self.wakes[process] = None;
        self.idle.retain(|idle| *idle != process);
    }

    /// Whether a fault ends or stops this process now.
    pub(super) fn blow(&mut self, process: Process) -> Option<Blow> {
        let (crash, pause) = (self.plan.crash, self.plan.pause);
        if self.plan.blows == 0 || self.is_idle(process) {
            return None;
        }
        let lease = self.plan.lease;
        let blow = if self.strikes(crash) {
            self.tally.crashes += 1;
            Blow::Crash(self.luck.between(Duration::ZERO, lease * 2))
        } else if self.strikes(pause) {
            self.tally.pauses += 1;
            let longest = self.luck.pick(&[lease / 2, lease * 2, lease * 3, lease * 100]);
            Blow::Pause(self.luck.between(Duration::ZERO, longest))
        } else {
            return None;
        };
        self.plan.blows -= 1;
        self.note(|| format!("process {process}: {blow:?}"));
        Some(blow)
    }

    /// When the next thing on the wire arrives.
    pub(super) fn arrives_at(&self) -> Option<Duration> {
        self.wire.iter().map(|delivery| delivery.at).min()
    }

    /// How many things have arrived and are not taken in.
    pub(super) fn arrived(&self) -> usize {
        self.wire.iter().filter(|delivery| delivery.at <= self.now).count()
    }

    /// Takes in the `nth` of those.
    pub(super) fn take_in(&mut self, nth: usize) {
        let now = self.now;
        let arrived = self.wire.iter().enumerate().filter(|(_, delivery)| delivery.at <= now);
        let Some(index) = arrived.map(|(index, _)| index).nth(nth) else { return };
        let delivery = self.wire.remove(index);
        (delivery.arrive)(self);
    }

    pub(super) fn is_stormy(&self) -> bool {
        self.now < self.plan.storm
    }

    /// Whether a fault happens that is so likely, in a thousand.
    pub(super) fn strikes(&mut self, of_a_thousand: usize) -> bool {
        self.is_stormy() && self.luck.permille(of_a_thousand)
    }

    /// The right time.
    pub(super) fn time(&self) -> Timestamp {
        at(self.now)
    }

    /// Adds a line to the trace, if there is one.
    pub(super) fn note(&mut self, line: impl FnOnce() -> String) {
        let now = self.now;
        if let Some(trace) = &mut self.trace {
            let _ = writeln!(trace, "{:>12.3} {}", now.as_secs_f64(), line());
        }
    }

    pub(super) fn trace(&mut self) -> String {
        self.trace.take().unwrap_or_default()
    }
}

/// The time of the calendar so long after the beginning.
pub(super) fn at(since_begin: Duration) -> Timestamp {
    later(Timestamp::from_second(BEGIN_S).unwrap_or(Timestamp::UNIX_EPOCH), since_begin)
}

/// The clocks of one process.
#[derive(Debug)]
pub(super) struct Hands {
    pub(super) world: Arc<World>,
    pub(super) process: Process,
    /// How far its calendar is ahead, in seconds.
    pub(super) ahead_s: i64,
}

#[async_trait]
impl Clock for Hands {
    fn now(&self) -> Timestamp {
        let right = self.world.inner().time();
        right.checked_add(SignedDuration::from_secs(self.ahead_s)).unwrap_or(right)
    }

    fn boottime(&self) -> Duration {
        self.world.inner().now
    }

    async fn sleep(&self, time: Duration) {
        let until = self.boottime() + time;
        self.world.sleep_until(self.process, until).await;
    }
}
