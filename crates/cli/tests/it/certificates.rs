// SPDX-License-Identifier: Apache-2.0
//! A certificate's life from the command line: asked for, described, downloaded, renewed, deleted.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cap_testkit::scratch::Scratch;
use cap_testkit::wait::{self, Pending};
use serde_json::{Value, json};

use crate::fake::{FakeApi, certificate, id, job};
use crate::world::{text, world};

/// An issuance on a busy machine.
const REPLACED_WITHIN: Duration = Duration::from_secs(120);

#[tokio::test]
async fn a_request_that_waits_shows_the_issued_certificate() {
    let world = world().await.read().await;
    let args = ["cert", "request", "shown.example.test", "--issuer", "local-ca", "--wait"];
    let ran = world.cli().run(&args).await.ends(0);
    let lines: Vec<&str> = ran.data.lines().collect();
    assert!(lines[0].starts_with("NAMES") && lines[0].ends_with("ID"), "{}", ran.data);
    assert!(lines[1].starts_with("shown.example.test") && lines[1].contains(" valid "), "{}", ran.data);
    assert_eq!(lines.len(), 2, "{}", ran.data);
}

#[tokio::test]
async fn a_name_is_described_as_typed_and_as_it_stands_in_the_certificate() {
    let world = world().await.read().await;
    world.issued("Bücher.example.test").await;
    for typed in ["bücher.example.test", "BÜCHER.example.test.", "xn--bcher-kva.example.test"] {
        let described = world.cli().run(&["cert", "describe", typed]).await.ends(0).data;
        let names = "\nNames         Bücher.example.test (xn--bcher-kva.example.test)\n";
        assert!(described.contains(names), "{typed}: {described}");
        assert!(described.contains("\nIssuer        local-ca (iss_"), "{described}");
        assert!(described.contains("\nStatus        valid\n"), "{described}");
    }
}

#[tokio::test]
async fn what_is_downloaded_verifies_against_the_cas_root_and_the_key_fits() {
    let (world, scratch) = (world().await.read().await, Scratch::create().unwrap());
    let id = world.issued("download.example.test").await;
    let path = |name: &str| scratch.path().join(name);
    let mut pems = Vec::new();
    for (format, certificates) in [("leaf", 1), ("chain", 1), ("fullchain", 2), ("key", 0)] {
        let file = path(format);
        let args = ["cert", "download", &id, "--format", format, "--out", text(&file)];
        let written = world.cli().run(&args).await.ends(0).tells(&["is written"]);
        assert_eq!(written.data, "");
        let pem = fs::read_to_string(&file).unwrap();
        assert_eq!(pem.matches("-----BEGIN CERTIFICATE-----").count(), certificates, "{format}");
        assert_eq!(pem.contains("PRIVATE KEY"), format == "key", "{format}");
        let piped = world.cli().run(&["cert", "download", &id, "--format", format]).await.ends(0);
        assert_eq!((piped.data.as_str(), piped.talk.as_str()), (pem.as_str(), ""), "{format}");
        pems.push(pem);
    }
    assert_eq!([pems[0].as_str(), &pems[1]].concat(), pems[2], "the full chain is the leaf and its chain");
    assert_eq!(fs::metadata(path("key")).unwrap().permissions().mode() & 0o777, 0o600);

    fs::write(path("root"), &world.root_pem).unwrap();
    let line = "cd \"$DIR\" && openssl verify -CAfile root -untrusted chain -verify_hostname download.example.test leaf \
                && openssl x509 -in leaf -noout -pubkey >one && openssl pkey -in key -pubout >two && cmp one two";
    let verified = world.cli().with("DIR", scratch.path().display()).shell(line).await.ends(0);
    assert_eq!(verified.data, "leaf: OK\n");
    let stranger = "cd \"$DIR\" && openssl verify -CAfile leaf -untrusted chain leaf";
    let refused = world.cli().with("DIR", scratch.path().display()).shell(stranger).await;
    assert_ne!(refused.code, Some(0), "any root is good enough: {refused:?}");
}

