// SPDX-License-Identifier: Apache-2.0
//! What is renewed, when, and how often.

use std::time::Duration;

use cap_core::clock::{Clock, later, until};
use cap_runtime::clock::SystemClock;
use cap_testkit::progress::{say, skip};
use cap_testkit::wait::{self, Pending};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::world::{ISSUED_WITHIN, calm, version_number};

/// A profile of 60 s.
const SECONDS: &str = "seconds";

#[tokio::test]
async fn a_short_lived_certificate_is_renewed_by_the_leader_and_never_twice() {
    /// Looks of the leader that pass over what is due and shall not be renewed.
    const LOOKS: Duration = Duration::from_secs(3);
    let world = calm().await.read().await;
    if !world.stack.ca().flavor().profiles.iter().any(|profile| profile == SECONDS) {
        skip(
            "a_short_lived_certificate_is_renewed_..",
            "this CA has no profiles, so nothing is due before months",
        );
        return;
    }
    let (name, twin_name) = ("seconds.example.test", "twin.example.test");
    let renewed = world.request(name, SECONDS, true).await;
    let twin = world.request(twin_name, SECONDS, false).await;
    let first = world.wait_version(&renewed, 1).await;
    let twin_record = world.wait_version(&twin, 1).await;
    let (born, dies) = (time(&first["version"]["not_before"]), time(&first["version"]["not_after"]));
    let due = time(&first["renew_at"]);
    let (age, life) = (until(born, due), until(born, dies));
    assert!(age >= life * 9 / 20 && age <= life / 2 + Duration::from_secs(1), "due at {age:?} of {life:?}");

    let second = world.wait_version(&renewed, 2).await;
    assert_eq!(version_number(&second), 2);
    let issued = time(&second["version"]["issued_at"]);
    assert!(issued >= due, "renewed at {issued}, before {due}");
    say(format_args!(
        "renewed {:?} after it was due, {:?} before its end",
        until(due, issued),
        until(issued, dies)
    ));
    world.assert_issued(&renewed, name, 2).await;

    let twin_passed = later(time(&twin_record["renew_at"]), LOOKS);
    wait::until("the twin's time to pass", ISSUED_WITHIN, || async {
        if SystemClock.now() > twin_passed { Ok(()) } else { Err(Pending::not_yet(SystemClock.now())) }
    })
    .await
    .unwrap();
    world.assert_issued(&twin, twin_name, 1).await;
}

#[tokio::test]
async fn a_renewal_asked_for_by_hand_and_one_planned_are_one() {
    const NAMES: [&str; 8] = [
        "h0.example.test",
        "h1.example.test",
        "h2.example.test",
        "h3.example.test",
        "h4.example.test",
        "h5.example.test",
        "h6.example.test",
        "h7.example.test",
    ];
    /// The leader looks each second, so the asking is spread over the look before and the look after.
    const DUE_IN_MS: i64 = 1_500;
    const FIRST_ASKED_MS: u64 = 1_200;
    const APART_MS: u64 = 200;
    let world = calm().await.read().await;
    let certificates = world.issued(&NAMES).await;
    world.make_due(&certificates, DUE_IN_MS).await;
    let mut asking = JoinSet::new();
    for (certificate, k) in certificates.iter().zip(0..) {
        let (api, path) = (world.api(), world.path(&format!("certificates/{certificate}/renew")));
        asking.spawn(async move {
            tokio::time::sleep(Duration::from_millis(FIRST_ASKED_MS + k * APART_MS)).await;
            (k, api.post(&path, &json!({})).await)
        });
    }
    while let Some(asked) = asking.join_next().await {
        // A refusal is a right answer too: the certificate got its new version in that very moment.
        if let (k, Err(error)) = asked.unwrap() {
            say(format_args!("asking for h{k}: {error:#}"));
            assert!(error.to_string().contains(": 409 "), "{error:#}");
        }
    }
    for (certificate, name) in certificates.iter().zip(NAMES) {
        world.wait_version(certificate, 2).await;
        wait::until("the jobs to end", ISSUED_WITHIN, || async {
            let jobs = world.issue_jobs(certificate).await;
            if jobs.iter().all(|job| job["finished_at"].is_string()) {
                Ok(())
            } else {
                Err(Pending::not_yet(json!(jobs)))
            }
        })
        .await
        .unwrap();
        // Asked for when the planned one was done already, it is a second renewal; otherwise it is the same one.
        let versions = version_number(&world.certificate(certificate).await);
        assert!((2..=3).contains(&versions), "{name}: {versions} versions");
        world.assert_issued(certificate, name, versions).await;
    }
}

fn time(value: &Value) -> Timestamp {
    value.as_str().unwrap().parse().unwrap()
}
