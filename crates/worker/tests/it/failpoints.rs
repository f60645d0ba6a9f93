// SPDX-License-Identifier: Apache-2.0
//! Drill 2, short form: a worker dies at every failpoint once, and a peer finishes.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use cap_core::fault::POINTS;
use cap_testkit::scratch::Scratch;

use crate::bench::{self, PATIENCE};

/// Between these two the CA has made the order and nobody has written down where it is: whoever resumes places
/// another, and one is left behind.
const UNKNOWN_ORDER: [&str; 2] = ["new-order.after", "record-ordered.before"];
/// How long MongoDB itself would keep the locks of a victim that dies within a transaction.
const TRANSACTION_LIFE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_worker_killed_at_any_failpoint_leaves_one_certificate_and_one_order() {
    let (mut stack, bench) = bench::own(bench::workers(2)).await;
    let folder = Scratch::create().unwrap();
    let probe = folder.path().join("probe");
    stack.workers[0].set_env("CAP_DRILL_HITS", &probe.display().to_string());
    stack.workers[0].restart().unwrap();
    stack.workers[0].wait_ready(PATIENCE).await.unwrap();
    assert!(probe.is_file(), "these binaries have no failpoints: build them with --all-features");
    for worker in &stack.workers {
        worker.kill9().unwrap();
    }
    let mut reported = BTreeSet::new();
    let mut certificates = Vec::new();
    for point in POINTS {
        let name = format!("{}.example.test", point.replace('.', "-"));
        let hits = folder.path().join(&name);
        let victim = &mut stack.workers[0];
        victim.set_env("CAP_DRILL_KILL", point);
        victim.set_env("CAP_DRILL_HITS", &hits.display().to_string());
        victim.restart().unwrap();
        let certificate = bench.request(&name).await;
        let code = victim.wait_exit(PATIENCE).await.unwrap();
        assert_eq!(code, None, "{point}: ended by a signal");
        let died = Instant::now();
        let passed = passed(&hits);
        assert_eq!(passed.last().map(String::as_str), Some(*point), "died there, and nowhere before");
        reported.extend(passed);
        assert_eq!(bench.counted(&name).await.finalized, u64::from(is_finalized(point)), "{point}");

        let peer = &mut stack.workers[1];
        peer.restart().unwrap();
        bench.valid(&certificate).await;
        assert!(died.elapsed() < TRANSACTION_LIFE, "{point}: the database had to clear up after the victim");
        let counted = bench.counted(&name).await;
        assert_eq!((counted.finalized, counted.certificates), (1, 1), "{point}: {counted:?}");
        let left_behind = u64::from(UNKNOWN_ORDER.contains(point));
        assert_eq!(counted.orders, 1 + left_behind, "{point}");
        peer.kill9().unwrap();
        certificates.push(certificate);
    }
    let every: BTreeSet<String> = POINTS.iter().map(ToString::to_string).collect();
    assert_eq!(reported, every);
    bench.keys_match(&certificates).await;
    let jobs = bench.jobs().await;
    assert_eq!(jobs.len(), POINTS.len());
    assert!(jobs.iter().all(|job| job["state"] == "succeeded"), "{jobs:?}");
}

/// Whether the CA issues although a worker dies there.
fn is_finalized(point: &str) -> bool {
    let position = |name| POINTS.iter().position(|known| *known == name);
    position(point) >= position("finalize.after")
}

fn passed(hits: &Path) -> Vec<String> {
    std::fs::read_to_string(hits).unwrap().lines().map(str::to_owned).collect()
}
