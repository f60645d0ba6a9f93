// SPDX-License-Identifier: Apache-2.0
//! Every replica answers every HTTP-01 challenge, and nothing else on that port.

use std::net::{IpAddr, Ipv4Addr};

use cap_testkit::stack::StackOptions;

use crate::http::Http;
use crate::world::{admin, whole};

const ANSWERED: &str = "certautopilot_challenge_responses_total{outcome=\"answered\"";

/// The sum of the lines of an exposition that start like this.
pub(crate) fn sum(exposition: &str, start: &str) -> f64 {
    let lines = exposition.lines().filter(|line| line.starts_with(start));
    lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum()
}

#[tokio::test]
async fn each_replica_answers_the_challenges_that_come_to_it() {
    let whole = whole().await;
    let (stack, api) = (&whole.stack, whole.stack.client(0).unwrap());
    for index in 0..3_u8 {
        let address: Ipv4Addr = StackOptions::challenge_address(index);
        let name = format!("replica-{index}.example.test");
        stack.ca().set_a(&name, &[IpAddr::V4(address)]).await.unwrap();
        let metrics = async |of: u8| {
            let exposition = admin(&stack.apis[usize::from(of)]).call("GET", "/metrics").send().await;
            sum(&exposition.text, ANSWERED)
        };
        let before = [metrics(0).await, metrics(1).await, metrics(2).await];
        let certificate = whole.demo.request(&api, &[&name]).await.unwrap();
        whole.demo.wait_valid(&api, &certificate).await.unwrap();
        for of in 0..3 {
            let rose = metrics(of).await > before[usize::from(of)];
            assert_eq!(rose, of == index, "api-{of}, asked at {address}");
        }
    }
}

#[tokio::test]
async fn the_challenge_port_knows_no_other_token_and_no_other_path() {
    let whole = whole().await;
    let port = whole.stack.ca().http_port();
    for index in 0..3 {
        let http = Http::new(&format!("http://{}:{port}", StackOptions::challenge_address(index)));
        let long = "a".repeat(257);
        for token in ["unknown", "a.b", "a%20b", "%ff", "$ne", "..%2f..%2fetc%2fpasswd", "%00", &long] {
            let answer = http.call("GET", &format!("/.well-known/acme-challenge/{token}")).send().await;
            assert_eq!(answer.status, 404, "{token}: {answer:?}");
            assert!(answer.header("content-type").starts_with("text/plain"), "{token}: {answer:?}");
        }
        for path in
            ["/", "/healthz", "/metrics", "/api/v1/projects", "/.well-known/acme-challenge/", "/readyz"]
        {
            let answer = http.call("GET", path).token(whole.stack.token()).send().await;
            assert_eq!(answer.status, 404, "{path}: {answer:?}");
            assert!(answer.header("content-type").starts_with("text/plain"), "{path}: {answer:?}");
        }
        let answer = http.call("POST", "/.well-known/acme-challenge/unknown").send().await;
        assert_eq!(answer.status, 405);
    }
}
