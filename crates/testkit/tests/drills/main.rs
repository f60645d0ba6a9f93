// SPDX-License-Identifier: Apache-2.0
//! The short form of every drill; `cargo xtask drill` runs the long one. Needs our binaries: `cargo xtask test` builds
//! them.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the answer")]

mod checks;

use std::time::Instant;

use cap_testkit::drill::{self, Form};
use cap_testkit::progress::say;
use tokio::sync::Semaphore;

/// One drill at a time, whatever the number of test threads: each measures times on a whole system.
static ROOM: Semaphore = Semaphore::const_new(1);

/// Runs the drill of this name and fails with its figures.
async fn run(name: &str) {
    let _room = ROOM.acquire().await.unwrap();
    let drill = drill::find(name).unwrap();
    let began = Instant::now();
    let figures = (drill.run)(drill.usual(Form::Short)).await.unwrap();
    say(format_args!("drill {name}, {:.0} s: {figures}", began.elapsed().as_secs_f64()));
    assert!(figures.are_met(), "drill {name}: {figures}");
}

/// Each as a test of its name.
macro_rules! drills {
    ($($test:ident = $name:literal),* $(,)?) => {
        $(#[tokio::test(flavor = "multi_thread")]
        async fn $test() {
            run($name).await;
        })*

        #[test]
        fn every_drill_has_its_test_here() {
            let listed: Vec<&str> = drill::ALL.iter().map(|drill| drill.name).collect();
            assert_eq!(listed, [$($name),*]);
        }
    };
}

drills! {
    leader = "leader",
    primary_stepdown = "primary-stepdown",
    primary_kill = "primary-kill",
    primary_pause = "primary-pause",
    partition = "partition",
    quorum_loss = "quorum-loss",
    rollback = "rollback",
    clock = "clock",
    disk_full = "disk-full",
}

#[tokio::test(flavor = "multi_thread")]
async fn without_majority_writes_the_rollback_drill_finds_what_is_lost() {
    let _room = ROOM.acquire().await.unwrap();
    let run = drill::Run { form: Form::Short, count: 1 };
    let figures = drill::rollback_without_majority(run).await.unwrap();
    say(format_args!("drill rollback without majority writes: {figures}"));
    let lost = figures.get("acknowledged writes lost").unwrap();
    assert!(lost.value > 0.0 && !figures.are_met(), "{figures}");
}
