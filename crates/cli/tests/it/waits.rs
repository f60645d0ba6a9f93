// SPDX-License-Identifier: Apache-2.0
//! Waiting for what nobody works on any more: the record says only that it failed, and its job that it is dead.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::fake::{FakeApi, certificate, id, job};

const REQUEST: [&str; 10] = [
    "cert",
    "request",
    "n1.example.test",
    "--issuer",
    "ca",
    "--no-auto-renew",
    "--wait",
    "--timeout=5s",
    "-p",
    "demo",
];

/// A certificate whose last attempt failed, and when the next one is.
fn failing(next: Option<&str>) -> Value {
    let mut failing = certificate(1);
    failing["status"] = json!("failing");
    failing["auto_renew"] = json!(false);
    failing["problem"] = json!({ "class": "configuration", "type": "terms", "detail": "agree to the terms" });
    failing["next_attempt_at"] = json!(next);
    failing
}

fn issuer(status: &str) -> Value {
    json!({
        "id": id("iss", 1), "project": id("prj", 1), "name": "ca", "directory_url": "https://ca.test/dir", "contact": [],
        "status": status, "problem": { "class": "configuration", "type": "terms", "detail": "agree to the terms" },
        "created_at": "2026-01-01T00:00:00Z",
    })
}

/// A project with one newest job in this state; the certificate is what `seen` says at each look.
async fn api(state: &'static str, seen: impl Fn(usize) -> Value + Send + 'static) -> FakeApi {
    let looks = AtomicUsize::new(0);
    FakeApi::answering(move |asked| match asked {
        _ if asked.contains("/jobs?") => {
            (200, json!({ "items": [job(1, "issue", state)], "next_cursor": null }))
        }
        _ if asked.starts_with("POST") && asked.ends_with("/issuers") => (201, issuer("registering")),
        _ if asked.contains("/issuers/") => (200, issuer("failing")),
        _ if asked.starts_with("POST") && asked.ends_with("/renewal-info") => (200, seen(0)),
        _ if asked.starts_with("POST") => (201, certificate(1)),
        _ => (200, seen(looks.fetch_add(1, Ordering::Relaxed))),
    })
    .await
}

#[tokio::test]
async fn a_request_whose_job_is_dead_is_waited_for_no_longer() {
    let dead = api("dead", |_| failing(None)).await;
    let told =
        [&id("job", 1), "is dead", "agree to the terms", "does not go on by itself", "cert renew crt_"];
    dead.cli.run(&REQUEST).await.refuses(1, &told);

    // It is being tried now.
    let running = api("running", |_| failing(None)).await;
    running.cli.run(&REQUEST).await.refuses(7, &["it is still failing", "goes on by itself"]);
}

#[tokio::test]
async fn a_certificate_that_was_read_before_its_job_died_is_read_again() {
    // The planner has it tried again, which was not to be seen yet.
    let planned = api("dead", |look| match look {
        0 => failing(None),
        1 => failing(Some("2026-01-01T00:00:00Z")),
        _ => certificate(1),
    })
    .await;
    planned.cli.run(&REQUEST).await.ends(0);
}

#[tokio::test]
async fn an_issuer_whose_registration_is_dead_is_waited_for_no_longer() {
    let dead = api("dead", |_| failing(None)).await;
    let create = ["issuer", "create", "ca", "--directory-url", "https://ca.test/dir", "--wait"];
    let told = ["is dead", "agree to the terms", "does not go on by itself", "job retry job_"];
    dead.cli.run(&[&create[..], &["--timeout=5s", "-p", "demo"]].concat()).await.refuses(1, &told);
    let asked = dead.seen("GET /api/v1/projects/demo/jobs?");
    assert!(asked.iter().all(|asked| asked.contains("kind=register-issuer")), "{asked:?}");
}

#[tokio::test]
async fn the_cas_word_on_renewal_is_waited_for_and_told() {
    let looked = |at: &str, problem: Value| {
        let mut seen = certificate(1);
        seen["renew_at"] = json!("2026-02-02T00:00:00Z");
        seen["renewal_info"] = json!({
            "window": { "start": "2026-02-01T00:00:00Z", "end": "2026-02-03T00:00:00Z", "renew_at": "2026-02-02T00:00:00Z" },
            "explanation_url": null, "looked_at": at, "next_look_at": "2026-02-01T00:00:00Z", "problem": problem,
        });
        seen
    };
    let (before, since) = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
    let ask = ["cert", "renewal-info", &id("crt", 1), "--timeout=5s", "-p", "demo"];
    let waiting = [&ask[..], &["--wait"]].concat();
    let problem = json!({ "class": "protocol", "type": "renewal-window-ignored", "detail": "it ends before it begins" });
    for (problem, told) in [(Value::Null, "It suggests"), (problem, "it ends before it begins")] {
        let api = api("queued", move |look| match look {
            0 | 1 => looked(before, Value::Null),
            _ => looked(since, problem.clone()),
        })
        .await;
        api.cli.run(&waiting).await.ends(0).tells(&[told]);
    }
    let silent = api("queued", move |_| looked(before, Value::Null)).await;
    silent.cli.run(&waiting).await.refuses(7, &["it is still not asked"]);
    silent.cli.run(&ask).await.ends(0).tells(&["within a minute"]);
}

#[tokio::test]
async fn earlier_versions_are_described_with_their_ids_and_revocations() {
    let version = |number: u32, revocation: Value| {
        let mut version = certificate(number)["version"].clone();
        version["number"] = json!(number);
        version["revocation"] = revocation;
        version
    };
    let current = version(13, Value::Null);
    let at = "2026-01-02T00:00:00Z";
    let problem = json!({ "class": "configuration", "type": "unauthorized", "detail": "not yours" });
    let refused = json!({ "reason": "superseded", "asked_at": at, "revoked_at": null, "problem": problem });
    let all: Vec<Value> =
        (1..=13).rev().map(|n| version(n, if n == 12 { refused.clone() } else { Value::Null })).collect();
    let mut seen = certificate(1);
    seen["version"] = current;
    let api = FakeApi::answering(move |asked| match asked {
        _ if asked.contains("/versions") => (200, json!({ "items": all, "next_cursor": null })),
        _ if asked.contains("/jobs?") => (200, json!({ "items": [], "next_cursor": null })),
        _ if asked.contains("/issuers/") => (200, issuer("ready")),
        _ => (200, seen.clone()),
    })
    .await;
    let (one, earlier) = (id("crt", 1), id("ver", 12));
    let text = api.cli.run(&["cert", "describe", &one, "-p", "demo"]).await.ends(0).data;
    assert!(text.contains(&format!("\nEarlier       12 ({earlier}), ")), "{text}");
    assert!(text.contains("not done yet: superseded\n") && text.contains("in the way: not yours"), "{text}");
    assert!(text.contains("\n              and 2 more\n"), "{text}");
    let json = api.cli.run(&["cert", "describe", &one, "-p", "demo", "-o", "json"]).await.ends(0).json();
    let told = json["earlier_versions"].as_array().unwrap();
    assert_eq!((told.len(), &json["more_earlier_versions"]), (10, &2.into()));
    assert_eq!(
        (&told[0]["id"], &told[0]["revocation"]["problem"]["detail"]),
        (&earlier.into(), &"not yours".into())
    );
}
