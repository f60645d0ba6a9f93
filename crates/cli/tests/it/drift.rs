// SPDX-License-Identifier: Apache-2.0
//! Drift from the command line: turned on, scanned, listed, and an exit code for scripts.

use cap_client::PAGES_MAX;
use cap_testkit::site::Site;
use serde_json::{Value, json};

use crate::fake::{FakeApi, certificate, id, job, problem};
use crate::world::World;

#[tokio::test]
async fn drift_is_turned_on_scanned_and_told_and_a_check_ends_with_3() {
    // A system of its own: what is looked at are all certificates of a project.
    let world = World::start().await;
    let site = Site::start().await.unwrap();
    site.load_foreign("foreign.example.test").unwrap();
    let cli = world.cli();
    let port = site.address().port().to_string();
    let mut request =
        vec!["cert", "request", "drift.example.test", "--issuer", "local-ca", "--wait", "-o", "name"];
    request.extend(["--drift-host", "127.0.0.1", "--drift-port", &port]);
    let id = cli.run(&request).await.ends(0).data.trim_end().to_owned();
    let scan = ["drift", "scan", "drift.example.test", "--wait"];
    cli.run(&scan).await.refuses(6, &["--drift on"]);
    assert_eq!(site.connections(), 0);

    let turned = ["project", "update", "demo", "--drift", "on", "--drift-interval", "1h", "-o", "wide"];
    let turned = cli.run(&turned).await.ends(0).data;
    assert!(turned.contains("every 1h at port 443"), "{turned}");
    let rehearsed = cli.run(&[&scan[..], &["--dry-run"]].concat()).await.ends(0).data;
    assert!(rehearsed.contains(&format!("/certificates/{id}/drift-scan")), "{rehearsed}");

    let scanned = cli.run(&scan).await.ends(0).data;
    let lines: Vec<&str> = scanned.lines().collect();
    assert!(lines[0].contains("DRIFT") && lines[1].contains("drifted"), "{scanned}");
    assert!(
        lines[1].contains(&format!("drift.example.test: drifted at 127.0.0.1:{port}: serial ")),
        "{scanned}"
    );
    let described = cli.run(&["cert", "describe", "drift.example.test"]).await.ends(0).data;
    assert!(described.contains("\nDrift         drifted, scanned "), "{described}");
    assert!(described.contains(&format!("looked at: 127.0.0.1, port {port}\n")), "{described}");

    let list = ["drift", "list"];
    cli.run(&list).await.ends(0);
    let checked = cli.run(&[&list[..], &["--check"]].concat()).await.ends(3);
    assert!(
        checked.data.contains(&id) && checked.talk.contains("1 serve another certificate"),
        "{checked:?}"
    );
    let served = cli.run(&[&list[..], &["--state", "served", "-o", "json"]].concat()).await.ends(0);
    assert_eq!(served.json(), serde_json::json!([]));

    let [chain, key] =
        ["fullchain", "key"].map(|format| ["cert", "download", "drift.example.test", "--format", format]);
    let (chain, key) = (cli.run(&chain).await.ends(0).data, cli.run(&key).await.ends(0).data);
    site.load(&chain, &key).unwrap();
    let all = cli.run(&["drift", "scan", "--all", "--wait"]).await.ends(0).data;
    assert!(all.contains("served"), "{all}");
    cli.run(&[&list[..], &["--check"]].concat()).await.ends(0);
}

const SCAN_ALL: [&str; 5] = ["drift", "scan", "--all", "-p", "demo"];

fn project(drift: bool) -> (u16, Value) {
    let drift = json!({ "enabled": drift, "port": 443, "interval": "6h" });
    let created_at = "2026-01-01T00:00:00Z";
    (
        200,
        json!({ "id": id("prj", 1), "name": "demo", "weight": 1, "drift": drift, "created_at": created_at }),
    )
}

/// Which certificate a path is about.
fn number(asked: &str) -> u32 {
    (1..=9).find(|n| asked.contains(&format!("{n:032x}"))).unwrap()
}

