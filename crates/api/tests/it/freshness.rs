// SPDX-License-Identifier: Apache-2.0
//! No old yes: a primary that is cut off and does not know it answers reads, and nobody is let in by them.

use std::time::{Duration, Instant};

use cap_testkit::mongo::ReplicaSet;
use cap_testkit::stack::{Stack, StackOptions};
use cap_testkit::wait::{Pending, until};
use serde_json::{Value, json};

use crate::http::Http;

/// What is promised of a lost quorum.
const REFUSED_WITHIN: Duration = Duration::from_secs(5);
/// What is promised of its return.
const BACK_WITHIN: Duration = Duration::from_secs(15);
/// So long that the primary does not step down while the test looks at it.
const ELECTION_MS: u64 = 120_000;

#[tokio::test]
async fn a_primary_that_is_cut_off_and_does_not_know_it_lets_nobody_in() {
    let mut options = StackOptions::for_test();
    (options.apis, options.workers, options.schedulers, options.shared_mongo) = (2, 0, 0, false);
    let stack = Stack::start(options).await.unwrap();
    let set = stack.infrastructure.replica_set.as_ref().unwrap();
    let primary = set.primary().await.unwrap();
    make_patient(set, primary).await;
    let apis: Vec<Http> = (0..2).map(|index| Http::new(stack.api_url(index).unwrap())).collect();
    for http in &apis {
        assert_eq!(http.get("/api/v1/projects", stack.token()).await.status, 200);
    }

    let others: Vec<usize> = (0..3).filter(|index| *index != primary).collect();
    others.iter().for_each(|index| set.pause(*index).unwrap());
    let cut_off = Instant::now();
    // Let in by the last yes, and under way when it ends.
    let under_way =
        apis[0].call("POST", "/api/v1/projects").token(stack.token()).json(&json!({ "name": "late" }));
    under_way.send().await.problem(503, "unavailable");
    assert!(cut_off.elapsed() < REFUSED_WITHIN, "{:?}", cut_off.elapsed());
    for http in &apis {
        let left = REFUSED_WITHIN.saturating_sub(cut_off.elapsed());
        becomes(http, stack.token(), 503, left).await;
        let answer = http.get("/api/v1/projects", stack.token()).await;
        answer.problem(503, "unavailable");
        let made =
            http.call("POST", "/api/v1/projects").token(stack.token()).json(&json!({ "name": "lost" }));
        made.send().await.problem(503, "unavailable");
        until("/readyz to be 503", REFUSED_WITHIN, || async {
            match http.call("GET", "/readyz").send().await.status {
                503 => Ok(()),
                other => Err(Pending::not_yet(other)),
            }
        })
        .await
        .unwrap();
        assert_eq!(http.call("GET", "/healthz").send().await.status, 200);
    }
    // The negative twin: the database itself says all the while that it has a primary, and reads there are answered.
    let read = json!({ "find": "system.version", "readConcern": { "level": "majority" } });
    let hello = command(set, primary, &json!({ "hello": 1 })).await;
    assert_eq!(hello["isWritablePrimary"], true, "it stepped down: this test shows nothing");
    assert!(command(set, primary, &read).await["ok"].as_f64() > Some(0.0));

    others.iter().for_each(|index| set.resume(*index).unwrap());
    for http in &apis {
        becomes(http, stack.token(), 200, BACK_WITHIN).await;
    }
}

async fn becomes(http: &Http, token: &str, status: u16, limit: Duration) {
    until(&format!("a read to be answered with {status}"), limit, || async {
        let answer = http.get("/api/v1/projects", token).await;
        if answer.status == status { Ok(()) } else { Err(Pending::not_yet(answer.status)) }
    })
    .await
    .unwrap();
}

/// Has the members wait long for each other before they elect another primary.
async fn make_patient(set: &ReplicaSet, primary: usize) {
    let mut config = command(set, primary, &json!({ "replSetGetConfig": 1 })).await["config"].take();
    config["version"] = json!(config["version"].as_i64().unwrap() + 1);
    config["settings"]["electionTimeoutMillis"] = json!(ELECTION_MS);
    // What the server makes up by itself it does not take back.
    config["settings"].as_object_mut().unwrap().remove("replicaSetId");
    command(set, primary, &json!({ "replSetReconfig": config })).await;
}

async fn command(set: &ReplicaSet, member: usize, command: &Value) -> Value {
    // The driver's own types go by unnamed: it lives in another crate.
    let answer = set.command(member, serde_json::from_value(command.clone()).unwrap()).await.unwrap();
    serde_json::to_value(answer).unwrap()
}
