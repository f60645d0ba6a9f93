// SPDX-License-Identifier: Apache-2.0
//! Health, with the database and without it.

use std::time::{Duration, Instant};

use cap_testkit::mongo::ReplicaSet;
use cap_testkit::process::Service;
use cap_testkit::wait::{Pending, until};

use crate::http::{Answer, Http};
use crate::world::{Whole, quiet, whole};

/// What reliability promises of a lost quorum.
const REFUSED_WITHIN: Duration = Duration::from_secs(5);
/// A call that found no primary waits for one as long as the store's bound says, and then is refused.
const CALL_WITHIN: Duration = Duration::from_secs(6);
/// What reliability promises of its return.
const BACK_WITHIN: Duration = Duration::from_secs(15);
/// The old primary steps down after it has heard of no majority for an election's time-out.
const STEPS_DOWN_WITHIN: Duration = Duration::from_secs(15);

#[tokio::test]
async fn a_well_replica_says_so_briefly_or_at_length() {
    let quiet = quiet().await;
    let http = quiet.http();
    let ask = async |path: &str| http.call("GET", path).send().await;
    for path in ["/healthz", "/livez", "/readyz"] {
        let answer = ask(path).await;
        assert_eq!((answer.status, answer.text.as_str()), (200, "ok\n"), "{path}");
        assert!(answer.header("content-type").starts_with("text/plain"));
    }
    let verbose = ask("/readyz?verbose").await.text;
    for check in ["mongo", "kek", "schema", "shutdown"] {
        assert!(verbose.contains(&format!("[+]{check} ok\n")), "{check}: {verbose}");
    }
    assert_eq!(ask("/readyz?verbose&exclude=kek").await.status, 200);
    ask("/readyz?exclude=kekk").await.problem(400, "malformed-request");
}

fn apis(whole: &Whole) -> Vec<Http> {
    (0..whole.stack.apis.len()).map(|index| Http::new(whole.stack.api_url(index).unwrap())).collect()
}

async fn becomes(http: &Http, status: u16, limit: Duration) {
    until(&format!("/readyz to be {status}"), limit, || async {
        let answer = http.call("GET", "/readyz").try_send().await.map_err(Pending::not_yet)?;
        if answer.status == status { Ok(()) } else { Err(Pending::not_yet(answer.text)) }
    })
    .await
    .unwrap();
}

fn set(whole: &mut Whole) -> &mut ReplicaSet {
    whole.stack.infrastructure.replica_set.as_mut().unwrap()
}

#[tokio::test]
async fn without_a_majority_everything_is_refused_but_healthz_and_its_return_needs_no_restart() {
    let mut whole = whole().await;
    let pids: Vec<i32> = whole.stack.apis.iter().map(Service::pid).collect();
    let (apis, token) = (apis(&whole), whole.stack.token().to_owned());
    let primary = set(&mut whole).primary().await.unwrap();
    let others: Vec<usize> = (0..3).filter(|index| *index != primary).collect();
    for index in &others {
        set(&mut whole).kill(*index).unwrap();
    }
    // The primary that is left answers until it steps down; from then on the promise counts.
    until("the last member to step down", STEPS_DOWN_WITHIN, || async {
        let set = whole.stack.infrastructure.replica_set.as_ref().unwrap();
        if set.primary().await.is_err() { Ok(()) } else { Err(Pending::not_yet("it leads")) }
    })
    .await
    .unwrap();
    // In a task of its own, so that the members come back whatever it finds.
    let seen = tokio::spawn(without_majority(apis.clone(), token.clone())).await;
    for index in others {
        set(&mut whole).restart(index).await.unwrap();
    }
    seen.unwrap();
    for http in &apis {
        becomes(http, 200, BACK_WITHIN).await;
        assert_eq!(http.get("/api/v1/projects", &token).await.status, 200);
    }
    let now: Vec<i32> = whole.stack.apis.iter().map(Service::pid).collect();
    assert_eq!(now, pids);
    assert!(whole.stack.apis.iter().all(|api| api.process().is_running()));
}

async fn without_majority(apis: Vec<Http>, token: String) {
    for http in &apis {
        becomes(http, 503, REFUSED_WITHIN).await;
        assert_eq!(http.call("GET", "/healthz").send().await.status, 200);
        assert_eq!(http.call("GET", "/livez").send().await.status, 200);
        let told = http.call("GET", "/readyz").send().await.text;
        let failed: Vec<_> = told.lines().filter(|line| line.starts_with("[-]")).collect();
        let withheld = |line: &&str| line.ends_with(" failed: reason withheld");
        assert!(!failed.is_empty() && failed.iter().all(withheld), "{told}");
    }
    let (read, made) = tokio::join!(refused(&apis[0], "GET", &token), refused(&apis[1], "POST", &token));
    for answer in [read, made] {
        answer.problem(503, "unavailable");
        assert!(!answer.header("retry-after").is_empty());
        assert!(!answer.text.contains("mongod") && !answer.text.contains("127.0.0.1"), "{}", answer.text);
    }
}

async fn refused(http: &Http, method: &str, token: &str) -> Answer {
    let began = Instant::now();
    let call = http.call(method, "/api/v1/projects").token(token);
    let call = if method == "POST" { call.json(&serde_json::json!({ "name": "lost" })) } else { call };
    let answer = call.send().await;
    assert!(began.elapsed() < CALL_WITHIN, "{method} took {:?}", began.elapsed());
    answer
}
