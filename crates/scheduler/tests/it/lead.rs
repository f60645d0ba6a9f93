// SPDX-License-Identifier: Apache-2.0
//! Who leads, and how the lead is given up.

use std::time::{Duration, Instant};

use cap_testkit::mongo::driver::bson::{DateTime, Document, doc};
use cap_testkit::mongo::{ReplicaSet, ReplicaSetOptions};
use cap_testkit::process::Signal;
use cap_testkit::wait::{self, Pending};

use crate::bench::{Bench, raw};
use crate::world::{PROMISED, calm, metric, wait_metric};

const LEADER: &str = "certautopilot_leader";
/// Well before the calm world's lease can end, and long enough for any machine.
const STEP_DOWN_WITHIN: Duration = Duration::from_secs(10);
/// Any end that was asked for.
const EXIT_WITHIN: Duration = Duration::from_secs(30);

#[tokio::test]
async fn of_three_schedulers_one_leads() {
    let world = calm().await.read().await;
    wait::until("one leader by its own word and everybody's", PROMISED, || async {
        let leader = world.leader_after(0).await;
        let mut leading = Vec::new();
        for scheduler in &world.stack.schedulers {
            if metric(scheduler, LEADER).await.map_err(Pending::not_yet)? > 0.0 {
                leading.push(scheduler.name());
            }
        }
        // Looked at one after the other, so only a look without a change of hands counts.
        let seen = format!("{leader:?}, leading: {leading:?}");
        let is_steady = world.leader_after(0).await == leader;
        if is_steady && leader.epoch >= 1 && leading == [leader.holder.as_str()] {
            Ok(())
        } else {
            Err(Pending::not_yet(seen))
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn sigterm_hands_the_lead_over_at_once() {
    let mut world = calm().await.write().await;
    let first = world.heal().await;
    let leader = world.scheduler(&first.holder);
    let began = Instant::now();
    assert!(leader.signal(Signal::TERM).unwrap());
    let ((next, took), exit) =
        tokio::join!(world.takeover(&first, began, "SIGTERM"), leader.wait_exit(EXIT_WITHIN));
    assert_eq!(exit.unwrap(), Some(0), "{}", leader.process().log_tail());
    assert!(next.epoch > first.epoch && next.holder != first.holder, "{first:?}, {next:?}");
    assert!(took < STEP_DOWN_WITHIN, "the lease was waited for: {took:?}");
    wait_metric(world.scheduler(&next.holder), LEADER, 1.0).await;
    // Who comes back stands by, and leaves the leader alone.
    assert_eq!(world.heal().await, next);
    wait_metric(world.scheduler(&first.holder), LEADER, 0.0).await;
}

/// A scheduler alone with its database, which does to its try to win the lease what `fault` says. It is asked to stop when the
/// database has that try. Answers the lease that was granted, as it is left.
async fn stopped_while_winning(fault: Document) -> Document {
    let options = ReplicaSetOptions {
        members: 1,
        parameters: vec!["enableTestCommands=1".to_owned()],
        ..ReplicaSetOptions::default()
    };
    let set = ReplicaSet::start_with(options).await.unwrap();
    let bench = Bench::new(set.uri_for("certautopilot"));
    let kek = bench.kek("kek").await;
    bench.migrate(&kek).await;
    let mut data = doc! {
        "failCommands": ["findAndModify"], "appName": "certautopilot-scheduler", "namespace": "certautopilot.leases",
    };
    data.extend(fault);
    let fail = doc! { "configureFailPoint": "failCommand", "mode": "alwaysOn", "data": data };
    let entered = set.command(0, fail).await.unwrap();
    let entered = entered.get_i64("count").or_else(|_| entered.get_i32("count").map(i64::from)).unwrap();
    let leases = raw(&bench.mongo_uri).await.collection::<Document>("leases");
    // There already, and free: the first try wins.
    let free = doc! {
        "_id": "scheduler", "holder": "", "epoch": 0_i64, "expires_at": DateTime::from_millis(0), "nonce": "",
    };
    leases.insert_one(free).await.unwrap();

    let scheduler = bench.scheduler(&kek, "scheduler-0", "5m");
    let asked = doc! { "waitForFailPoint": "failCommand", "timesEntered": entered + 1, "maxTimeMS": 60_000 };
    set.command(0, asked).await.unwrap();
    assert!(scheduler.signal(Signal::TERM).unwrap());
    let exit = scheduler.wait_exit(EXIT_WITHIN).await.unwrap();
    assert_eq!(exit, Some(0), "{}", scheduler.process().log_tail());
    wait::until("the lease to be granted", EXIT_WITHIN, || async {
        let lease = leases.find_one(doc! { "_id": "scheduler" }).await.map_err(Pending::not_yet)?.unwrap();
        if lease.get_i64("epoch").unwrap() > 0 { Ok(lease) } else { Err(Pending::not_yet(lease)) }
    })
    .await
    .unwrap()
}

/// The database grants a lease to a scheduler that was asked to stop while it waited for the answer. Nobody would
/// lead for the whole lease if the answer were not waited for.
#[tokio::test]
async fn a_lease_that_is_won_while_stopping_is_given_up() {
    const BLOCKED_MS: i32 = 3_000;
    let won = stopped_while_winning(doc! { "blockConnection": true, "blockTimeMS": BLOCKED_MS }).await;
    assert_eq!(won.get_datetime("expires_at").unwrap().timestamp_millis(), 0, "held by nobody: {won}");
}

/// The same, and the answer is an error: it was granted all the same.
#[tokio::test]
async fn a_lease_that_is_won_unheard_while_stopping_is_given_up() {
    const WITHOUT_A_MAJORITY: i32 = 64;
    let error = doc! { "writeConcernError": { "code": WITHOUT_A_MAJORITY, "errmsg": "waiting timed out" } };
    let won = stopped_while_winning(error).await;
    assert_eq!(won.get_datetime("expires_at").unwrap().timestamp_millis(), 0, "held by nobody: {won}");
}
