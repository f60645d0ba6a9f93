// SPDX-License-Identifier: Apache-2.0
//! Drills 5 and 6, short form: the database loses its primary while certificates are issued.

use std::time::Duration;

use cap_testkit::stack::Role;

use crate::bench::{self, PATIENCE, names};

#[tokio::test]
async fn the_primary_stopped_and_killed_while_issuing() {
    // A few at a time, so that there are always some under way and some to come.
    let mut options = bench::workers(2).with(Role::Worker, "CAP_WORKER_CONCURRENCY", "4");
    options.shared_mongo = false;
    options.replica_set.asks_for_passwords = true;
    let (mut stack, bench) = bench::own(options).await;
    // Each takes two seconds at least, eight at a time: whenever two of a wave are done, others are under way.
    bench.ca.set_delay(Duration::from_millis(300)).await.unwrap();
    let set = stack.infrastructure.replica_set.as_mut().unwrap();
    let (first_wave, second_wave) = (names("stopped", 15), names("killed", 15));

    let mut certificates = bench.request_each(&first_wave).await;
    bench.counted_at_least("the first to be issued", |totals| totals.finalized >= 2).await;
    let first = set.primary().await.unwrap();
    set.stop(first).await.unwrap();
    let second = set.wait_primary_other_than(first, PATIENCE).await.unwrap();
    set.restart(first).await.unwrap();

    let before = bench.ca.counts().await.unwrap().totals.finalized;
    certificates.extend(bench.request_each(&second_wave).await);
    bench.counted_at_least("two more to be issued", |totals| totals.finalized >= before + 2).await;
    set.kill(second).unwrap();
    set.wait_primary_other_than(second, PATIENCE).await.unwrap();
    set.restart(second).await.unwrap();

    let all = [first_wave, second_wave].concat();
    bench.all_valid(PATIENCE).await;
    bench.one_each(&all).await;
    bench.keys_match(&certificates).await;
}
