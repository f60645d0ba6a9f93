// SPDX-License-Identifier: Apache-2.0
//! Claims about readiness as a whole, with a clock of their own.

use std::sync::atomic::AtomicU64;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::Notify;

use super::*;

/// Time goes on only when the test says so; sleepers wake when it has.
#[derive(Debug, Default)]
struct Hands {
    now_ms: AtomicU64,
    moved: Notify,
}

impl Hands {
    /// Lets time pass in steps of 100 ms, giving everybody the chance to act after each.
    async fn pass(&self, time: Duration) {
        for _ in 0..time.as_millis() / 100 {
            self.now_ms.fetch_add(100, Ordering::SeqCst);
            self.moved.notify_waiters();
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
        }
    }
}

#[async_trait]
impl Clock for Hands {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    fn boottime(&self) -> Duration {
        Duration::from_millis(self.now_ms.load(Ordering::SeqCst))
    }

    async fn sleep(&self, time: Duration) {
        let end = self.boottime() + time;
        loop {
            let moved = self.moved.notified();
            if self.boottime() >= end {
                return;
            }
            moved.await;
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum World {
    Well,
    Refusing,
    Hanging,
}

struct Scripted {
    check: Check,
    world: Mutex<World>,
    pace: u32,
    tries: AtomicU64,
}

#[async_trait]
impl Probe for Scripted {
    fn check(&self) -> Check {
        self.check
    }

    fn pace(&self) -> u32 {
        self.pace
    }

    async fn probe(&self) -> Result<(), String> {
        self.tries.fetch_add(1, Ordering::SeqCst);
        let world = *self.world.lock().unwrap();
        match world {
            World::Well => Ok(()),
            World::Refusing => Err("refused".to_owned()),
            World::Hanging => std::future::pending().await,
        }
    }
}

struct Bench {
    hands: Arc<Hands>,
    readiness: Readiness,
    probe: Arc<Scripted>,
    stop: CancellationToken,
}

impl Bench {
    async fn well(check: Check) -> Self {
        Self::paced(check, 1).await
    }

    async fn paced(check: Check, pace: u32) -> Self {
        let hands = Arc::new(Hands::default());
        let readiness = Readiness::new(Arc::clone(&hands) as Arc<dyn Clock>);
        let world = Mutex::new(World::Well);
        let probe = Arc::new(Scripted { check, world, pace, tries: AtomicU64::new(0) });
        let stop = CancellationToken::new();
        readiness.watch(Arc::clone(&probe) as Arc<dyn Probe>, stop.clone());
        assert!(!readiness.ready(), "nothing is known yet");
        let bench = Self { hands, readiness, probe, stop };
        bench.pass_s(1).await;
        assert!(bench.readiness.ready());
        bench
    }

    fn turn(&self, world: World) {
        *self.probe.world.lock().unwrap() = world;
    }

    async fn pass_s(&self, seconds: u64) {
        self.hands.pass(Duration::from_secs(seconds)).await;
    }
}

#[tokio::test]
async fn a_lost_database_shows_within_five_seconds_and_its_return_by_itself() {
    for (loss, pace) in [World::Refusing, World::Hanging].into_iter().flat_map(|loss| [(loss, 1), (loss, 2)])
    {
        let bench = Bench::paced(Check::Mongo, pace).await;
        bench.turn(loss);
        bench.pass_s(5).await;
        assert!(!bench.readiness.ready(), "{loss:?}, pace {pace}");
        bench.turn(World::Well);
        bench.pass_s(5).await;
        assert!(bench.readiness.ready(), "{loss:?}, pace {pace}");
    }
}

#[tokio::test]
async fn one_slow_answer_makes_nobody_unready() {
    for slow in [World::Refusing, World::Hanging] {
        let bench = Bench::well(Check::Mongo).await;
        // From when a try begins until the next one is due after it: longer than the bound of one.
        bench.turn(slow);
        for _ in 0..20 {
            bench.hands.pass(Duration::from_millis(100)).await;
            assert!(bench.readiness.ready(), "{slow:?}");
        }
        bench.turn(World::Well);
        for _ in 0..50 {
            bench.hands.pass(Duration::from_millis(100)).await;
            assert!(bench.readiness.ready(), "{slow:?}");
        }
    }
}

#[tokio::test]
async fn a_probe_of_half_the_pace_is_asked_half_as_often() {
    let mut tries = Vec::new();
    for pace in [1, 2] {
        let bench = Bench::paced(Check::Mongo, pace).await;
        let before = bench.probe.tries.load(Ordering::SeqCst);
        bench.pass_s(60).await;
        tries.push(bench.probe.tries.load(Ordering::SeqCst) - before);
    }
    assert_eq!(tries, [60, 30]);
}

#[tokio::test]
async fn a_lost_kek_shows_after_thirty_seconds_of_failure_and_not_before() {
    for loss in [World::Refusing, World::Hanging] {
        let bench = Bench::well(Check::Kek).await;
        bench.turn(loss);
        bench.pass_s(30).await;
        assert!(bench.readiness.ready(), "{loss:?}");
        bench.pass_s(11).await;
        assert!(!bench.readiness.ready(), "{loss:?}");
        assert!(bench.readiness.findings(&[Check::Kek]).iter().all(|found| found.fault.is_none()));
        bench.turn(World::Well);
        bench.pass_s(8).await;
        assert!(bench.readiness.ready(), "{loss:?}");
    }
}

#[tokio::test]
async fn shutting_down_counts_at_once() {
    let bench = Bench::well(Check::Mongo).await;
    bench.readiness.shut_down();
    assert!(!bench.readiness.ready());
    let shown: Vec<_> = bench.readiness.findings(&[]).iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["[+]mongo ok", "[-]shutdown failed: the process is shutting down"]);
}

#[tokio::test]
async fn an_expected_check_that_nobody_probes_keeps_the_process_unready() {
    let readiness = Readiness::new(Arc::new(Hands::default()));
    assert!(readiness.ready());
    readiness.expect(Check::Schema);
    assert!(!readiness.ready());
}

#[tokio::test]
async fn probing_ends_when_told() {
    let bench = Bench::well(Check::Mongo).await;
    bench.stop.cancel();
    bench.pass_s(1).await;
    assert_eq!(Arc::strong_count(&bench.probe), 1, "the task has let go of the probe");
}
