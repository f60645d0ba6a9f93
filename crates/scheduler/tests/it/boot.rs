// SPDX-License-Identifier: Apache-2.0
//! What a process does with a cluster that it cannot use: waits where waiting helps, ends where it does not.

use std::time::Duration;

use cap_testkit::mongo::ReplicaSet;
use cap_testkit::mongo::driver::bson::{Document, doc};
use cap_testkit::wait::{self, Pending};

use crate::bench::{Bench, raw};
use crate::world::{admin, wait_metric};

const WITHIN: Duration = Duration::from_secs(60);

async fn bench() -> Bench {
    Bench::new(ReplicaSet::fresh_database().await.unwrap().uri)
}

#[tokio::test]
async fn a_scheduler_waits_for_the_migration_and_goes_on_by_itself() {
    let bench = bench().await;
    let kek = bench.kek("kek").await;
    let scheduler = bench.scheduler(&kek, "scheduler-0", "3s");
    let admin = admin(&scheduler);
    wait::until("readiness to say what is missing", WITHIN, || async {
        let text = match admin.text("/readyz?verbose").await {
            Ok(text) => return Err(Pending::Never(anyhow::anyhow!("ready without a schema: {text}"))),
            Err(refused) => format!("{refused:#}"),
        };
        let is_told = ["503", "[-]schema failed", "[+]mongo ok", "certautopilot schema migrate"];
        if is_told.iter().all(|part| text.contains(part)) { Ok(()) } else { Err(Pending::not_yet(text)) }
    })
    .await
    .unwrap();
    wait::until("the log to say what to run", WITHIN, || async {
        let log = std::fs::read_to_string(scheduler.process().log()).unwrap();
        let is_told = log.contains("waiting: ") && log.contains("run `certautopilot schema migrate`");
        if is_told { Ok(()) } else { Err(Pending::not_yet(log)) }
    })
    .await
    .unwrap();
    assert!(scheduler.process().is_running());

    bench.migrate(&kek).await;
    scheduler.wait_ready(WITHIN).await.unwrap();
    wait_metric(&scheduler, "certautopilot_leader", 1.0).await;
}

#[tokio::test]
async fn a_schema_of_tomorrow_ends_it_with_69() {
    let bench = bench().await;
    let kek = bench.kek("kek").await;
    bench.migrate(&kek).await;
    let tomorrow = doc! { "_id": 9_999, "name": "tomorrow", "sha256": "00" };
    raw(&bench.mongo_uri).await.collection::<Document>("migrations").insert_one(tomorrow).await.unwrap();
    assert_ends_with(&bench, &kek, 69, "newer").await;
}

#[tokio::test]
async fn a_wrong_kek_ends_it_with_78() {
    let bench = bench().await;
    let kek = bench.kek("kek").await;
    bench.migrate(&kek).await;
    let another = bench.kek("another").await;
    assert_ends_with(&bench, &another, 78, "KEK version 1").await;
}

/// It ends with this code, says why, and has touched nothing.
async fn assert_ends_with(bench: &Bench, kek: &std::path::Path, code: i32, why: &str) {
    let scheduler = bench.scheduler(kek, "scheduler-0", "3s");
    let exit = scheduler.wait_exit(WITHIN).await.unwrap();
    let log = scheduler.process().log_tail();
    assert_eq!(exit, Some(code), "{log}");
    assert!(log.contains(why), "{log}");
    let leases = raw(&bench.mongo_uri).await.collection::<Document>("leases");
    assert_eq!(leases.count_documents(doc! { "_id": "scheduler" }).await.unwrap(), 0);
}
