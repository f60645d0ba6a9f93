// SPDX-License-Identifier: Apache-2.0
//! A worker that is asked to stop hands back what it holds; one that is killed cannot.

use std::time::{Duration, Instant};

use cap_testkit::process::Signal;
use cap_testkit::stack::Role;

use crate::bench::{self, PATIENCE, names};

/// A lease that no test waits for.
const LEASE: Duration = Duration::from_secs(60);
/// A worker extends a lease when a quarter of it is over, so three quarters are always left.
const LEASE_LEFT: Duration = Duration::from_secs(45);
/// The default of `CAP_SHUTDOWN_GRACE`.
const GRACE: Duration = Duration::from_secs(45);

#[tokio::test]
async fn sigterm_hands_leases_back_at_once() {
    let lease = format!("{}s", LEASE.as_secs());
    let (mut stack, bench) = bench::own(bench::workers(2).with(Role::Worker, "CAP_JOB_LEASE", &lease)).await;
    stack.workers[1].kill9().unwrap();
    // Each issuance takes eight requests: they are under way until the delay ends.
    bench.ca.set_delay(Duration::from_secs(2)).await.unwrap();
    let in_flight = names("in-flight", 8);
    bench.request_each(&in_flight).await;
    bench.running(in_flight.len()).await;
    stack.workers[1].restart().unwrap();
    stack.workers[1].wait_ready(PATIENCE).await.unwrap();

    // More come in while it stops: what it is just claiming must not be lost to its lease either.
    let arriving = names("arriving", 24);
    let asked = Instant::now();
    let (_, code) = tokio::join!(bench.request_each(&arriving), async {
        stack.workers[0].signal(Signal::TERM).unwrap();
        let code = stack.workers[0].wait_exit(GRACE).await;
        bench.ca.set_delay(Duration::ZERO).await.unwrap();
        code
    });
    assert_eq!(code.unwrap(), Some(0), "a clean drain");
    bench.all_valid(LEASE_LEFT.saturating_sub(asked.elapsed())).await;
    let all = [in_flight, arriving].concat();
    let orders = bench.one_each(&all).await;
    assert_eq!(
        orders,
        u64::try_from(all.len()).unwrap(),
        "what was handed back was resumed, not ordered again"
    );
    let again = bench.jobs().await.iter().filter(|job| job["attempt"].as_i64() > Some(1)).count();
    assert!(again > 0, "nothing was in flight: this test proves nothing");

    // The negative twin: after a SIGKILL the leases stand, with nobody behind them.
    bench.ca.set_delay(Duration::from_secs(2)).await.unwrap();
    let killed = names("killed", 4);
    bench.request_each(&killed).await;
    bench.running(killed.len()).await;
    stack.workers[1].kill9().unwrap();
    stack.workers[0].restart().unwrap();
    stack.workers[0].wait_ready(PATIENCE).await.unwrap();
    bench.running(killed.len()).await;
}
