// SPDX-License-Identifier: Apache-2.0
//! A replica set that loses its primary, and comes back.

use std::time::Duration;

use bson::{Document, doc};
use cap_testkit::mongo::{MemberState, ReplicaSet};
use mongodb::Client;
use mongodb::options::{ClientOptions, WriteConcern};

/// An election (2 s) and some for a loaded machine.
const TAKEOVER_LIMIT_SECONDS: u64 = 30;

async fn client(uri: &str) -> Client {
    cap_testkit::tls::install();
    let mut options = ClientOptions::parse(uri).await.unwrap();
    options.write_concern = Some(WriteConcern::majority());
    options.server_selection_timeout = Some(Duration::from_secs(TAKEOVER_LIMIT_SECONDS));
    options.connect_timeout = Some(Duration::from_secs(2));
    Client::with_options(options).unwrap()
}

#[tokio::test]
async fn a_write_survives_the_primary_that_took_it() {
    let mut set = ReplicaSet::start().await.unwrap();
    let client = client(&set.uri()).await;
    let things = client.database("t").collection::<Document>("things");
    things.insert_one(doc! { "_id": 1 }).await.unwrap();

    let limit = Duration::from_secs(TAKEOVER_LIMIT_SECONDS);
    let first = set.primary().await.unwrap();
    set.kill(first).unwrap();
    assert_eq!(set.members().await[first], MemberState::Down);
    let second = set.wait_primary_other_than(first, limit).await.unwrap();
    assert!(things.find_one(doc! { "_id": 1 }).await.unwrap().is_some());

    set.restart(first).await.unwrap();
    set.pause(second).unwrap();
    set.wait_primary_other_than(second, limit).await.unwrap();
    set.resume(second).unwrap();
    set.wait_ready(limit).await.unwrap();
    things.insert_one(doc! { "_id": 2 }).await.unwrap();

    set.checkpoint().await.unwrap();
    assert!(set.data_dir(first).unwrap().join("WiredTiger.wt").is_file());
    let last = set.primary().await.unwrap();
    set.stop(last).await.unwrap();
    set.wait_primary_other_than(last, limit).await.unwrap();
}

#[tokio::test]
async fn each_test_has_a_database_of_its_own() {
    let (one, two) =
        (ReplicaSet::fresh_database().await.unwrap(), ReplicaSet::fresh_database().await.unwrap());
    assert_ne!(one.name, two.name);
    let (a, b) = (client(&one.uri).await, client(&two.uri).await);
    let (a, b) = (a.default_database().unwrap(), b.default_database().unwrap());
    a.collection("things").insert_one(doc! { "_id": 1 }).await.unwrap();
    assert_eq!(b.collection::<Document>("things").count_documents(doc! {}).await.unwrap(), 0);
}

#[tokio::test]
async fn a_dropped_set_leaves_neither_processes_nor_data() {
    let set = ReplicaSet::start().await.unwrap();
    let data = set.data_dir(0).unwrap().to_owned();
    let processes: Vec<_> = (0..set.len()).map(|index| set.process(index).unwrap().id()).collect();
    assert!(processes.iter().all(cap_testkit::process::ProcessId::is_alive));
    drop(set);
    assert!(!processes.iter().any(cap_testkit::process::ProcessId::is_alive));
    assert!(!data.exists());
}
