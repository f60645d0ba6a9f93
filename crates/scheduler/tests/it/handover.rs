// SPDX-License-Identifier: Apache-2.0
//! Leaders that are killed or stand still: another takes over, and what is due is renewed once.

use std::time::Instant;

use cap_testkit::process::{Service, Signal};
use cap_testkit::wait::{self, Pending};

use crate::world::{PROMISED, metric, stormy, wait_metric};

const LEADER: &str = "certautopilot_leader";
const TERMS: &str = "certautopilot_leader_transitions_total";
const PLANNED: &str = "certautopilot_renewals_planned_total";

#[tokio::test]
async fn a_killed_leader_is_replaced_within_its_lease() {
    let mut world = stormy().await.write().await;
    let first = world.heal().await;
    let began = Instant::now();
    world.scheduler(&first.holder).kill9().unwrap();
    let (next, _) = world.takeover(&first, began, "SIGKILL, lease 3 s").await;
    assert!(next.epoch > first.epoch && next.holder != first.holder, "{first:?}, {next:?}");
    wait_metric(world.scheduler(&next.holder), LEADER, 1.0).await;
}

#[tokio::test]
async fn a_paused_leader_acts_no_more() {
    let mut world = stormy().await.write().await;
    let names = ["p1.example.test", "p2.example.test", "p3.example.test", "p4.example.test"];
    let certificates = world.issued(&names).await;
    let (before, after) = certificates.split_at(2);
    let first = world.heal().await;
    let old = world.scheduler(&first.holder);

    // Stopped while it may be at it: whether it has read, planned or committed them differs from run to run.
    let terms = metric(old, TERMS).await.unwrap();
    world.make_due(before, 0).await;
    let began = Instant::now();
    assert!(old.signal(Signal::STOP).unwrap());
    let (next, _) = world.takeover(&first, began, "SIGSTOP, lease 3 s").await;
    assert!(old.process().id().is_paused());
    for certificate in before {
        world.wait_version(certificate, 2).await;
    }

    assert!(old.signal(Signal::CONT).unwrap());
    wait_term_over(old, terms).await;
    let planned = metric(old, PLANNED).await.unwrap();
    world.make_due(after, 0).await;
    for certificate in after {
        world.wait_version(certificate, 2).await;
        assert!(world.planned_in(certificate).await >= next.epoch);
    }
    // On a starved machine it may have been elected anew meanwhile, and then it plans by right.
    if metric(old, TERMS).await.unwrap() == terms {
        wait_metric(old, LEADER, 0.0).await;
        wait_metric(old, PLANNED, planned).await;
    }
    for (certificate, name) in certificates.iter().zip(names) {
        world.assert_issued(certificate, name, 2).await;
    }
}

#[tokio::test]
async fn renewals_go_on_through_a_handover() {
    /// Less than the lease: due while nobody leads.
    const DUE_IN_MS: i64 = 1_500;
    let mut world = stormy().await.write().await;
    let name = "handover.example.test";
    let certificates = world.issued(&[name]).await;
    let first = world.heal().await;
    world.make_due(&certificates, DUE_IN_MS).await;
    let began = Instant::now();
    world.scheduler(&first.holder).kill9().unwrap();
    let (next, _) = world.takeover(&first, began, "SIGKILL before a renewal, lease 3 s").await;
    world.wait_version(&certificates[0], 2).await;
    assert!(world.planned_in(&certificates[0]).await >= next.epoch);
    // The one that comes back finds nothing to do.
    world.heal().await;
    world.assert_issued(&certificates[0], name, 2).await;
}

/// Waits until a scheduler has noticed that the term is over which was its `terms`th.
async fn wait_term_over(scheduler: &Service, terms: f64) {
    wait::until(&format!("{} to notice that it leads no more", scheduler.name()), PROMISED, || async {
        let (leader, now) = (metric(scheduler, LEADER).await, metric(scheduler, TERMS).await);
        match (leader.map_err(Pending::not_yet)?, now.map_err(Pending::not_yet)?) {
            (leader, now) if leader == 0.0 || now > terms => Ok(()),
            (leader, now) => Err(Pending::not_yet(format_args!("leader {leader}, {now} terms"))),
        }
    })
    .await
    .unwrap();
}
