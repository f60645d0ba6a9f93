// SPDX-License-Identifier: Apache-2.0
//! Floods: more requests than there are places, more octets than there is memory for.

use std::time::{Duration, Instant};

use cap_testkit::wait::{Pending, until};

use super::raw::Begun;
use super::{api, retry_after, shed, token, tokens};
use crate::world::quiet;
use futures_util::{StreamExt, stream};

/// Places for requests, few enough to be filled in a moment, and how many of them one caller may have.
const PLACES: usize = 64;
const SHARE: usize = PLACES / 4;
/// What bodies may take of the memory.
const BODIES_MIB: usize = 64;
/// As long as a body may ever have: all that happens meanwhile must, on a busy machine too.
const BODY: (&str, &str) = ("CAP_API_BODY_TIMEOUT", "25s");
/// More than that, for the last answer to be read.
const BODY_ENDS_WITHIN: Duration = Duration::from_secs(50);
/// Requests that each of eight callers makes, of a whole MiB each.
const EACH: usize = 14;
/// Requests that are begun beside each other.
const BESIDE: usize = 16;
/// A health check that takes longer is given up by whoever asks.
const HEALTHY_WITHIN: Duration = Duration::from_secs(2);

#[tokio::test]
async fn a_caller_has_its_share_others_the_rest_and_a_full_replica_is_healthy_and_says_when_to_come_back() {
    let quiet = quiet().await;
    let settings = [("CAP_API_PLACES", "64"), BODY];
    let (service, http) = api(quiet, "api-flooded", &settings).await;
    let at = service.process().launch().env["CAP_API_LISTEN"].clone();
    let callers = tokens(quiet, &http, 5).await;
    let (last, flooding) = callers.split_last().unwrap();
    let mut held = Vec::new();
    for caller in flooding {
        assert_eq!(http.get("/api/v1/projects", last).await.status, 200, "others get through");
        for _ in 0..SHARE {
            held.push(Begun::new(&at, caller, 100).await.expect("a place"));
        }
        let refused = http.get("/api/v1/projects", caller).await;
        refused.problem(429, "too-many-at-once");
        retry_after(&refused);
    }
    assert_eq!(held.len(), PLACES);
    let mut waits = Vec::new();
    for _ in 0..20 {
        let refused = http.get("/api/v1/projects", last).await;
        refused.problem(503, "overloaded");
        waits.push(retry_after(&refused));
    }
    assert!(waits.iter().any(|wait| *wait != waits[0]), "all come back at once: {waits:?}");
    for path in ["/healthz", "/livez", "/readyz"] {
        let began = Instant::now();
        assert_eq!(http.call("GET", path).send().await.status, 200, "{path}");
        assert!(began.elapsed() < HEALTHY_WITHIN, "{path} took {:?}", began.elapsed());
    }
    assert!(shed(&service, "places").await >= 20.0 && shed(&service, "share").await >= 4.0);
    // Nobody sends another octet: each body is given up in time, and the replica is well again.
    let began = Instant::now();
    for begun in &mut held {
        let given_up = begun.answer().await;
        given_up.is(408, "body-too-slow");
        assert!(given_up.text.to_lowercase().contains("\r\nconnection: close\r\n"), "{given_up:?}");
    }
    assert!(began.elapsed() < BODY_ENDS_WITHIN, "{:?}", began.elapsed());
    assert_eq!(http.get("/api/v1/projects", last).await.status, 200);
    assert!(shed(&service, "slow_body").await >= 64.0);
}

#[tokio::test]
async fn bodies_beyond_their_memory_are_refused_before_they_are_read_and_memory_keeps_its_bound() {
    let quiet = quiet().await;
    let (service, http) = api(quiet, "api-fed", &[BODY]).await;
    let at = service.process().launch().env["CAP_API_LISTEN"].clone();
    let callers = tokens(quiet, &http, 8).await;
    let idle_mib = service.peak_mib().unwrap();
    let (mut taken, mut refused) = (Vec::new(), 0);
    let begin = callers.iter().flat_map(|caller| (0..EACH).map(|_| Begun::new(&at, caller, 1024 * 1024)));
    let begun: Vec<_> = stream::iter(begin).buffer_unordered(BESIDE).collect().await;
    for begun in begun {
        match begun {
            Ok(begun) => taken.push(begun),
            Err(answer) => {
                let (status, name) =
                    if answer.status == 429 { (429, "too-many-at-once") } else { (503, "overloaded") };
                answer.is(status, name);
                refused += 1;
            }
        }
    }
    assert_eq!((taken.len(), refused), (BODIES_MIB, 8 * EACH - BODIES_MIB));
    assert!(shed(&service, "bodies").await >= 40.0);
    for begun in &mut taken {
        begun.send().await;
    }
    // All of it is there, so that the bound is looked at under its load.
    until("the bodies to be in memory", Duration::from_secs(8), || async {
        let peak = service.peak_mib().unwrap();
        if peak >= idle_mib + BODIES_MIB * 3 / 4 { Ok(()) } else { Err(Pending::not_yet(peak)) }
    })
    .await
    .unwrap();
    // A small one of a caller that has nothing in memory is refused at once, too, and one without a body is not.
    let other = token(quiet).await;
    Begun::new(&at, &other, 4096).await.err().expect("a refusal").is(503, "overloaded");
    assert_eq!(http.get("/api/v1/projects", &other).await.status, 200);
    for begun in taken {
        // Blanks are no JSON: it was read, and that is all. On a machine that is very busy it may have come too late.
        let answer = begun.finish().await;
        assert!(matches!(answer.status, 400 | 408), "{answer:?}");
    }
    let peak = service.peak_mib().unwrap();
    println!("idle {idle_mib} MiB, at most {peak} MiB, with {BODIES_MIB} MiB for bodies of {} MiB", 8 * EACH);
    assert!(peak <= 2 * idle_mib + BODIES_MIB, "idle {idle_mib} MiB, at most {peak} MiB");
    let again = Begun::new(&at, &other, 4096).await.unwrap_or_else(|answer| panic!("{answer:?}"));
    assert_eq!(again.finish().await.status, 400, "the memory is free again");
}

#[tokio::test]
async fn a_body_does_not_unfold_into_many_times_its_size() {
    let quiet = quiet().await;
    let body = format!("{{\"name\":\"x\",\"role\":\"viewer\",\"x\":[{}\"\"]}}", "\"\",".repeat(10_001));
    let call = quiet.http().call("POST", "/api/v1/tokens").token(quiet.owner());
    let refused = call.body(Some("application/json"), body).send().await;
    assert!(refused.problem(413, "body-too-large").contains("commas"));
}