/// A project with four certificates, whose scans are asked for and looked at as `answer` says, and well otherwise.
async fn four(answer: impl Fn(&str, u32) -> Option<(u16, Value)> + Send + 'static) -> FakeApi {
    FakeApi::answering(move |asked| {
        let lists = "GET /api/v1/projects/demo/certificates?";
        match asked {
            "GET /api/v1/projects/demo" => project(true),
            _ if asked.starts_with(lists) => {
                (200, json!({ "items": ([1, 2, 3, 4].map(certificate)), "next_cursor": null }))
            }
            _ => answer(asked, number(asked)).unwrap_or_else(|| match asked.split('/').nth(5) {
                Some("jobs") => (200, job(number(asked), "drift-scan", "succeeded")),
                _ if asked.starts_with("POST") => (202, job(number(asked), "drift-scan", "queued")),
                _ => (200, certificate(number(asked))),
            }),
        }
    })
    .await
}

#[tokio::test]
async fn what_cannot_be_scanned_is_named_and_keeps_no_other_from_it() {
    let api =
        four(|asked, n| (n == 2 && asked.starts_with("POST")).then(|| problem(404, "it is gone"))).await;
    let ran = api.cli.run(&[&SCAN_ALL[..], &["-o", "name"]].concat()).await.ends(8);
    assert_eq!(ran.data.lines().collect::<Vec<_>>(), [1, 3, 4].map(|n| id("job", n)), "{ran:?}");
    let told = format!("1 of 4 certificates were not scanned: {}\n  hint: ", id("crt", 2));
    ran.tells(&[&told, "it is gone"]);

    // One is deleted while its scan is waited for, and of another nobody looks any more.
    let api = four(|asked, n| match n {
        1 if asked.starts_with("GET") && asked.contains("/certificates/") => Some(problem(404, "it is gone")),
        3 if asked.contains("/jobs/") => Some((200, job(3, "drift-scan", "dead"))),
        _ => None,
    })
    .await;
    let ran = api.cli.run(&[&SCAN_ALL[..], &["--wait", "-o", "name"]].concat()).await.ends(8);
    assert_eq!(ran.data.lines().collect::<Vec<_>>(), [2, 4].map(|n| id("crt", n)), "{ran:?}");
    let told = format!("2 of 4 certificates were not scanned: {}, {}\n", id("crt", 1), id("crt", 3));
    ran.tells(&[&told, "it is gone", "the job is dead"]);

    // A job that is cancelled looked at nothing.
    let api = four(|asked, n| {
        (n == 2 && asked.contains("/jobs/")).then(|| (200, job(2, "drift-scan", "cancelled")))
    })
    .await;
    let ran = api.cli.run(&[&SCAN_ALL[..], &["--wait", "-o", "name"]].concat()).await.ends(8);
    ran.tells(&[&format!("1 of 4 certificates were not scanned: {}", id("crt", 2)), "was cancelled"]);

    // Who may not ask for this one may not ask for the next: no further one is asked for.
    let api =
        four(|asked, n| (n == 3 && asked.starts_with("POST")).then(|| problem(403, "not any more"))).await;
    let ran = api.cli.run(&[&SCAN_ALL[..], &["-o", "name"]].concat()).await.ends(8);
    assert_eq!((ran.data.lines().count(), api.seen("POST").len()), (2, 3), "{ran:?}");
    ran.tells(&["2 of 4", &id("crt", 3), &id("crt", 4), "not any more"]);
}

#[tokio::test]
async fn a_scan_of_all_that_scans_none_is_a_plain_error() {
    let api = four(|asked, _| asked.starts_with("POST").then(|| problem(404, "it is gone"))).await;
    api.cli.run(&SCAN_ALL).await.refuses(4, &["it is gone"]);
    assert_eq!(api.seen("POST").len(), 4);

    let api = FakeApi::answering(|_| project(false)).await;
    api.cli.run(&SCAN_ALL).await.refuses(6, &["drift scans are off", "project update demo --drift on"]);

    let api = FakeApi::answering(|asked| match asked.rsplit_once("cursor=") {
        None if asked.ends_with("/demo") => project(true),
        None => (200, json!({ "items": [certificate(1)], "next_cursor": "1" })),
        Some((_, page)) => {
            let next = (page.parse::<u32>().unwrap() + 1).to_string();
            (200, json!({ "items": [certificate(2)], "next_cursor": next }))
        }
    })
    .await;
    api.cli.run(&SCAN_ALL).await.refuses(1, &["too many certificates", "none was scanned"]);
    assert_eq!(api.seen("GET").len(), usize::try_from(PAGES_MAX).unwrap() + 1);
    assert!(api.seen("POST").is_empty());
}
