// SPDX-License-Identifier: Apache-2.0
//! The whole system, as a test of any crate may start it. Needs our binaries: `cargo xtask test` builds them.

use std::time::Duration;

use cap_testkit::process::Signal;
use cap_testkit::stack::{Demo, Role, Stack, StackOptions};

/// A drain without work in flight.
const DRAIN_LIMIT_SECONDS: u64 = 20;
const READY_LIMIT_SECONDS: u64 = 60;

#[tokio::test]
async fn a_stack_issues_also_after_its_services_were_killed_and_restarted() {
    let options = StackOptions::for_test().with(Role::Worker, "CAP_WORKER_CONCURRENCY", "4");
    let mut stack = Stack::start(options).await.unwrap();
    let api = stack.client(0).unwrap();
    let demo = Demo::create(&api, stack.ca(), "demo", "local-ca").await.unwrap();
    let first = demo.request(&api, &["first.example.test"]).await.unwrap();
    demo.wait_valid(&api, &first).await.unwrap();
    assert!(demo.download(&api, &first).await.unwrap().contains("BEGIN CERTIFICATE"));

    let limit = Duration::from_secs(READY_LIMIT_SECONDS);
    for service in [&mut stack.workers[0], &mut stack.schedulers[0]] {
        service.kill9().unwrap();
        service.restart().unwrap();
        service.wait_ready(limit).await.unwrap();
    }
    let second = demo.request(&api, &["second.example.test"]).await.unwrap();
    demo.wait_valid(&api, &second).await.unwrap();
    let counts = stack.ca().counts().await.unwrap();
    assert_eq!((counts.totals.finalized, counts.totals.certificates), (2, 2), "{counts:?}");

    let worker = &stack.workers[0];
    worker.signal(Signal::TERM).unwrap();
    let code = worker.wait_exit(Duration::from_secs(DRAIN_LIMIT_SECONDS)).await.unwrap();
    assert_eq!(code, Some(0), "{}", worker.process().log_tail());
}

#[tokio::test]
async fn a_service_that_refuses_its_settings_is_shown_with_its_words() {
    let options = StackOptions::for_test().with(Role::Scheduler, "CAP_SCHEDULER_LEASE", "soon");
    let error = format!("{:#}", Stack::start(options).await.unwrap_err());
    assert!(error.contains("scheduler-0") && error.contains("CAP_SCHEDULER_LEASE"), "{error}");
}
