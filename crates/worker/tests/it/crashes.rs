// SPDX-License-Identifier: Apache-2.0
//! Drills 1 and 3, short forms: workers killed and workers paused while they issue.

use std::time::Duration;

use cap_core::fault::Mutant;
use cap_testkit::process::{Signal, series};
use cap_testkit::scratch::Scratch;
use cap_testkit::stack::{Role, Stack};
use cap_testkit::wait::{self, Pending};

use crate::bench::{self, Bench, PATIENCE, names};

/// Jobs in flight in one worker: what one kill can leave behind at the CA.
const CONCURRENCY: usize = 6;
/// A worker dies when this many certificates were issued. Each is followed by more than a worker has in flight.
const KILLS_AT: [u64; 4] = [3, 12, 20, 28];

#[tokio::test]
async fn a_worker_killed_at_random_while_many_are_issued() {
    let options = bench::workers(2).with(Role::Worker, "CAP_WORKER_CONCURRENCY", &CONCURRENCY.to_string());
    let (mut stack, bench) = bench::own(options).await;
    // So that requests are in flight when a worker dies.
    bench.ca.set_delay(Duration::from_millis(30)).await.unwrap();
    let all = names("killed", 40);
    let certificates = bench.request_each(&all).await;
    let mut luck = Luck(20_260_917);
    for issued in KILLS_AT {
        let what = format!("{issued} certificates to be issued");
        bench.counted_at_least(&what, |totals| totals.finalized >= issued).await;
        // Anywhere within a round of requests.
        tokio::time::sleep(Duration::from_millis(luck.below(200))).await;
        let victim = &mut stack.workers[usize::from(luck.below(2) == 1)];
        victim.kill9().unwrap();
        victim.restart().unwrap();
    }
    bench.all_valid(PATIENCE).await;
    let orders = bench.one_each(&all).await;
    bench.keys_match(&certificates).await;
    // A worker that dies between the CA's answer and its record leaves that order behind, once for each job that it
    // had in flight just there.
    let kills = KILLS_AT.len();
    let bound = u64::try_from(all.len() + kills * CONCURRENCY).unwrap();
    assert!(orders <= bound, "{orders} orders after {kills} kills");
}

const ZOMBIE: usize = 0;
const PEER: usize = 1;

/// Has a worker stop at `point`, just before a write, and its peer finish the job once the lease is over; answers the
/// certificate's id. The zombie writes as soon as it goes on: nothing tells it that it slept.
async fn overtake(stack: &mut Stack, bench: &Bench, name: &str, point: &str) -> String {
    let folder = Scratch::create().unwrap();
    let hits = folder.path().join("hits");
    stack.workers[PEER].kill9().unwrap();
    stack.workers[ZOMBIE].set_env("CAP_DRILL_STOP", point);
    stack.workers[ZOMBIE].set_env("CAP_DRILL_HITS", &hits.display().to_string());
    stack.workers[ZOMBIE].restart().unwrap();
    let certificate = bench.request(name).await;
    wait::until(&format!("the worker to stop at {point}"), PATIENCE, || async {
        let passed = std::fs::read_to_string(&hits).map_err(Pending::not_yet)?;
        if passed.lines().last() == Some(point) { Ok(()) } else { Err(Pending::not_yet(passed)) }
    })
    .await
    .unwrap();
    stack.workers[PEER].restart().unwrap();
    bench.valid(&certificate).await;
    certificate
}

#[tokio::test]
async fn a_zombie_worker_writes_nothing() {
    let (mut stack, bench) = bench::own(bench::workers(2)).await;
    for point in [
        "open.before",
        "record-ordered.before",
        "record-challenged.before",
        "record-ready.before",
        "record-issued.before",
    ] {
        let name = format!("{}.example.test", point.replace('.', "-"));
        let certificate = overtake(&mut stack, &bench, &name, point).await;
        let before = (bench.get(&certificate).await, bench.order(&stack, &certificate).await);

        let zombie = &stack.workers[ZOMBIE];
        zombie.signal(Signal::CONT).unwrap();
        wait::until("the zombie to give up", PATIENCE, || async {
            let text = zombie.metrics().await.map_err(Pending::not_yet)?;
            let refused = series(&text, "certautopilot_fenced_writes_refused_total");
            let running = series(&text, "certautopilot_jobs_running");
            match (refused, running) {
                (Some(1.0), Some(0.0)) => Ok(()),
                seen => Err(Pending::not_yet(format_args!("{seen:?}"))),
            }
        })
        .await
        .unwrap();
        let text = zombie.metrics().await.unwrap();
        let outcome = |word| format!("certautopilot_jobs_total{{kind=\"issue\",outcome=\"{word}\"}}");
        assert_eq!(series(&text, &outcome("lost")), Some(1.0), "{point}");
        assert_eq!(series(&text, &outcome("succeeded")), Some(0.0), "{point}");

        let after = (bench.get(&certificate).await, bench.order(&stack, &certificate).await);
        assert_eq!(after, before, "{point}: nothing of the records changed");
        let versions = bench.api.get(&bench.path(&format!("certificates/{certificate}/versions"))).await;
        assert_eq!(versions.unwrap()["items"].as_array().unwrap().len(), 1, "{point}");
        let counted = bench.counted(&name).await;
        assert_eq!((counted.finalized, counted.certificates), (1, 1), "{point}: {counted:?}");
        assert!(counted.orders <= 2, "{point}: {counted:?}");
    }
}

/// The drill above is worth something: without the fence the zombie does write.
#[tokio::test]
async fn a_zombie_worker_without_the_fence_overwrites_what_its_peer_wrote() {
    let (mut stack, bench) = bench::own(bench::workers(2)).await;
    stack.workers[ZOMBIE].set_env("CAP_DRILL_MUTANT", Mutant::NoFence.name());
    let certificate = overtake(&mut stack, &bench, "no-fence.example.test", "record-ordered.before").await;
    let before = bench.order(&stack, &certificate).await;
    stack.workers[ZOMBIE].signal(Signal::CONT).unwrap();
    wait::until("the zombie to overwrite the order", PATIENCE, || async {
        let now = bench.order(&stack, &certificate).await;
        if now == before { Err(Pending::not_yet("it is as the peer left it")) } else { Ok(()) }
    })
    .await
    .unwrap();
}

/// The same on every machine (splitmix64).
struct Luck(u64);

impl Luck {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}
