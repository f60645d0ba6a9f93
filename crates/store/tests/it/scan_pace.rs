// SPDX-License-Identifier: Apache-2.0
//! How soon a certificate is scanned again, however often somebody asks.

use std::time::Duration;

use cap_core::clock::until;
use cap_core::drift::{DriftState, DriftTarget};
use cap_core::job::Settlement;
use cap_core::limits::DRIFT_SCAN_AGAIN;
use cap_store::{CertificateChange, Mutation};
use cap_testkit::mongo::driver::bson::{Document, doc};

use crate::drift::{ask_for_scan, claim_scans, claimed, found, on_and_issued, set};
use crate::queue::raw;

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_that_is_asked_for_again_at_once_waits_a_little_and_is_one() {
    let (world, certificate) = on_and_issued().await;
    let claim = claimed(&world).await;
    let scanned = found(&world, &certificate, DriftState::Served, 1);
    world.store.record_drift(&claim, &scanned).await.unwrap();
    let ask = async || ask_for_scan(&world, &certificate).await;
    let first = ask().await;
    let wait = until(world.clock.now(), first.due_at.unwrap());
    assert!(wait > Duration::ZERO && wait <= DRIFT_SCAN_AGAIN, "{wait:?}");
    assert_eq!(ask().await.id, first.id, "asking again queues no other, and brings none forward");
    assert!(claim_scans(&world).await.is_empty());
    // Nor does it help to ask for the job, or to look elsewhere.
    let audit = world.row().await;
    let retried = world.store.retry_job(world.project, first.id, Mutation { audit: &audit, request: None });
    assert_eq!(retried.await.unwrap().unwrap().due_at, first.due_at);
    let elsewhere = DriftTarget { host: None, port: Some(8_443) };
    let change = CertificateChange { drift_target: Some(Some(elsewhere)), ..CertificateChange::default() };
    let (audit, now) = (world.row().await, world.clock.now());
    let mutation = Mutation { audit: &audit, request: None };
    assert!(world.store.update_certificate(certificate.id, None, change, now, mutation).await.unwrap());
    assert_eq!(ask().await.due_at, first.due_at);
    assert!(claim_scans(&world).await.is_empty());
    // The time since the last scan passes.
    let earlier = doc! { "$dateSubtract": { "startDate": "$$NOW", "unit": "minute", "amount": 1 } };
    set(&world, "certificates", doc! { "$set": { "drift_scanned_at": earlier } }).await;
    let jobs = raw(&world).await.collection::<Document>("jobs");
    let now = vec![doc! { "$set": { "claim_at": "$$NOW" } }];
    jobs.update_one(doc! { "_id": first.id.to_string() }, now).await.unwrap();
    assert_eq!(ask().await.id, first.id);
    let next = claim_scans(&world).await.remove(0);
    assert_eq!(next.job, first.id);
    assert!(next.fence > claim.fence, "{} after {}", next.fence, claim.fence);
}

/// A scan of the place that was meant before has been made, and nothing of it is stored.
#[tokio::test(flavor = "multi_thread")]
async fn a_scan_that_is_made_again_elsewhere_is_not_brought_forward() {
    let (world, certificate) = on_and_issued().await;
    let claim = claimed(&world).await;
    let elsewhere = Settlement::Again { after: DRIFT_SCAN_AGAIN, problem: None, setbacks: None };
    world.store.settle(&claim, &elsewhere, world.clock.now()).await.unwrap();
    let waits = world.store.job(world.project, claim.job).await.unwrap().unwrap().due_at;
    let asked = ask_for_scan(&world, &certificate).await;
    assert_eq!((asked.id, asked.due_at), (claim.job, waits));
}
