// SPDX-License-Identifier: Apache-2.0
//! Health, with the database and without it.

use std::time::{Duration, Instant};

use cap_testkit::mongo::ReplicaSet;
use cap_testkit::process::{Service, Signal};
use cap_testkit::wait::{Pending, until};

use crate::http::{Answer, Http};
use crate::world::{Whole, another_api, quiet, start, whole};

/// What reliability promises of a lost quorum.
const REFUSED_WITHIN: Duration = Duration::from_secs(5);
/// A call that found no primary waits for one as long as the store's bound says, and then is refused.
const CALL_WITHIN: Duration = Duration::from_secs(6);
/// What reliability promises of its return.
const BACK_WITHIN: Duration = Duration::from_secs(15);
/// The old primary steps down after it has heard of no majority for an election's time-out.
const STEPS_DOWN_WITHIN: Duration = Duration::from_secs(15);
/// From the start of a process to its listeners.
const STARTS_WITHIN: Duration = Duration::from_secs(30);
const ENDS_WITHIN: Duration = Duration::from_secs(30);
/// A token that no CA was given.
const CHALLENGE: &str = "/.well-known/acme-challenge/unknown";

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

/// Kills all members but the primary, which answers until it steps down. Answers who is gone.
async fn lose_majority(whole: &mut Whole) -> Vec<usize> {
    let primary = set(whole).primary().await.unwrap();
    let others: Vec<usize> = (0..3).filter(|index| *index != primary).collect();
    for index in &others {
        set(whole).kill(*index).unwrap();
    }
    until("the last member to step down", STEPS_DOWN_WITHIN, || async {
        let set = whole.stack.infrastructure.replica_set.as_ref().unwrap();
        if set.primary().await.is_err() { Ok(()) } else { Err(Pending::not_yet("it leads")) }
    })
    .await
    .unwrap();
    others
}

async fn restart(whole: &mut Whole, members: Vec<usize>) {
    for index in members {
        set(whole).restart(index).await.unwrap();
    }
}

#[tokio::test]
async fn without_a_majority_everything_is_refused_but_healthz_and_its_return_needs_no_restart() {
    let mut whole = whole().await;
    let pids: Vec<i32> = whole.stack.apis.iter().map(Service::pid).collect();
    let (apis, token) = (apis(&whole), whole.stack.token().to_owned());
    // From when the last member has stepped down the promise counts.
    let others = lose_majority(&mut whole).await;
    // In a task of its own, so that the members come back whatever it finds.
    let seen = tokio::spawn(without_majority(apis.clone(), token.clone())).await;
    restart(&mut whole, others).await;
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
    reads_and_changes_are_refused(&apis[0], &apis[1], &token).await;
}

async fn reads_and_changes_are_refused(reads: &Http, changes: &Http, token: &str) {
    let (read, made) = tokio::join!(refused(reads, "GET", token), refused(changes, "POST", token));
    for answer in [read, made] {
        answer.problem(503, "unavailable");
        assert!(!answer.header("retry-after").is_empty());
        assert!(!answer.text.contains("mongod") && !answer.text.contains("127.0.0.1"), "{}", answer.text);
    }
}

#[tokio::test]
async fn an_api_started_without_a_majority_says_so_at_once_and_lets_in_once_there_is_one() {
    let mut whole = whole().await;
    let token = whole.stack.token().to_owned();
    let others = lose_majority(&mut whole).await;
    let launch = another_api(&whole.stack, "api-early");
    let at = |variable: &str| Http::new(&format!("http://{}", launch.env[variable]));
    let (http, cas) = (at("CAP_API_LISTEN"), at("CAP_CHALLENGE_LISTEN"));
    let service = start(&whole.stack, launch.clone());
    let seen = tokio::spawn(early(http.clone(), cas.clone(), token.clone())).await;
    restart(&mut whole, others).await;
    seen.unwrap();
    // On the connections that were let in before.
    becomes(&http, 200, BACK_WITHIN).await;
    assert_eq!(http.get("/api/v1/projects", &token).await.status, 200);
    http.get("/api/v1/nothing", &token).await.problem(404, "not-found");
    assert_eq!(cas.call("GET", CHALLENGE).send().await.status, 404);
    assert!(service.signal(Signal::TERM).unwrap());
    assert_eq!(service.wait_exit(ENDS_WITHIN).await.unwrap(), Some(0));
}

async fn early(http: Http, cas: Http, token: String) {
    until("the listeners to be open", STARTS_WITHIN, || async {
        http.call("GET", "/healthz").try_send().await.map(drop).map_err(Pending::not_yet)
    })
    .await
    .unwrap();
    without_majority(vec![http.clone(), http.clone()], token.clone()).await;
    http.get("/api/v1/nothing", &token).await.problem(503, "unavailable");
    http.call("DELETE", "/healthz").send().await.problem(503, "unavailable");
    http.call("GET", "/readyz?exclude=kekk").send().await.problem(400, "malformed-request");
    assert_eq!(cas.call("GET", CHALLENGE).send().await.status, 503);
    assert_eq!(cas.call("GET", "/healthz").send().await.status, 404);
}

async fn refused(http: &Http, method: &str, token: &str) -> Answer {
    let began = Instant::now();
    let call = http.call(method, "/api/v1/projects").token(token);
    let call = if method == "POST" { call.json(&serde_json::json!({ "name": "lost" })) } else { call };
    let answer = call.send().await;
    assert!(began.elapsed() < CALL_WITHIN, "{method} took {:?}", began.elapsed());
    answer
}
