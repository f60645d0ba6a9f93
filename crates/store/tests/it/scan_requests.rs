// SPDX-License-Identifier: Apache-2.0
//! Scans that somebody asks for while one is under way.

use cap_core::drift::DriftState;
use cap_core::job::JobState;
use cap_testkit::mongo::driver::bson::doc;

use crate::drift::{ask_for_scan, claim_scans, claimed, found, on_and_issued, read, set, state_of_job};

/// Whoever asks has changed something, which the look that is under way may have missed.
#[tokio::test(flavor = "multi_thread")]
async fn a_scan_that_is_asked_for_while_one_runs_is_made_behind_it_and_once() {
    let (world, certificate) = on_and_issued().await;
    let claim = claimed(&world).await;
    let asked = ask_for_scan(&world, &certificate).await;
    assert_eq!(asked.id, claim.job);
    world.store.record_drift(&claim, &found(&world, &certificate, DriftState::Drifted, 1)).await.unwrap();
    assert_eq!(state_of_job(&world, &claim).await, JobState::Queued);
    assert_eq!(
        read(&world, certificate.id).await.drift.state,
        Some(DriftState::Drifted),
        "what it saw counts"
    );
    assert!(claim_scans(&world).await.is_empty(), "not at once");
    set(&world, "jobs", doc! { "$set": { "claim_at": { "$cond": ["$alive", "$$NOW", "$$REMOVE"] } } }).await;
    let again = claim_scans(&world).await.remove(0);
    assert_eq!(again.job, claim.job);
    world.store.record_drift(&again, &found(&world, &certificate, DriftState::Served, 1)).await.unwrap();
    assert_eq!(state_of_job(&world, &claim).await, JobState::Succeeded);
    assert_eq!(read(&world, certificate.id).await.drift.state, Some(DriftState::Served));
}

/// A scan that is claimed anew begins anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_scan_that_was_asked_for_while_a_worker_made_it_that_died_is_made_once_more_and_not_twice() {
    let (world, certificate) = on_and_issued().await;
    let claim = claimed(&world).await;
    ask_for_scan(&world, &certificate).await;
    set(&world, "jobs", doc! { "$set": { "claim_at": { "$cond": ["$alive", "$$NOW", "$$REMOVE"] } } }).await;
    let again = claim_scans(&world).await.remove(0);
    assert_eq!((again.job, again.lost), (claim.job, 1));
    world.store.record_drift(&again, &found(&world, &certificate, DriftState::Served, 1)).await.unwrap();
    assert_eq!(state_of_job(&world, &claim).await, JobState::Succeeded);
}
