// SPDX-License-Identifier: Apache-2.0
//! How a command ends when it cannot be done: a number for scripts, and what to do for people.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::fake::{FakeApi, problem};
use crate::run::Cli;
use crate::world::world;

#[tokio::test]
async fn an_unknown_certificate_ends_with_4() {
    let world = world().await.read().await;
    let none = format!("crt_{}1", "0".repeat(31));
    for verb in ["get", "describe", "renew"] {
        world.cli().run(&["cert", verb, &none]).await.refuses(4, &["request: req_"]);
        let named = world.cli().run(&["cert", verb, "unknown.example.test"]).await;
        named.refuses(4, &["unknown.example.test", "cert list"]);
    }
    world.cli().run(&["cert", "download", &none, "--format", "key"]).await.refuses(4, &["request: req_"]);
}

#[tokio::test]
async fn a_token_that_is_no_good_ends_with_5_and_is_not_repeated() {
    let world = world().await.read().await;
    let mut altered = world.stack.token().to_owned();
    let last = if altered.pop() == Some('A') { 'B' } else { 'A' };
    altered.push(last);
    let ran = world.cli().with("CAP_TOKEN", &altered).run(&["cert", "list"]).await;
    let ran = ran.refuses(5, &["CAP_TOKEN", "request: req_"]);
    assert!(!ran.talk.contains(&altered), "{}", ran.talk);
    world.cli().without("CAP_TOKEN").run(&["cert", "list"]).await.refuses(5, &["CAP_TOKEN"]);
}

#[tokio::test]
async fn a_role_that_is_too_low_ends_with_5() {
    let world = world().await.read().await;
    let args = ["token", "create", "watcher", "--role", "viewer", "--expires-in", "1h"];
    let made = world.cli().run(&args).await.ends(0).tells(&["Token watcher (tok_"]);
    let viewer = world.cli().with("CAP_TOKEN", made.data.trim_end());
    viewer.run(&["cert", "list"]).await.ends(0);
    let request = ["cert", "request", "viewer.example.test", "--issuer", "local-ca"];
    viewer.run(&request).await.refuses(5, &["role", "request: req_"]);
}

#[tokio::test]
async fn a_conflict_ends_with_6() {
    let world = world().await.read().await;
    world.cli().run(&["project", "create", "demo"]).await.refuses(6, &["demo", "request: req_"]);
}

#[tokio::test]
async fn an_api_that_is_away_ends_with_1_and_says_what_to_check() {
    let away = Cli::bare().with("CAP_API_URL", "http://127.0.0.1:1").with("CAP_TOKEN", "none");
    let told = ["http://127.0.0.1:1", "cannot be reached", "hint: check the URL"];
    away.with("CAP_TOKEN", world().await.read().await.stack.token())
        .run(&["cert", "list"])
        .await
        .refuses(1, &told);
}

#[tokio::test]
async fn an_api_that_is_away_or_broken_is_not_healthy() {
    let away = Cli::bare().with("CAP_API_URL", "http://127.0.0.1:1");
    let token = world().await.read().await.stack.token().to_owned();
    for cli in [away.clone(), away.with("CAP_TOKEN", token)] {
        for line in [&["health"][..], &["health", "--deep"]] {
            let ran =
                cli.run(line).await.refuses(3, &["http://127.0.0.1:1", "cannot be reached", "check the URL"]);
            assert!(!ran.talk.contains("with a token"), "{}", ran.talk);
        }
    }
    for (status, told) in [("500 Internal Server Error", "answer"), ("503 Service Unavailable", "not ready")]
    {
        let url = answering(status).await;
        let ran =
            Cli::bare().with("CAP_API_URL", url).run(&["health", "--deep"]).await.ends(3).tells(&[told]);
        assert!(ran.talk.contains("\n  hint: ") && !ran.talk.contains("with a token"), "{}", ran.talk);
    }
}

#[tokio::test]
async fn what_the_api_refuses_who_asks_is_no_word_of_its_health() {
    let deep = ["health", "--deep"];
    let (asked, refused) = (AtomicU16::new(0), |status| problem(status, "too many of yours"));
    let busy = FakeApi::answering(move |path| match asked.fetch_add(1, Ordering::Relaxed) {
        0 => refused(429),
        _ if path.starts_with("GET /readyz") => (200, json!("[+]mongo ok")),
        _ => refused(404),
    })
    .await;
    let ran = busy.cli.run(&deep).await.ends(0);
    assert!(ran.data.contains("[+]mongo ok"), "{ran:?}");

    let shut = FakeApi::answering(move |_| refused(429)).await;
    shut.cli.run(&deep).await.refuses(1, &["too many of yours"]);
    assert_eq!(shut.seen("GET").len(), 2);
    let unwell = FakeApi::answering(move |_| refused(503)).await;
    let ran = unwell.cli.run(&deep).await.refuses(3, &["too many of yours"]);
    assert!(!ran.talk.contains("a check failed"), "{ran:?}");
}

