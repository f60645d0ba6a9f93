// SPDX-License-Identifier: Apache-2.0
//! Many at once.

use crate::bench::{self, PATIENCE, names};

#[tokio::test]
async fn ten_at_once_then_two_hundred_with_two_workers() {
    let bench = bench::shared("load").await;
    let mut all = names("ten", 10);
    let mut certificates = bench.request_each(&all).await;
    bench.all_valid(PATIENCE).await;
    bench.one_each(&all).await;

    let more = names("two-hundred", 200);
    certificates.extend(bench.request_each(&more).await);
    bench.all_valid(PATIENCE).await;
    all.extend(more);
    let orders = bench.one_each(&all).await;
    assert_eq!(orders, 210, "without a fault nothing is ordered twice");
    bench.keys_match(&certificates[..20]).await;
}
