// SPDX-License-Identifier: Apache-2.0
//! Overload: what is too much is refused at once and says when to come back, what is not goes through, and memory stays
//! within its bounds. Each test has an api of its own, and floods nobody else's.

mod flood;
mod limits;
mod lists;
mod raw;
mod waiting;

use std::time::Duration;

use cap_testkit::process::{Service, series};

use crate::http::{Answer, Http};
use crate::world::Quiet;

const READY: Duration = Duration::from_secs(60);

/// An api with these settings, and a client of it.
async fn api(quiet: &Quiet, name: &str, settings: &[(&str, &str)]) -> (Service, Http) {
    let mut launch = quiet.another_api(name);
    launch.env.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    let http = Http::new(&format!("http://{}", launch.env["CAP_API_LISTEN"]));
    let service = quiet.start(launch);
    service.wait_ready(READY).await.unwrap();
    (service, http)
}

/// This many tokens, each of which was good at `http` lately.
async fn tokens(quiet: &Quiet, http: &Http, count: usize) -> Vec<String> {
    let mut tokens = Vec::new();
    for _ in 0..count {
        let token = token(quiet).await;
        assert_eq!(http.get("/api/v1/projects", &token).await.status, 200);
        tokens.push(token);
    }
    tokens
}

/// A token that no api has seen.
async fn token(quiet: &Quiet) -> String {
    let _writing = quiet.writing.read().await;
    quiet.token("viewer", None).await["token"].as_str().unwrap().to_owned()
}

/// How often requests were shed for this reason.
async fn shed(service: &Service, reason: &str) -> f64 {
    let name = format!("certautopilot_http_shed_total{{reason=\"{reason}\"}}");
    let metrics = service.metrics().await.unwrap();
    series(&metrics, &name).unwrap_or_else(|| panic!("there is no {name}: {metrics}"))
}

/// The seconds that a refusal asks to wait.
#[track_caller]
fn retry_after(answer: &Answer) -> u64 {
    let seconds = answer.header("retry-after").parse().unwrap_or_else(|_| panic!("no wait: {answer:?}"));
    assert!(seconds >= 1, "{answer:?}");
    seconds
}

/// Asks until it is refused with this; answers the refusal. What a limit lets through depends on the time that it takes.
async fn until_refused(ask: impl AsyncFn() -> Answer, name: &str, at_most: usize) -> Answer {
    for _ in 0..at_most {
        let answer = ask().await;
        if answer.status == 429 {
            answer.problem(429, name);
            return answer;
        }
    }
    panic!("{at_most} requests went through and none was refused with {name}");
}

#[tokio::test]
async fn every_reason_is_counted_from_the_start() {
    let quiet = crate::world::quiet().await;
    let (service, _http) = api(quiet, "api-counts", &[]).await;
    for reason in [
        "token_rate",
        "address_rate",
        "failures",
        "share",
        "places",
        "bodies",
        "slow_body",
        "lists",
        "answers",
        "waiting",
    ] {
        assert!(shed(&service, reason).await.abs() < 0.5, "{reason}");
    }
}
