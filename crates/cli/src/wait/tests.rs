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
    let dead = |(): &(), _| Verdict::Dead("no such host".to_owned());
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
    let job = |state: &str| -> Option<Job> {
        let id = |prefix: &str| format!("{prefix}_{}1", "0".repeat(31));
        let (id, project) = (id("job"), id("prj"));
        let job = serde_json::json!({
            "id": id, "project": project, "kind": "issue", "state": state, "attempt": 1, "created_at": "2026-01-02T03:04:05Z",
        });
        serde_json::from_value(job).ok()
    };
    for (state, waited) in [("queued", 10), ("running", 10), ("succeeded", 10), ("cancelled", 0)] {
        let (mut app, newest) = (app(), job(state));
        assert!(newest.is_some());
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
