// SPDX-License-Identifier: Apache-2.0
//! How deep the queue is: told by the leader alone, and by none that leads no more.

use std::time::Duration;

use cap_testkit::mongo::driver::bson::{Document, doc};
use cap_testkit::mongo::{ReplicaSet, ReplicaSetOptions};
use cap_testkit::process::{Service, Signal};
use cap_testkit::wait::{self, Pending};

use crate::bench::{Bench, raw};
use crate::world::{PROMISED, admin, calm, metric, wait_metric};

const DEPTH: &str = "certautopilot_queue_depth";
const OLDEST: &str = "certautopilot_queue_oldest_age_seconds";
const LEADER: &str = "certautopilot_leader";

async fn wait_shown(scheduler: &Service) {
    wait::until(&format!("{} to show the queue", scheduler.name()), PROMISED, || async {
        metric(scheduler, DEPTH).await.map_err(Pending::not_yet)?;
        metric(scheduler, OLDEST).await.map(drop).map_err(Pending::not_yet)
    })
    .await
    .unwrap();
}

/// Whether a scheduler shows the queue, in a page that has what every scheduler shows.
async fn shows(scheduler: &Service) -> bool {
    let page = admin(scheduler).text("/metrics").await.unwrap();
    assert!(page.contains(LEADER) && page.contains(DEPTH) == page.contains(OLDEST), "{page}");
    page.contains(DEPTH)
}

#[tokio::test]
async fn the_leader_alone_shows_the_queue_and_the_cluster_tells_it() {
    let mut world = calm().await.write().await;
    let first = world.heal().await;
    wait_shown(world.scheduler(&first.holder)).await;
    for scheduler in world.stack.schedulers.iter().filter(|scheduler| scheduler.name() != first.holder) {
        assert!(!shows(scheduler).await, "{} stands by", scheduler.name());
    }
    let queue = wait::until("the cluster to tell the queue", PROMISED, || async {
        let cluster = world.api().get("/api/v1/cluster").await.map_err(Pending::not_yet)?;
        if cluster["queue"].is_object() { Ok(cluster) } else { Err(Pending::not_yet(cluster)) }
    });
    let cluster = queue.await.unwrap();
    assert!(cluster["queue"]["depth"].is_u64() && cluster["queue"]["capped"] == false, "{cluster}");
    assert!(cluster["queue_unavailable"].is_null(), "{cluster}");
    let kinds =
        cluster["queue"]["by_kind"].as_array().unwrap().iter().map(|kind| kind["kind"].as_str().unwrap());
    assert!(kinds.eq(cap_core::job::Work::KINDS), "{cluster}");

    assert!(world.scheduler(&first.holder).signal(Signal::TERM).unwrap());
    let next = world.leader_after(first.epoch).await;
    wait_shown(world.scheduler(&next.holder)).await;
    world.heal().await;
    wait_metric(world.scheduler(&first.holder), LEADER, 0.0).await;
    assert!(!shows(world.scheduler(&first.holder)).await);
}

/// The leader stands still while its write is on its way; the write arrives when another has led and written.
#[tokio::test]
async fn what_a_paused_leader_had_sent_changes_nothing_when_it_arrives_late() {
    /// More than a lease of 3 s, a takeover and a first look of the next leader take.
    const HELD_MS: i32 = 15_000;
    let options = ReplicaSetOptions {
        members: 1,
        parameters: vec!["enableTestCommands=1".to_owned()],
        ..ReplicaSetOptions::default()
    };
    let set = ReplicaSet::start_with(options).await.unwrap();
    let bench = Bench::new(set.uri_for("certautopilot"));
    let kek = bench.kek("kek").await;
    bench.migrate(&kek).await;
    let hold = doc! {
        "configureFailPoint": "failCommand", "mode": { "times": 1 }, "data": {
            "failCommands": ["update"], "namespace": "certautopilot.gauges",
            "blockConnection": true, "blockTimeMS": HELD_MS,
        },
    };
    let entered = set.command(0, hold).await.unwrap();
    let entered = entered.get_i64("count").or_else(|_| entered.get_i32("count").map(i64::from)).unwrap();

    let zombie = bench.scheduler(&kek, "zombie", "3s");
    let sent = doc! { "waitForFailPoint": "failCommand", "timesEntered": entered + 1, "maxTimeMS": 60_000 };
    set.command(0, sent).await.unwrap();
    assert!(zombie.signal(Signal::STOP).unwrap());
    let next = bench.scheduler(&kek, "next", "3s");
    let gauges = raw(&bench.mongo_uri).await.collection::<Document>("gauges");
    let fence = async || {
        let gauge = gauges.find_one(doc! { "_id": "queue" }).await.unwrap();
        gauge.map(|gauge| gauge.get_i64("fence").unwrap())
    };
    let held = async || {
        let held =
            doc! { "currentOp": true, "command.update": "gauges", "appName": "certautopilot-scheduler" };
        set.command(0, held).await.unwrap().get_array("inprog").unwrap().len()
    };
    let epoch = wait::until("the next leader's gauge", PROMISED, || async {
        fence().await.ok_or_else(|| Pending::not_yet("there is none"))
    });
    let epoch = epoch.await.unwrap();
    assert!(epoch >= 2 && held().await >= 1, "the zombie's write came first, in epoch {epoch}");

    wait::until("the zombie's write to arrive", Duration::from_secs(60), || async {
        match held().await {
            0 => Ok(()),
            writes => Err(Pending::not_yet(writes)),
        }
    })
    .await
    .unwrap();
    assert!(fence().await.unwrap() >= epoch, "a stale leader wrote");
    assert!(zombie.signal(Signal::CONT).unwrap());
    wait_metric(&zombie, LEADER, 0.0).await;
    assert!(!shows(&zombie).await, "a stale leader shows the queue");
    wait_shown(&next).await;
}
