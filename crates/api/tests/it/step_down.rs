// SPDX-License-Identifier: Apache-2.0
//! A request to step down that is sent again tells what became of it.

use cap_testkit::mongo::driver::bson::{Document, doc};
use serde_json::json;

use crate::http::Answer;
use crate::jobs::{from_now, raw};
use crate::world::{Quiet, quiet};

const SCHEDULER: &str = "scheduler";

async fn ask(quiet: &Quiet, key: &str) -> Answer {
    let call = quiet.http().call("POST", "/api/v1/cluster/step-down").token(quiet.owner());
    call.header("idempotency-key", key).json(&json!({ "force": true })).send().await
}

#[tokio::test]
async fn a_repeated_request_is_accepted_where_its_leader_was_asked_and_refused_where_nobody_was() {
    let quiet = quiet().await;
    // Alone: elsewhere nobody leads here.
    let _alone = quiet.writing.write().await;
    let leases = raw(quiet).await.collection::<Document>("leases");
    let until = from_now(600_000);
    let lease = doc! {
        "_id": SCHEDULER, "holder": "scheduler-7", "epoch": 7_i64, "expires_at": until, "ttl_ms": 600_000_i64, "nonce": "n",
    };
    leases.insert_one(lease).await.unwrap();
    let set = async |change: Document| {
        leases.update_one(doc! { "_id": SCHEDULER }, change).await.unwrap();
        [ask(quiet, "step-down").await, ask(quiet, "step-down").await]
    };
    let led = set(doc! { "$set": { "since": until } }).await;
    // It went, and another leads.
    let went = set(doc! { "$set": { "epoch": 8_i64, "holder": "scheduler-8" } }).await;
    // It went before anybody asked it.
    let unasked = set(doc! { "$unset": { "step_down": "" } }).await;
    let asked = leases.find_one(doc! { "_id": SCHEDULER }).await.unwrap().unwrap().get("step_down").cloned();
    leases.delete_one(doc! { "_id": SCHEDULER }).await.unwrap();
    for answer in led.iter().chain(&went) {
        assert_eq!((answer.status, &answer.json()["epoch"]), (202, &json!(7)), "{answer:?}");
    }
    for answer in unasked {
        assert!(answer.problem(409, "conflict").contains("epoch 7 leads no more"), "{answer:?}");
    }
    assert_eq!(asked, None, "a later leader was meant");
}
