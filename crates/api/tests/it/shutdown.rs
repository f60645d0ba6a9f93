// SPDX-License-Identifier: Apache-2.0
//! Stopping: readiness goes first, answers go on for a while, then a clean end.

use std::time::{Duration, Instant};

use cap_testkit::process::{Service, Signal};
use cap_testkit::wait::{Pending, until};

use crate::http::{Answer, Http};
use crate::world::{Quiet, quiet};

const READY: Duration = Duration::from_secs(60);
/// From a signal to what it does.
const SOON: Duration = Duration::from_secs(5);

async fn started(quiet: &Quiet, name: &str, delay: &str) -> (Service, Http) {
    let mut launch = quiet.another_api(name);
    launch.env.insert("CAP_SHUTDOWN_DELAY".into(), delay.into());
    let http = Http::new(&format!("http://{}", launch.env["CAP_API_LISTEN"]));
    let service = quiet.start(launch);
    service.wait_ready(READY).await.unwrap();
    (service, http)
}

async fn unready(http: &Http, token: Option<&str>) -> Answer {
    until("/readyz to be 503", SOON, || async {
        let call = http.call("GET", "/readyz");
        let call = token.map_or_else(|| http.call("GET", "/readyz"), |token| call.token(token));
        let answer = call.try_send().await.map_err(Pending::not_yet)?;
        if answer.status == 503 { Ok(answer) } else { Err(Pending::not_yet(answer.status)) }
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn a_stop_takes_readiness_first_answers_for_the_delay_and_ends_clean() {
    let quiet = quiet().await;
    let (service, http) = started(quiet, "api-drained", "6s").await;
    let began = Instant::now();
    assert!(service.signal(Signal::TERM).unwrap());
    let withheld = unready(&http, None).await.text;
    assert!(withheld.contains("[-]shutdown failed: reason withheld"), "{withheld}");
    let forged = unready(&http, Some("cap_api_x")).await.text;
    assert!(forged.contains("reason withheld"), "{forged}");
    let told = unready(&http, Some(quiet.owner())).await.text;
    assert!(told.contains("[-]shutdown failed: the process is shutting down"), "{told}");
    let answer = http.get("/api/v1/projects", quiet.owner()).await;
    assert!(began.elapsed() < Duration::from_secs(6), "too slow to see anything");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(http.call("GET", "/healthz").send().await.status, 200);
    assert_eq!(service.wait_exit(Duration::from_secs(20)).await.unwrap(), Some(0));
    assert!(began.elapsed() >= Duration::from_secs(6), "it did not hold its listeners open");
    assert!(http.call("GET", "/healthz").try_send().await.is_err());
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once_and_says_that_it_was_not_clean() {
    let quiet = quiet().await;
    let (service, http) = started(quiet, "api-hurried", "60s").await;
    service.signal(Signal::TERM).unwrap();
    unready(&http, None).await;
    assert!(service.process().is_running(), "one signal must not end it");
    service.signal(Signal::TERM).unwrap();
    assert_eq!(service.wait_exit(SOON).await.unwrap(), Some(1));
}