#[tokio::test]
async fn a_key_file_is_replaced_with_leave_only_and_stays_its_owners() {
    let (world, scratch) = (world().await.read().await, Scratch::create().unwrap());
    let id = world.issued("replaced.example.test").await;
    let file = scratch.path().join("key.pem");
    fs::write(&file, "mine").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let args = ["cert", "download", &id, "--format", "key", "--out", text(&file)];
    world.cli().run(&args).await.refuses(2, &["there is a file of that name", "--yes"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    world.cli().run(&[&args[..], &["--yes"]].concat()).await.ends(0);
    assert!(fs::read_to_string(&file).unwrap().contains("PRIVATE KEY"));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_renewal_that_waits_ends_with_version_2() {
    let world = world().await.read().await;
    let id = world.issued("renewed.example.test").await;
    let get = ["cert", "get", &id, "-o", "json"];
    let before = world.cli().run(&get).await.ends(0).json();
    let renewed = world.cli().run(&["cert", "renew", "renewed.example.test", "--wait", "-o", "json"]).await;
    let after = renewed.ends(0).tells(&["waiting until it is done", "Its version is now 2."]).json();
    assert_eq!((&before["version"]["number"], &after["version"]["number"]), (&1.into(), &2.into()));
    assert_ne!(before["version"]["serial"], after["version"]["serial"]);
    assert_eq!(after["id"], id.as_str());
    let described = world.cli().run(&["cert", "describe", &id]).await.ends(0).data;
    assert!(described.contains("\nVersion       2 (ver_"), "{described}");
}

#[tokio::test]
async fn a_certificate_is_deleted_with_leave_only() {
    let world = world().await.read().await;
    let id = world.issued("deleted.example.test").await;
    world.cli().run(&["cert", "delete", &id]).await.refuses(2, &["there is nobody to ask", "--yes"]);
    let rehearsed = world.cli().run(&["cert", "delete", &id, "--dry-run"]).await.ends(0);
    assert!(rehearsed.data.starts_with("DELETE /api/v1/projects/demo/certificates/crt_"), "{rehearsed:?}");
    world.cli().run(&["cert", "get", &id]).await.ends(0);
    world.cli().run(&["cert", "delete", &id, "--yes"]).await.ends(0).tells(&["is deleted"]);
    world.cli().run(&["cert", "get", &id]).await.refuses(4, &["request: req_"]);
}

#[tokio::test]
async fn an_rsa_key_is_kept_where_that_is_asked_for_and_a_description_says_so() {
    let world = world().await.read().await;
    let args = [
        "cert",
        "request",
        "rsa.example.test",
        "--issuer",
        "local-ca",
        "--key-type",
        "rsa-2048",
        "--reuse-key",
    ];
    let made = world.cli().run(&[&args[..], &["--wait", "-o", "json"]].concat()).await.ends(0).json();
    assert_eq!(made["key"], serde_json::json!({ "type": "rsa-2048", "reuse": true }));
    let id = made["id"].as_str().unwrap();
    let renewed = world.cli().run(&["cert", "renew", id, "--wait", "-o", "json"]).await.ends(0).json();
    assert_eq!(renewed["version"]["spki_sha256"], made["version"]["spki_sha256"]);
    assert_ne!(renewed["version"]["serial"], made["version"]["serial"]);
    let described = world.cli().run(&["cert", "describe", id]).await.ends(0).data;
    assert!(described.contains("\nKey           rsa-2048, kept at renewals\n"), "{described}");
    assert!(described.contains(made["version"]["spki_sha256"].as_str().unwrap()), "{described}");
    let wrong = ["cert", "request", "b.example.test", "--issuer", "local-ca", "--key-type", "rsa-1024"];
    world.cli().run(&wrong).await.ends(2).tells(&["rsa-2048"]);
}

#[tokio::test]
async fn a_version_is_revoked_with_leave_only_and_shown_as_revoked() {
    let world = world().await.read().await;
    let id = world.issued("revoked.example.test").await;
    let args = ["cert", "revoke", "revoked.example.test", "--reason", "cessationOfOperation", "--no-replace"];
    world.cli().run(&args).await.refuses(2, &["there is nobody to ask", "--yes"]);
    let rehearsed = world.cli().run(&[&args[..], &["--dry-run"]].concat()).await.ends(0);
    assert!(rehearsed.data.starts_with("POST /api/v1/projects/demo/certificates/crt_"), "{rehearsed:?}");
    assert!(rehearsed.data.contains("/revoke\n"), "{rehearsed:?}");
    assert!(
        rehearsed.data.contains("\"version\":\"ver_") || rehearsed.data.contains("\"version\": \"ver_"),
        "{rehearsed:?}"
    );
    let wrong = ["cert", "revoke", &id, "--reason", "caCompromise", "--yes"];
    world.cli().run(&wrong).await.ends(2).tells(&["keyCompromise"]);
    world.cli().run(&["cert", "get", &id]).await.ends(0);

    let revoked = world.cli().run(&[&args[..], &["--yes", "--wait", "-o", "json"]].concat()).await;
    let revoked = revoked.ends(0).tells(&["waiting until it is done", "The CA has revoked it."]).json();
    assert_eq!((&revoked["status"], &revoked["renew_at"]), (&"revoked".into(), &serde_json::Value::Null));
    let described = world.cli().run(&["cert", "describe", &id]).await.ends(0).data;
    assert!(described.contains("\nStatus        revoked\n"), "{described}");
    assert!(described.contains("\nRenewal       none, since it was revoked; `cert resume`"), "{described}");
    assert!(described.contains("cessationOfOperation\n"), "{described}");
    let listed = world.cli().run(&["cert", "list", "--status", "revoked", "-o", "name"]).await.ends(0).data;
    assert!(listed.lines().any(|line| line == id), "{listed}");
    world.cli().run(&[&args[..], &["--yes"]].concat()).await.refuses(6, &["nothing left to do"]);
}

#[tokio::test]
async fn a_certificate_is_paused_and_resumed_however_often_and_says_what_that_means() {
    let world = world().await.read().await;
    let (cli, id) = (world.cli(), world.issued("paused.example.test").await);
    let rehearsed = cli.run(&["cert", "pause", "paused.example.test", "--dry-run"]).await.ends(0).data;
    assert_eq!(rehearsed, format!("POST /api/v1/projects/demo/certificates/{id}/pause\n"));
    for _ in 0..2 {
        let paused = cli.run(&["cert", "pause", "paused.example.test", "-o", "json"]).await.ends(0);
        let paused = paused.tells(&["until it is resumed", "what is under way goes on", "its version ends "]);
        assert_eq!(
            (&paused.json()["auto_renew"], &paused.json()["status"]),
            (&false.into(), &"valid".into())
        );
    }
    let described = cli.run(&["cert", "describe", &id]).await.ends(0).data;
    assert!(described.contains("\nRenewal       only when asked for\n"), "{described}");
    for _ in 0..2 {
        let resumed = cli.run(&["cert", "resume", &id, "-o", "json"]).await.ends(0);
        let resumed = resumed.tells(&["renewed by itself again: it is due in "]);
        assert_eq!(resumed.json()["auto_renew"], true);
    }
    let none = format!("crt_{}1", "0".repeat(31));
    for verb in ["pause", "resume"] {
        cli.run(&["cert", verb, &none]).await.refuses(4, &["request: req_"]);
        let help = cli.run(&["cert", verb, "--help"]).await.ends(0).data;
        assert!(
            help.contains(&format!("cert update --{}auto-renew", if verb == "pause" { "no-" } else { "" }))
        );
    }
}

#[tokio::test]
async fn what_is_named_of_a_certificate_is_changed_and_the_rest_stays() {
    let world = world().await.read().await;
    let (cli, id) = (world.cli(), world.issued("changed.example.test").await);
    let update = async |flags: &[&str]| {
        let ran =
            cli.run(&[&["cert", "update", "changed.example.test", "-o", "json"][..], flags].concat()).await;
        ran.ends(0).json()
    };
    let flags = ["--key-type", "ecdsa-p384", "--reuse-key", "--preferred-chain", "X1", "--no-auto-renew"];
    let rehearsed = update(&[&flags[..], &["--dry-run"]].concat()).await;
    assert_eq!(rehearsed["path"], format!("/api/v1/projects/demo/certificates/{id}"));
    let asked = serde_json::json!({
        "auto_renew": false, "key": { "type": "ecdsa-p384", "reuse": true }, "preferred_chain": "X1",
    });
    assert_eq!((&rehearsed["method"], &rehearsed["body"]), (&"PATCH".into(), &asked));
    let changed = update(&flags).await;
    for member in ["auto_renew", "key", "preferred_chain"] {
        assert_eq!(changed[member], asked[member], "{member}");
    }
    let moved = update(&["--drift-host", "127.0.0.1", "--drift-port", "8443"]).await;
    assert_eq!((&moved["drift"]["host"], &moved["drift"]["port"]), (&"127.0.0.1".into(), &8443.into()));
    assert_eq!((&moved["key"], &moved["auto_renew"]), (&asked["key"], &false.into()));
    let back = update(&["--no-reuse-key", "--clear-preferred-chain", "--clear-drift", "--auto-renew"]).await;
    assert_eq!(back["key"], serde_json::json!({ "type": "ecdsa-p384", "reuse": false }));
    assert!(back["preferred_chain"].is_null() && back["auto_renew"] == true, "{back}");
    assert!(back["drift"].is_null() || back["drift"]["host"].is_null(), "{back}");

    cli.run(&["cert", "update", &id]).await.ends(2).tells(&["--help"]);
    let wrong = ["cert", "update", &id, "--profile", "a b"];
    cli.run(&wrong).await.refuses(2, &["request: req_"]);
}

#[tokio::test]
async fn a_version_that_is_revoked_is_replaced_where_that_is_asked_for_although_it_is_not_renewed_by_itself()
{
    let world = world().await.read().await;
    let cli = world.cli();
    let name = "replaced-once.example.test";
    let request =
        ["cert", "request", name, "--issuer", "local-ca", "--no-auto-renew", "--wait", "-o", "json"];
    let made = cli.run(&request).await.ends(0).json();
    let revoke = ["cert", "revoke", name, "--reason", "superseded", "--replace"];
    cli.run(&[&revoke[..], &["--no-replace", "--yes"]].concat())
        .await
        .ends(2)
        .tells(&["cannot be used with"]);
    cli.run(&[&revoke[..], &["--yes", "--wait"]].concat()).await.ends(0);
    let last = wait::until("the replacement", REPLACED_WITHIN, || async {
        let seen = cli.run(&["cert", "get", name, "-o", "json"]).await.ends(0).json();
        let is_there = seen["version"]["number"] == 2 && seen["status"] == "valid";
        if is_there { Ok(seen) } else { Err(Pending::not_yet(seen)) }
    });
    let last = last.await.unwrap();
    assert_ne!(last["version"]["spki_sha256"], made["version"]["spki_sha256"]);
    assert_eq!(last["auto_renew"], false, "once is not always");
}

/// What a job was for may be done although it was cancelled, since somebody else did it; where it is not, that is said.
#[tokio::test]
async fn a_renewal_or_revocation_whose_job_is_cancelled_is_not_called_done() {
    let api = |later: Value| async move {
        let asked_for = AtomicBool::new(false);
        FakeApi::answering(move |asked| {
            let before = !asked_for.load(Ordering::Relaxed);
            match asked {
                _ if asked.starts_with("POST") => {
                    asked_for.store(true, Ordering::Relaxed);
                    (202, job(1, "issue", "queued"))
                }
                _ if asked.contains("/jobs/") => (200, job(1, "issue", "cancelled")),
                _ if asked.contains("/versions") => {
                    (200, json!({ "items": [later["version"]], "next_cursor": null }))
                }
                _ if before => (200, certificate(1)),
                _ => (200, later.clone()),
            }
        })
        .await
    };
    let id = id("crt", 1);
    let renew = ["cert", "renew", &id, "--wait", "-p", "demo"];
    let revoke = ["cert", "revoke", &id, "--reason", "superseded", "--yes", "--wait", "-p", "demo"];
    let unchanged = api(certificate(1)).await;
    unchanged.cli.run(&renew).await.refuses(1, &["was cancelled", "cert renew crt_"]);
    unchanged.cli.run(&revoke).await.refuses(1, &["was cancelled", "ask again"]);

    let mut renewed = certificate(1);
    renewed["version"]["number"] = json!(2);
    api(renewed).await.cli.run(&renew).await.ends(0).tells(&["Its version is now 2"]);
    let mut revoked = certificate(1);
    let at = "2026-01-02T00:00:00Z";
    revoked["version"]["revocation"] = json!({ "reason": "superseded", "asked_at": at, "revoked_at": at });
    api(revoked).await.cli.run(&revoke).await.ends(0).tells(&["The CA has revoked it."]);
}
