// SPDX-License-Identifier: Apache-2.0
//! Drills 1 and 3, short forms: workers killed and workers paused while they issue.

use std::time::Duration;

use cap_testkit::ca::NameSetCounts;
use cap_testkit::process::{Signal, series};
use cap_testkit::stack::Role;
use cap_testkit::wait::{self, Pending};

use crate::bench::{self, PATIENCE, names};

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

#[tokio::test]
async fn a_zombie_worker_writes_nothing() {
    let (mut stack, bench) = bench::own(bench::workers(2)).await;
    type Came = fn(NameSetCounts) -> bool;
    let moments: [(&str, Came); 2] = [
        ("it has ordered", |counted| counted.orders > 0),
        ("it has finalized", |counted| counted.finalized > 0),
    ];
    let mut lost = 0.0;
    for (round, (moment, came)) in moments.into_iter().enumerate() {
        let (zombie, peer) = (0, 1);
        stack.workers[peer].kill9().unwrap();
        // The CA acts at once and answers late: the zombie stops with the answer on its way.
        bench.ca.set_delay(Duration::from_millis(700)).await.unwrap();
        let name = format!("zombie-{round}.example.test");
        let certificate = bench.request(&name).await;
        wait::until(moment, PATIENCE, || async {
            let counts = bench.ca.counts().await.map_err(Pending::not_yet)?;
            if came(counts.of(&[&name])) { Ok(()) } else { Err(Pending::not_yet("it has not")) }
        })
        .await
        .unwrap();
        stack.workers[zombie].signal(Signal::STOP).unwrap();
        bench.ca.set_delay(Duration::ZERO).await.unwrap();
        stack.workers[peer].restart().unwrap();
        let before = bench.valid(&certificate).await;

        stack.workers[zombie].signal(Signal::CONT).unwrap();
        wait::until("the zombie to give up", PATIENCE, || async {
            let text = stack.workers[zombie].metrics().await.unwrap();
            let refused = series(&text, "certautopilot_fenced_writes_refused_total");
            let running = series(&text, "certautopilot_jobs_running");
            match (refused, running) {
                (Some(refused), Some(0.0)) if refused > lost => Ok(()),
                seen => Err(Pending::not_yet(format_args!("{seen:?}"))),
            }
        })
        .await
        .unwrap();
        lost += 1.0;
        let text = stack.workers[zombie].metrics().await.unwrap();
        let outcome = |word| format!("certautopilot_jobs_total{{kind=\"issue\",outcome=\"{word}\"}}");
        assert_eq!(series(&text, &outcome("lost")), Some(lost));
        assert_eq!(series(&text, &outcome("succeeded")), Some(0.0));

        let after = bench.api.get(&bench.path(&format!("certificates/{certificate}"))).await.unwrap();
        assert_eq!(after, before, "nothing of the record changed");
        let versions = bench.api.get(&bench.path(&format!("certificates/{certificate}/versions"))).await;
        assert_eq!(versions.unwrap()["items"].as_array().unwrap().len(), 1);
        let counted = bench.counted(&name).await;
        assert_eq!((counted.finalized, counted.certificates), (1, 1), "{moment}: {counted:?}");
        assert!(counted.orders <= 2, "{moment}: {counted:?}");
    }
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