#[tokio::test]
async fn what_can_be_no_name_ends_with_2_and_is_not_sent() {
    let api = FakeApi::answering(|_| problem(404, "nobody asks")).await;
    for text in ["", ".", ".."] {
        api.cli.run(&["issuer", "get", text, "-p", "demo"]).await.refuses(2, &["neither an id nor a name"]);
        api.cli.run(&["issuer", "list", "-p", text]).await.refuses(2, &["neither an id nor a name"]);
    }
    assert_eq!(api.seen(""), Vec::<String>::new());
}

/// The URL of a server that answers every request with this status and nothing more.
async fn answering(status: &'static str) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    url
}

#[tokio::test]
async fn what_makes_no_sense_ends_with_2() {
    let world = world().await.read().await;
    world
        .cli()
        .run(&["cert", "request", "*.example.test", "--issuer", "local-ca"])
        .await
        .refuses(2, &["*.example.test is a wildcard", "HTTP-01", "request: req_"]);
    world.cli().run(&["cert", "get", "no name"]).await.refuses(2, &["names no certificate"]);
    Cli::bare().run(&["cert", "list"]).await.refuses(2, &["CAP_API_URL"]);
    for line in [&["cert", "request"][..], &["cert", "lost"], &["cert", "list", "-o", "xml"], &[]] {
        let ran = Cli::bare().run(line).await.ends(2);
        assert!(ran.data.is_empty() && ran.talk.contains("--help"), "{line:?}: {ran:?}");
    }
}

#[tokio::test]
async fn what_is_not_done_in_time_ends_with_7_and_goes_on() {
    let world = world().await.read().await;
    // A CA that takes the connection and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/dir", silent.local_addr().unwrap());
    let args = ["issuer", "create", "silent", "--directory-url", &url, "--wait", "--timeout", "1s"];
    let told = ["issuer silent is not done yet", "after 1s", "--timeout"];
    world.cli().run(&args).await.refuses(7, &told);
    world.cli().run(&["issuer", "get", "silent"]).await.ends(0);
    let args = ["cert", "request", "silent.example.test", "--issuer", "silent", "--wait", "--timeout", "1s"];
    world.cli().run(&args).await.refuses(7, &["is not done yet", "it is still requested", "--timeout"]);
    let listed = world.cli().run(&["cert", "get", "silent.example.test", "-o", "json"]).await.ends(0).json();
    assert_ne!(listed["status"], "valid");
    world.cli().run(&["cert", "delete", "silent.example.test", "--yes"]).await.ends(0);
    world.cli().run(&["issuer", "delete", "silent", "--yes"]).await.ends(0);
}

#[tokio::test]
async fn what_fails_for_now_ends_with_7_and_tells_the_problem() {
    let world = world().await.read().await;
    let url = "https://127.0.0.1:1/dir";
    let args = ["issuer", "create", "nobody", "--directory-url", url, "--wait", "--timeout", "20s"];
    world
        .cli()
        .run(&args)
        .await
        .refuses(7, &["issuer nobody is not done yet", "127.0.0.1:1", "goes on by itself"]);
    world.cli().run(&["issuer", "delete", "nobody", "--yes"]).await.ends(0);
}

#[tokio::test]
async fn a_configuration_is_checked_whole_and_nothing_is_opened() {
    // Nobody is at home at either address: it is enough that they are well formed.
    let good = Cli::bare()
        .with("CAP_API_URL", "https://certs.example.test")
        .with("CAP_MONGO_URI", "mongodb://127.0.0.1:1/x?replicaSet=none");
    let ran = good.run(&["--check-config"]).await.ends(0).tells(&["good"]);
    assert_eq!(ran.data, "");
    let bad = good.clone().with("CAP_NONSENSE", "1").with("CAP_MONGO_ALLOW_PLAINTEXT", "perhaps");
    bad.run(&["--check-config"]).await.ends(64).tells(&["CAP_NONSENSE", "CAP_MONGO_ALLOW_PLAINTEXT"]);
    let others = good.clone().with("CAP_JOB_LEASE", "5").with("CAP_LOG", "a=b=c");
    others.run(&["--check-config"]).await.ends(64).tells(&["CAP_JOB_LEASE", "CAP_LOG"]);
    bad.run(&["schema", "status"]).await.ends(64).tells(&["CAP_NONSENSE", "CAP_MONGO_ALLOW_PLAINTEXT"]);
}

#[tokio::test]
async fn a_wait_that_the_api_asks_for_is_told_and_bounded() {
    for (status, told) in [
        (
            "429 Too Many Requests\r\nretry-after: 1",
            "the API asks for fewer requests (429); trying again in 1s",
        ),
        ("503 Service Unavailable\r\nretry-after: 1", "the API cannot answer now (503); trying again in 1s"),
    ] {
        let cli = Cli::bare().with("CAP_API_URL", answering(status).await).with("CAP_TOKEN", "none");
        let ran = cli.run(&["project", "list"]).await.ends(1);
        assert_eq!(ran.talk.matches(told).count(), 3, "{}", ran.talk);
    }
}
