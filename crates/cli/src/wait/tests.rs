// SPDX-License-Identifier: Apache-2.0
//! Waiting, with a clock of its own.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use cap_client::wire::ProblemDetails;
use cap_core::clock::Clock;
use cap_core::problem::Class;
use clap::Parser;

use super::*;
use crate::args::Cli;
use crate::output::{Form, Output, shown_tests};

/// A clock that moves only while somebody sleeps.
#[derive(Debug, Default)]
struct SleepClock(Mutex<Duration>);

#[async_trait]
impl Clock for SleepClock {
    fn now(&self) -> Timestamp {
        cap_core::clock::later(Timestamp::UNIX_EPOCH, self.boottime())
    }

    fn boottime(&self) -> Duration {
        *self.0.lock().unwrap()
    }

    async fn sleep(&self, time: Duration) {
        *self.0.lock().unwrap() += time;
    }
}

fn app() -> App {
    let cli = Cli::try_parse_from(["certautopilot", "version", "--timeout", "10s"]).unwrap();
    let mut app = App::new(cli.global, Output::kept(Form::Table).0);
    app.clock = Arc::new(SleepClock::default());
    app
}

fn answered(status: u16) -> ClientError {
    let (kind, title, detail) = ("about:blank".into(), "No".into(), "because".into());
    ClientError::Api(Box::new(ProblemDetails { kind, title, status, detail, request_id: None }))
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn failed(next: Option<Timestamp>) -> Certificate {
    let mut certificate = shown_tests::certificate();
    certificate.status = Status::Failing;
    certificate.problem = Some(Problem::new(Class::Validation, "dns", "no such host"));
    certificate.next_attempt_at = next;
    certificate
}

fn id(kind: &str) -> String {
    format!("{kind}_{}1", "0".repeat(31))
}

fn job(state: &str) -> Job {
    serde_json::from_value(serde_json::json!({
        "id": id("job"), "project": id("prj"), "kind": "issue", "state": state, "attempt": 1,
        "created_at": "2026-01-02T03:04:05Z",
    }))
    .unwrap()
}

fn account(status: &str, rolling: bool, next: Option<Timestamp>) -> Issuer {
    let at = "2026-01-02T03:04:05Z";
    serde_json::from_value(serde_json::json!({
        "id": id("iss"), "project": id("prj"), "name": "ca", "directory_url": "https://ca.test/dir", "contact": [],
        "status": status, "problem": Problem::new(Class::Configuration, "terms", "agree to the terms"),
        "key_rollover": rolling.then(|| serde_json::json!({ "requested_at": at })), "next_attempt_at": next,
        "created_at": at,
    }))
    .unwrap()
}

#[test]
fn a_failure_is_waited_out_only_if_the_next_attempt_comes_in_time() {
    let Verdict::Pending { why, .. } = certificate(&failed(Some(at(9))), at(10)) else {
        panic!("not pending")
    };
    assert!(why.unwrap().contains("no such host"));
    let Verdict::Late(why) = certificate(&failed(Some(at(10))), at(10)) else { panic!("not late") };
    assert!(why.contains("no such host") && why.contains("1970-01-01T00:00:10Z"), "{why}");
}

#[tokio::test]
async fn what_is_late_or_failing_ends_with_7_and_its_problem_and_only_the_dead_with_1() {
    for (next, waited) in [(Some(at(3600)), 0), (Some(at(1)), 10), (None, 10)] {
        let mut app = app();
        let failure = until(&mut app, "it", async || Ok(failed(next)), certificate).await.unwrap_err();
        assert_eq!(failure.exit(), Exit::Timeout, "{failure}");
        let text = failure.to_string();
        assert!(text.contains("no such host") && text.contains("goes on by itself"), "{text}");
        assert_eq!(app.clock.boottime(), Duration::from_secs(waited));
    }
    let dead = |(): &(), _| Verdict::dead("no such host");
    let failure = until(&mut app(), "it", async || Ok(()), dead).await.unwrap_err();
    assert_eq!(failure.exit(), Exit::Error);
    assert!(failure.to_string().contains("does not go on by itself"), "{failure}");
}

#[test]
fn every_status_has_its_verdict() {
    let mut seen = shown_tests::certificate();
    for (status, done) in [
        (Status::Requested, false),
        (Status::Issuing, false),
        (Status::Renewing, false),
        (Status::Valid, true),
    ] {
        seen.status = status;
        assert_eq!(matches!(certificate(&seen, at(10)), Verdict::Done), done, "{status:?}");
    }
}

#[tokio::test]
async fn what_nobody_works_on_is_not_waited_for_and_says_what_to_do() {
    for (state, waited) in [("queued", 10), ("running", 10), ("succeeded", 10), ("cancelled", 0)] {
        let (mut app, newest) = (app(), Some(job(state)));
        let look = async || Ok((shown_tests::certificate(), newest.clone()));
        let failure = until(&mut app, "it", look, requested).await.unwrap_err();
        assert_eq!(app.clock.boottime(), Duration::from_secs(waited), "{state}: {failure}");
        let is_told = failure.to_string().contains("hint: `certautopilot cert renew crt_");
        assert_eq!(is_told, state == "cancelled", "{failure}");
    }
    let mut there = shown_tests::certificate();
    there.status = Status::Valid;
    assert!(matches!(requested(&(there, None), at(10)), Verdict::Done));
}

#[tokio::test]
async fn what_never_comes_is_waited_for_as_long_as_was_said() {
    let mut app = app();
    let looks = Mutex::new(0);
    let look = async || {
        *looks.lock().unwrap() += 1;
        Ok(shown_tests::certificate())
    };
    let failure = until(&mut app, "it", look, certificate).await.unwrap_err();
    assert_eq!(failure.exit(), Exit::Timeout);
    assert!(failure.to_string().contains("still requested after 10s"), "{failure}");
    assert_eq!(app.clock.boottime(), Duration::from_secs(10));
    assert!((5..15).contains(&*looks.lock().unwrap()));
}

#[tokio::test]
async fn an_api_that_is_away_for_a_while_ends_no_wait_and_a_refusal_does() {
    let mut app = app();
    let answers =
        Mutex::new(vec![answered(503), ClientError::Unreachable { url: "u".into(), cause: "c".into() }]);
    let look = async || match answers.lock().unwrap().pop() {
        Some(error) => Err(error),
        None => Ok(()),
    };
    until(&mut app, "it", look, |(), _| Verdict::Done).await.unwrap();
    let gone = async || Err::<(), _>(answered(404));
    let failure = until(&mut app, "it", gone, |(), _| Verdict::Done).await.unwrap_err();
    assert_eq!(failure.exit(), Exit::NotFound);
}

#[tokio::test]
async fn a_certificate_whose_job_is_dead_is_waited_for_only_if_another_attempt_is_planned() {
    for (state, next, exit, waited) in [
        ("dead", None, Exit::Error, 0),
        ("dead", Some(at(1)), Exit::Timeout, 10),
        ("dead", Some(at(3600)), Exit::Timeout, 0),
        ("running", None, Exit::Timeout, 10),
    ] {
        let mut app = app();
        let look = async || Ok((failed(next), Some(job(state))));
        let failure = until(&mut app, "it", look, requested).await.unwrap_err();
        assert_eq!((failure.exit(), app.clock.boottime().as_secs()), (exit, waited), "{failure}");
        let text = failure.to_string();
        assert!(text.contains("no such host"), "{text}");
        let told = [&id("job"), "does not go on by itself", "cert renew crt_"];
        assert_eq!(told.iter().all(|told| text.contains(*told)), exit == Exit::Error, "{text}");
    }
}

#[test]
fn an_issuer_whose_job_is_dead_is_waited_for_only_if_another_attempt_is_planned() {
    type Judge = fn(&(Issuer, Option<Job>), Timestamp) -> Verdict;
    let judges: [(Judge, Issuer); 3] = [
        (issuer, account("failing", false, None)),
        (rollover, account("failing", true, None)),
        (deactivated, account("deactivating", false, None)),
    ];
    for (judge, mut seen) in judges {
        let Verdict::Dead { why, next } = judge(&(seen.clone(), Some(job("dead"))), at(10)) else {
            panic!("not dead: {seen:?}")
        };
        assert!(why.contains(&id("job")) && why.contains("agree to the terms"), "{why}");
        assert!(next.contains("job retry job_"), "{next}");
        for newest in [None, Some(job("running"))] {
            let verdict = judge(&(seen.clone(), newest), at(10));
            assert!(matches!(verdict, Verdict::Pending { .. }), "{verdict:?}");
        }
        seen.next_attempt_at = Some(at(1));
        let verdict = judge(&(seen, Some(job("dead"))), at(10));
        assert!(matches!(verdict, Verdict::Pending { .. }), "{verdict:?}");
    }
    let done = account("ready", false, None);
    assert!(matches!(rollover(&(done, Some(job("dead"))), at(10)), Verdict::Done));
}

/// More than a test that waits by a clock of its own takes.
const AT_ONCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_look_without_an_answer_is_waited_for_as_long_as_was_said_and_no_longer() {
    let never = async || std::future::pending::<Result<(), ClientError>>().await;
    let mut app = app();
    let waiting = until(&mut app, "it", never, |(), _| Verdict::Done);
    let failure = tokio::time::timeout(AT_ONCE, waiting).await.unwrap().unwrap_err();
    assert_eq!(failure.exit(), Exit::Timeout);
    assert!(failure.to_string().contains("not seen (no answer within 10 s)"), "{failure}");
    assert_eq!(app.clock.boottime(), Duration::from_secs(10));

    // However little time is left, one look is made.
    let now = app.clock.boottime();
    let waiting = until_then(&mut app, "it", now, never, |(), _| Verdict::Done);
    let failure = tokio::time::timeout(AT_ONCE, waiting).await.unwrap().unwrap_err();
    assert_eq!(failure.exit(), Exit::Timeout);
    assert_eq!(app.clock.boottime() - now, LOOK_FLOOR);
}
