// SPDX-License-Identifier: Apache-2.0
//! A full worker claims nothing: what it has no place for stays in the queue, for others, and takes none of its memory.

use std::cell::Cell;
use std::time::Duration;

use cap_testkit::stack::Role;
use cap_testkit::wait::{self, Pending};

use crate::bench::{self, PATIENCE, names};

/// Jobs at the CA at once.
const CONCURRENCY: usize = 2;
/// Jobs in hand at most: as many before the CA, and as many behind it.
const IN_HAND: usize = 3 * CONCURRENCY;
const ASKED: usize = 40;

#[tokio::test]
async fn a_full_worker_claims_nothing() {
    let options = bench::workers(1).with(Role::Worker, "CAP_WORKER_CONCURRENCY", &CONCURRENCY.to_string());
    let (stack, bench) = bench::own(options).await;
    let idle_mib = stack.workers[0].peak_mib().unwrap();
    // An answer of the CA takes so long that whoever is there stays while the queue is looked at.
    bench.ca.set_delay(Duration::from_millis(500)).await.unwrap();
    let asked = names("full", ASKED);
    bench.request_each(&asked).await;
    let (most, stays_queued) = (Cell::new(0), Cell::new(0));
    wait::until("the worker to be full, and still full after some issuances", PATIENCE, async || {
        let jobs = bench.jobs().await;
        let count = |state: &str| jobs.iter().filter(|job| job["state"] == state).count();
        let (running, queued, done) = (count("running"), count("queued"), count("succeeded"));
        assert!(running <= IN_HAND, "{running} jobs are in hand, and {queued} wait");
        most.set(running.max(most.get()));
        stays_queued.set(queued.max(stays_queued.get()));
        if done >= 3 * CONCURRENCY { Ok(()) } else { Err(Pending::not_yet(format_args!("{done} are done"))) }
    })
    .await
    .unwrap();
    let (most, stays_queued) = (most.get(), stays_queued.get());
    assert!(most >= 2 * CONCURRENCY, "it was never full: {most}");
    assert!(stays_queued >= ASKED - IN_HAND, "{stays_queued}");
    bench.ca.set_delay(Duration::ZERO).await.unwrap();
    bench.all_valid(PATIENCE).await;
    bench.one_each(&asked).await;
    let peak_mib = stack.workers[0].peak_mib().unwrap();
    println!("at most {most} of {ASKED} jobs in hand; idle {idle_mib} MiB, at most {peak_mib} MiB");
    assert!(peak_mib <= 2 * idle_mib, "idle {idle_mib} MiB, at most {peak_mib} MiB");
}
