// SPDX-License-Identifier: Apache-2.0
//! Clocks that are wrong (libfaketime): nobody leads by them, and nobody has to be told when they are right again.

use std::path::Path;

use cap_testkit::fetch;
use cap_testkit::process::series;
use cap_testkit::scratch::Scratch;
use cap_testkit::wait::{self, Pending};

use crate::world::{PROMISED, World, version_number};

const SKEW: &str = "certautopilot_clock_skew_seconds";
const TWO_DAYS_S: f64 = 172_800.0;
/// How often the lead changes hands among those who may not have it.
const TURNS: i64 = 6;

#[tokio::test]
async fn who_has_a_wrong_clock_leaves_the_lead_and_where_all_are_wrong_nothing_is_planned() {
    let mut world = World::start("3s").await;
    let folder = Scratch::create().unwrap();
    let library = fetch::faketime().unwrap();
    let clock_of = |name: &str| folder.path().join(name);
    for scheduler in &mut world.stack.schedulers {
        let clock = clock_of(scheduler.name());
        set(&clock, "+0");
        scheduler.set_env("LD_PRELOAD", &library.display().to_string());
        scheduler.set_env("FAKETIME_TIMESTAMP_FILE", &clock.display().to_string());
        scheduler.set_env("FAKETIME_NO_CACHE", "1");
        scheduler.set_env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        scheduler.restart().unwrap();
    }
    let first = world.heal().await;
    let certificates = world.issued(&["clocks.example.test"]).await;
    set(&clock_of(&first.holder), "+5m");
    // It may win again, and leaves again: who plans is another.
    let second = world.leader_other_than(&first.holder).await;
    world.make_due(&certificates, 0).await;
    world.wait_version(&certificates[0], 2).await;
    assert!(world.planned_in(&certificates[0]).await >= second.epoch);

    for scheduler in &world.stack.schedulers {
        set(&clock_of(scheduler.name()), "-2d");
    }
    for scheduler in &world.stack.schedulers {
        let what = format!("{} to see that it is two days behind", scheduler.name());
        wait::until(&what, PROMISED * 2, || async {
            let text = scheduler.metrics().await.map_err(Pending::not_yet)?;
            match series(&text, SKEW) {
                Some(skew) if (skew - TWO_DAYS_S).abs() < 10.0 => Ok(()),
                other => Err(Pending::not_yet(format_args!("{other:?}"))),
            }
        })
        .await
        .unwrap();
    }
    world.make_due(&certificates, 0).await;
    // Each has its turn, and leaves it.
    let epoch = world.epoch().await;
    wait::until("some turns", PROMISED * 2, || async {
        let now = world.epoch().await;
        if now >= epoch + TURNS { Ok(()) } else { Err(Pending::not_yet(now)) }
    })
    .await
    .unwrap();
    assert_eq!(version_number(&world.certificate(&certificates[0]).await), 2);
    assert_eq!(world.issue_jobs(&certificates[0]).await.len(), 2);

    for scheduler in &world.stack.schedulers {
        set(&clock_of(scheduler.name()), "+0");
    }
    world.wait_version(&certificates[0], 3).await;
}

fn set(clock: &Path, offset: &str) {
    // Read anew at each look at the time, so never half-written.
    let written = clock.with_extension("new");
    std::fs::write(&written, format!("{offset}\n")).unwrap();
    std::fs::rename(written, clock).unwrap();
}
