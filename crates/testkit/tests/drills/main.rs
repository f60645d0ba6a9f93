// SPDX-License-Identifier: Apache-2.0
//! The short form of every drill; `cargo xtask drill` runs the long one. Needs our binaries: `cargo xtask test` builds
//! them.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the answer")]

mod checks;

use std::time::Instant;

use cap_testkit::ca::CaKind;
use cap_testkit::drill::{self, Figures, Form};
use cap_testkit::fetch;
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
    worker_kill = "worker-kill",
    failpoints = "failpoints",
    zombie_worker = "zombie-worker",
    leader = "leader",
    primary_stepdown = "primary-stepdown",
    primary_kill = "primary-kill",
    primary_pause = "primary-pause",
    partition = "partition",
    quorum_loss = "quorum-loss",
    rollback = "rollback",
    clock = "clock",
    disk_full = "disk-full",
    ca_faults = "ca-faults",
    bad_nonces = "bad-nonces",
}

/// A second opinion: other states, other texts, and 500 for an answer now and then.
#[tokio::test(flavor = "multi_thread")]
async fn workers_are_killed_while_step_ca_issues() {
    const KILLS: u32 = 5;
    if !fetch::can_have_step_ca() {
        say("there is neither step-ca nor Go to build it: no drill is run against it");
        return;
    }
    let _room = ROOM.acquire().await.unwrap();
    let drill = drill::find("worker-kill").unwrap();
    let run = drill::Run { form: Form::Short, count: KILLS, ca: CaKind::StepCa };
    let figures = (drill.run)(run).await.unwrap();
    say(format_args!("drill worker-kill against step-ca: {figures}"));
    assert!(figures.are_met(), "{figures}");
}

/// A drill of a system that does without a guard misses this figure: it would find that.
async fn misses(what: &str, drill: impl Future<Output = anyhow::Result<Figures>>, figure: &str) {
    let _room = ROOM.acquire().await.unwrap();
    let figures = drill.await.unwrap();
    say(format_args!("drill {what}: {figures}"));
    assert!(!figures.get(figure).unwrap().is_met() && !figures.are_met(), "{figures}");
}

const ONCE: drill::Run = drill::Run { form: Form::Short, count: 1, ca: CaKind::Pebble };

#[tokio::test(flavor = "multi_thread")]
async fn without_majority_writes_the_rollback_drill_finds_what_is_lost() {
    let drill = drill::rollback_without_majority(ONCE);
    misses("rollback without majority writes", drill, "acknowledged writes lost").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_gate_the_quorum_loss_drill_finds_who_is_let_in() {
    let drill = drill::quorum_loss_without_gate(ONCE);
    misses("quorum-loss without the gate", drill, "refused after (longest)").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_epoch_the_leader_drill_finds_what_was_written_out_of_turn() {
    let drill = drill::leader_without_epoch(ONCE);
    misses("leader without the epoch", drill, "writes of a leader that was overtaken").await;
}
