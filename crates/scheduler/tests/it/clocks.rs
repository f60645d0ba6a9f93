// SPDX-License-Identifier: Apache-2.0
//! Clocks that are wrong (libfaketime): nobody plans by them, and nobody has to be told when they are right again.

use std::path::Path;
use std::time::Duration;

use cap_testkit::fetch;
use cap_testkit::process::series;
use cap_testkit::scratch::Scratch;
use cap_testkit::wait::{self, Pending};
use jiff::Timestamp;

use crate::world::{PROMISED, World, version_number};

const SKEW: &str = "certautopilot_clock_skew_seconds";
/// So many looks of the planner, which looks each second, at what is due.
const LOOKS: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_leader_whose_clock_is_wrong_plans_nothing_until_it_is_right() {
    let mut world = World::start("6s").await;
    let folder = Scratch::create().unwrap();
    let clock = folder.path().join("clock");
    set(&clock, "+5m");
    let library = fetch::faketime().unwrap();
    for scheduler in &mut world.stack.schedulers {
        scheduler.set_env("LD_PRELOAD", &library.display().to_string());
        scheduler.set_env("FAKETIME_TIMESTAMP_FILE", &clock.display().to_string());
        scheduler.set_env("FAKETIME_NO_CACHE", "1");
        scheduler.set_env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        scheduler.restart().unwrap();
    }
    world.heal().await;
    let skewed = async |what: &str, expected: fn(f64) -> bool| {
        wait::until(what, PROMISED, || async {
            let leader = world.leader_after(0).await;
            let text = world.scheduler(&leader.holder).metrics().await.map_err(Pending::not_yet)?;
            match series(&text, SKEW) {
                Some(skew) if expected(skew) => Ok(()),
                other => Err(Pending::not_yet(format_args!("{other:?}"))),
            }
        })
        .await
        .unwrap();
    };
    skewed("the leader to see five minutes", |skew| (-310.0..-290.0).contains(&skew)).await;

    let certificates = world.issued(&["clocks.example.test"]).await;
    world.make_due(&certificates, 0).await;
    // By the database's clock, which is right: it is led all the while.
    let began = lease_end(&world).await;
    wait::until("the leader to have looked some times", PROMISED, || async {
        let now = lease_end(&world).await;
        if now.duration_since(began).unsigned_abs() > LOOKS { Ok(()) } else { Err(Pending::not_yet(now)) }
    })
    .await
    .unwrap();
    assert_eq!(version_number(&world.certificate(&certificates[0]).await), 1);
    assert_eq!(world.issue_jobs(&certificates[0]).await.len(), 1);

    set(&clock, "+0");
    skewed("the clocks to agree", |skew| skew.abs() < 5.0).await;
    world.wait_version(&certificates[0], 2).await;
}

async fn lease_end(world: &World) -> Timestamp {
    let cluster = world.api().get("/api/v1/cluster").await.unwrap();
    cluster["leader"]["expires_at"].as_str().unwrap().parse().unwrap()
}

fn set(clock: &Path, offset: &str) {
    // Read anew at each look at the time, so never half-written.
    let written = clock.with_extension("new");
    std::fs::write(&written, format!("{offset}\n")).unwrap();
    std::fs::rename(written, clock).unwrap();
}
