// SPDX-License-Identifier: Apache-2.0
//! Revocation, end to end: a worker dies at every failpoint of it once, a peer finishes, and the CA says that it is done.

use std::path::Path;

use cap_core::fault::REVOKE_POINTS;
use cap_testkit::ca::{Asked, Fault, FaultRule};
use cap_testkit::mongo::driver::Client;
use cap_testkit::mongo::driver::bson::{Document, doc};
use cap_testkit::scratch::Scratch;
use cap_testkit::wait::{self, Pending};
use serde_json::{Value, json};

use crate::bench::{self, Bench, PATIENCE};
use crate::pem::Leaf;

/// Codes of reasons (RFC 5280, 5.3.1).
const KEY_COMPROMISE: u64 = 1;
const SUPERSEDED: u64 = 4;

async fn revoke(bench: &Bench, id: &str, body: Value) -> Value {
    bench.api.post(&bench.path(&format!("certificates/{id}/revoke")), &body).await.unwrap()
}

/// What the CA says of a version: whether it is revoked, and for which reason.
async fn at_the_ca(bench: &Bench, version: &Value) -> (bool, Option<u64>) {
    let said = bench.ca.certificate_status(version["serial"].as_str().unwrap()).await.unwrap();
    (said["Status"] == "Revoked", said["Reason"].as_u64())
}

async fn job_succeeded(bench: &Bench, job: &Value) {
    let path = bench.path(&format!("jobs/{}", job["id"].as_str().unwrap()));
    wait::until("the revocation", PATIENCE, || async {
        let job = bench.api.get(&path).await.map_err(Pending::not_yet)?;
        if job["state"] == "succeeded" { Ok(()) } else { Err(Pending::not_yet(job)) }
    })
    .await
    .unwrap();
}

async fn versions(bench: &Bench, id: &str) -> Vec<Value> {
    let listed = bench.api.get(&bench.path(&format!("certificates/{id}/versions"))).await.unwrap();
    listed["items"].as_array().unwrap().clone()
}

fn last_point(hits: &Path) -> Option<String> {
    std::fs::read_to_string(hits).unwrap_or_default().lines().last().map(str::to_owned)
}

#[tokio::test]
async fn a_worker_killed_at_any_failpoint_of_a_revocation_leaves_it_to_a_peer() {
    let (mut stack, bench) = bench::own(bench::workers(2)).await;
    let folder = Scratch::create().unwrap();
    let mut certificates = Vec::new();
    for point in REVOKE_POINTS {
        let id = bench.request(&format!("{}.example.test", point.replace('.', "-"))).await;
        certificates.push((point, bench.valid(&id).await));
    }
    for worker in &stack.workers {
        worker.kill9().unwrap();
    }
    for (point, record) in certificates {
        let id = record["id"].as_str().unwrap();
        let hits = folder.path().join(point);
        let victim = &mut stack.workers[0];
        victim.set_env("CAP_DRILL_KILL", point);
        victim.set_env("CAP_DRILL_HITS", &hits.display().to_string());
        victim.restart().unwrap();
        let job = revoke(&bench, id, json!({ "reason": "superseded", "replace": false })).await;
        let code = victim.wait_exit(PATIENCE).await.unwrap();
        assert_eq!(code, None, "{point}: ended by a signal");
        assert_eq!(last_point(&hits).as_deref(), Some(*point), "died there");
        let is_told = *point != "revoke.before";
        assert_eq!(at_the_ca(&bench, &record["version"]).await.0, is_told, "{point}");
        let is_recorded = *point == "record-revoked.after";
        let shown = bench.get(id).await;
        assert_eq!(shown["status"] == "revoked", is_recorded, "{point}: {shown}");
        assert_eq!(
            shown["version"]["revocation"]["reason"], "superseded",
            "what was asked for is written down"
        );

        let peer = &mut stack.workers[1];
        peer.restart().unwrap();
        job_succeeded(&bench, &job).await;
        peer.kill9().unwrap();
        let shown = bench.get(id).await;
        assert_eq!(shown["status"], "revoked", "{point}");
        assert!(
            shown["version"]["revocation"]["revoked_at"].is_string() && shown["renew_at"].is_null(),
            "{shown}"
        );
        assert_eq!(at_the_ca(&bench, &record["version"]).await, (true, Some(SUPERSEDED)), "{point}");
        assert_eq!(versions(&bench, id).await.len(), 1, "{point}: it was not to be issued anew");
    }
}

/// The renewal that keeps the key is on its way already: not placed yet, and finalized.
#[tokio::test]
async fn a_key_that_is_revoked_while_it_is_certified_again_goes_out_of_use_all_the_same() {
    let mut options = bench::workers(1);
    options.schedulers = 1;
    let (stack, bench) = bench::own(options).await;
    let database = Client::with_uri_str(stack.mongo_uri()).await.unwrap().default_database().unwrap();
    let orders = database.collection::<Document>("orders");
    let holds = [
        ("placing", FaultRule::always(Fault::Stall { ms: 4_000 }).at(&[Asked::NewOrder]), 2),
        ("issuing", FaultRule::always(Fault::Processing { looks: 24 }).at(&[Asked::Finalize]), 3),
    ];
    for (what, hold, versions) in holds {
        let name = format!("{what}.example.test");
        let body = json!({
            "names": [&name], "issuer": "pebble", "key": { "reuse": true }, "profile": bench.profile(),
        });
        let made = bench.api.post(&bench.path("certificates"), &body).await.unwrap();
        let id = made["id"].as_str().unwrap();
        bench.valid(id).await;
        let key = Leaf::read(&bench.download(id, "leaf").await).spki;
        bench.ca.inject(&hold.names(&name).times_each(1)).await.unwrap();
        bench.api.post(&bench.path(&format!("certificates/{id}/renew")), &json!({})).await.unwrap();
        let finalized = if what == "issuing" { 2 } else { 1 };
        wait::until("its renewal", PATIENCE, || async {
            let live = orders.find_one(doc! { "certificate": id, "live": true }).await;
            match (live.map_err(Pending::not_yet)?, bench.counted(&name).await.finalized) {
                (Some(_), counted) if counted == finalized => Ok(()),
                (_, counted) => Err(Pending::not_yet(counted)),
            }
        })
        .await
        .unwrap();
        revoke(&bench, id, json!({ "reason": "keyCompromise" })).await;
        let last = |record: &Value| record["version"]["number"] == versions && record["problem"].is_null();
        let record = bench.until_so(id, "a version with another key", last).await;
        assert_eq!(record["status"], "valid");
        assert_ne!(Leaf::read(&bench.download(id, "leaf").await).spki, key, "{what}: it is in use again");
    }
}

#[tokio::test]
async fn a_revocation_waits_while_the_account_is_on_hold_and_goes_on_when_it_is_accepted_again() {
    let (stack, bench) = bench::own(bench::workers(1)).await;
    let id = bench.request("hold.example.test").await;
    bench.valid(&id).await;
    let compromised = bench.request("compromised-hold.example.test").await;
    bench.valid(&compromised).await;
    let database = Client::with_uri_str(stack.mongo_uri()).await.unwrap().default_database().unwrap();
    let issuers = database.collection::<Document>("issuers");
    let good = issuers.find_one(doc! { "name": "pebble" }).await.unwrap().unwrap();
    let own = doc! { "_id": good.get("_id") };
    let hold = doc! { "$set": {
        "account_url": null, "status": "failing", "hold": { "why": "refused", "account_url": good.get("account_url") },
    } };
    issuers.update_one(own.clone(), hold).await.unwrap();
    let compromised = bench.get(&compromised).await;
    let now = revoke(
        &bench,
        compromised["id"].as_str().unwrap(),
        json!({ "reason": "keyCompromise", "replace": false }),
    );
    job_succeeded(&bench, &now.await).await;
    assert_eq!(
        at_the_ca(&bench, &compromised["version"]).await,
        (true, Some(KEY_COMPROMISE)),
        "its key needs no account"
    );
    let job = revoke(&bench, &id, json!({ "reason": "superseded", "replace": false })).await;
    let path = bench.path(&format!("jobs/{}", job["id"].as_str().unwrap()));
    wait::until("the job to wait", PATIENCE, || async {
        let job = bench.api.get(&path).await.map_err(Pending::not_yet)?;
        match (job["state"].as_str(), job["problem"]["type"].as_str()) {
            (Some("queued"), Some("issuer-not-ready")) => Ok(()),
            (Some("dead"), _) => Err(Pending::Never(anyhow::anyhow!("it was given up: {job}"))),
            _ => Err(Pending::not_yet(job)),
        }
    })
    .await
    .unwrap();
    // Some tries later what is in the way stands on the version.
    let is_shown = |record: &Value| record["version"]["revocation"]["problem"]["type"] == "issuer-not-ready";
    let shown = bench.until_so(&id, "what is in the way", is_shown).await;
    let revocation = &shown["version"]["revocation"];
    assert!(revocation["next_attempt_at"].is_string() && revocation["revoked_at"].is_null(), "{revocation}");
    issuers.replace_one(own, good).await.unwrap();
    job_succeeded(&bench, &job).await;
    let shown = bench.get(&id).await;
    let revocation = &shown["version"]["revocation"];
    assert!(revocation["problem"].is_null() && revocation["revoked_at"].is_string(), "{revocation}");
}

/// As where it was ordered by another account: the CA takes this one, and does not let it revoke.
#[tokio::test]
async fn what_the_account_may_not_revoke_is_revoked_by_its_own_key_and_the_audit_says_who_asked() {
    let (stack, bench) = bench::own(bench::workers(1)).await;
    let id = bench.request("anothers.example.test").await;
    let version = bench.valid(&id).await["version"].clone();
    let mine = bench.api.get(&bench.path("issuers/pebble")).await.unwrap();
    let other = json!({
        "name": "other", "directory_url": mine["directory_url"], "trust_roots_pem": mine["trust_roots_pem"],
    });
    let other = bench.api.post(&bench.path("issuers"), &other).await.unwrap()["id"].clone();
    let path = bench.path("issuers/other");
    wait::until("the other account", PATIENCE, || async {
        let issuer = bench.api.get(&path).await.map_err(Pending::not_yet)?;
        if issuer["status"] == "ready" { Ok(()) } else { Err(Pending::not_yet(issuer)) }
    })
    .await
    .unwrap();
    let database = Client::with_uri_str(stack.mongo_uri()).await.unwrap().default_database().unwrap();
    let versions = database.collection::<Document>("certificate_versions");
    let of_other = doc! { "$set": { "issuer": other.as_str().unwrap() } };
    versions.update_one(doc! { "certificate": &id }, of_other).await.unwrap();

    let job = revoke(&bench, &id, json!({ "reason": "superseded", "replace": false })).await;
    job_succeeded(&bench, &job).await;
    assert_eq!(at_the_ca(&bench, &version).await, (true, Some(SUPERSEDED)));
    let mut rows = database.collection::<Document>("audit_outbox").find(doc! {}).await.unwrap();
    let mut by = Vec::new();
    while rows.advance().await.unwrap() {
        let row = rows.deserialize_current().unwrap();
        let leaf: Value = serde_json::from_slice(row.get_binary_generic("leaf").unwrap()).unwrap();
        if leaf["action"] == "certificate.revoked" {
            by.push(leaf["details"]["by"].clone());
        }
    }
    assert_eq!(by, ["certificate-key"]);
}

/// An account that is closed for ever signs nothing any more, but each certificate has a key. One that another version has as well
/// does not ask, since CAs may revoke all certificates of a key that asked.
#[tokio::test]
async fn what_a_closed_account_ordered_is_revoked_by_its_own_key() {
    let (_stack, bench) = bench::own(bench::workers(1)).await;
    let body = json!({
        "names": ["shared.example.test"], "issuer": "pebble", "key": { "reuse": true }, "profile": bench.profile(),
    });
    let shared = bench.api.post(&bench.path("certificates"), &body).await.unwrap();
    let shared = shared["id"].as_str().unwrap();
    let first = bench.valid(shared).await["version"].clone();
    bench.api.post(&bench.path(&format!("certificates/{shared}/renew")), &json!({})).await.unwrap();
    bench.until_so(shared, "version 2", |record| record["version"]["number"] == 2).await;
    let id = bench.request("closed.example.test").await;
    let version = bench.valid(&id).await["version"].clone();
    let close = json!({ "even_if_used": true });
    bench.api.post(&bench.path("issuers/pebble/deactivate"), &close).await.unwrap();
    wait::until("the account to be closed", PATIENCE, || async {
        let issuer = bench.api.get(&bench.path("issuers/pebble")).await.map_err(Pending::not_yet)?;
        if issuer["status"] == "deactivated" { Ok(()) } else { Err(Pending::not_yet(issuer)) }
    })
    .await
    .unwrap();

    let job = revoke(&bench, &id, json!({ "reason": "superseded", "replace": false })).await;
    job_succeeded(&bench, &job).await;
    assert_eq!(at_the_ca(&bench, &version).await, (true, Some(SUPERSEDED)));
    assert_eq!(bench.get(&id).await["status"], "revoked");

    let asked = |reason: &str| json!({ "reason": reason, "version": first["id"], "replace": false });
    let job = revoke(&bench, shared, asked("superseded")).await;
    let path = bench.path(&format!("jobs/{}", job["id"].as_str().unwrap()));
    wait::until("the revocation to be given up", PATIENCE, || async {
        let job = bench.api.get(&path).await.map_err(Pending::not_yet)?;
        let is_so = job["state"] == "dead" && job["problem"]["type"] == "key-in-use";
        if is_so { Ok(()) } else { Err(Pending::not_yet(job)) }
    })
    .await
    .unwrap();
    assert!(!at_the_ca(&bench, &first).await.0, "the key of the version in use asked for it");
    let job = revoke(&bench, shared, asked("keyCompromise")).await;
    job_succeeded(&bench, &job).await;
    assert_eq!(at_the_ca(&bench, &first).await, (true, Some(KEY_COMPROMISE)));
}

/// Until a peer goes on with the account, whoever revokes signs with a key that the CA does not know any more.
#[tokio::test]
async fn a_revocation_outlives_a_rollover_that_was_killed_when_the_ca_had_the_next_key() {
    let (mut stack, bench) = bench::own(bench::workers(2)).await;
    let id = bench.request("rolling.example.test").await;
    let version = bench.valid(&id).await["version"].clone();
    for worker in &stack.workers {
        worker.kill9().unwrap();
    }
    let victim = &mut stack.workers[0];
    victim.set_env("CAP_DRILL_KILL", "roll-key.after");
    victim.restart().unwrap();
    bench.api.post(&bench.path("issuers/pebble/roll-key"), &json!({})).await.unwrap();
    assert_eq!(victim.wait_exit(PATIENCE).await.unwrap(), None, "ended by a signal");
    let job = revoke(&bench, &id, json!({ "reason": "keyCompromise", "replace": false })).await;
    stack.workers[1].restart().unwrap();
    job_succeeded(&bench, &job).await;
    assert_eq!(at_the_ca(&bench, &version).await, (true, Some(KEY_COMPROMISE)));
}

#[tokio::test]
async fn a_revoked_version_in_use_is_replaced_at_once_and_not_with_the_same_key() {
    let mut options = bench::workers(1);
    options.schedulers = 1;
    let (_stack, bench) = bench::own(options).await;
    let name = "compromised.example.test";
    let body = json!({
        "names": [name], "issuer": "pebble", "key": { "reuse": true }, "profile": bench.profile(),
    });
    let made = bench.api.post(&bench.path("certificates"), &body).await.unwrap();
    let id = made["id"].as_str().unwrap();
    let first = bench.valid(id).await;
    let key = Leaf::read(&bench.download(id, "leaf").await).spki;
    let job = revoke(&bench, id, json!({ "reason": "keyCompromise" })).await;
    assert_eq!((&job["kind"], &job["certificate"]), (&json!("revoke"), &json!(id)));
    let second = bench.until_so(id, "version 2", |record| record["version"]["number"] == 2).await;
    assert_eq!((&second["status"], &second["version"]["revocation"]), (&json!("valid"), &Value::Null));
    let other = Leaf::read(&bench.download(id, "leaf").await).spki;
    assert_ne!(key, other, "the key that somebody else has is in use again");
    assert_eq!(at_the_ca(&bench, &first["version"]).await, (true, Some(KEY_COMPROMISE)));
    assert!(!at_the_ca(&bench, &second["version"]).await.0);
    let all = versions(&bench, id).await;
    assert!(all[1]["revocation"]["revoked_at"].is_string(), "{all:?}");
    assert_eq!(all[1]["revocation"]["reason"], "keyCompromise");

    // From then on it is kept again, and nothing goes on by itself: one revocation is one certificate more.
    bench.api.post(&bench.path(&format!("certificates/{id}/renew")), &json!({})).await.unwrap();
    bench.until_so(id, "version 3", |record| record["version"]["number"] == 3).await;
    assert_eq!(Leaf::read(&bench.download(id, "leaf").await).spki, other);
    let counted = bench.counted(name).await;
    assert_eq!((counted.finalized, counted.certificates), (3, 3), "{counted:?}");

    // What is revoked already is not asked for again, and an earlier version can be revoked for itself.
    let path = bench.path(&format!("certificates/{id}/revoke"));
    let done = json!({ "reason": "superseded", "version": first["version"]["id"] });
    let refused = bench.api.call("POST", &path, Some(&done), None).await.unwrap();
    assert_eq!(refused.status, 409, "{}", refused.text);
    let job = revoke(&bench, id, json!({ "reason": "superseded", "version": second["version"]["id"] })).await;
    job_succeeded(&bench, &job).await;
    assert_eq!(at_the_ca(&bench, &second["version"]).await, (true, Some(SUPERSEDED)));
    let now = bench.get(id).await;
    assert_eq!(
        (&now["status"], &now["version"]["number"]),
        (&json!("valid"), &json!(3)),
        "what is in use stays"
    );
}

/// Somebody revoked it at the CA already, or the answer was lost: that counts as done.
#[tokio::test]
async fn what_is_revoked_already_counts_as_done_and_without_renewal_it_stays_revoked() {
    let mut options = bench::workers(1);
    options.schedulers = 1;
    let (stack, bench) = bench::own(options).await;
    let id = bench.request("twice.example.test").await;
    let record = bench.valid(&id).await;
    let path = bench.path(&format!("certificates/{id}"));
    bench.api.patch(&path, &json!({ "auto_renew": false })).await.unwrap();
    let first = revoke(&bench, &id, json!({ "reason": "superseded" })).await;
    job_succeeded(&bench, &first).await;
    assert_eq!(bench.get(&id).await["status"], "revoked");

    // As if nobody had learned of it.
    bench.forget_revocation(&stack, &id).await;
    assert_eq!(bench.get(&id).await["status"], "valid");
    let second = revoke(&bench, &id, json!({ "reason": "superseded" })).await;
    job_succeeded(&bench, &second).await;
    assert_eq!(bench.get(&id).await["status"], "revoked");
    assert_eq!(at_the_ca(&bench, &record["version"]).await, (true, Some(SUPERSEDED)));
    assert_eq!(versions(&bench, &id).await.len(), 1);

    // Renewed by itself again, it is due at once.
    bench.api.patch(&path, &json!({ "auto_renew": true })).await.unwrap();
    bench
        .until_so(&id, "a version that is good", |record| {
            record["version"]["number"] == 2 && record["status"] == "valid"
        })
        .await;
}

/// What the CA may have issued for is brought to its end, and no other is bought when that comes to nothing.
#[tokio::test]
async fn a_renewal_of_what_was_let_go_of_is_the_last_one() {
    let (stack, bench) = bench::own(bench::workers(1)).await;
    let (id, name) = (bench.request("let-go.example.test").await, "let-go.example.test");
    bench.valid(&id).await;
    let hold = FaultRule::always(Fault::Processing { looks: 10_000 }).at(&[Asked::Finalize]);
    bench.ca.inject(&hold.times_each(1).names(name)).await.unwrap();
    let path = bench.path(&format!("certificates/{id}/renew"));
    let renewal = bench.api.post(&path, &json!({})).await.unwrap()["id"].as_str().unwrap().to_owned();
    wait::until("the renewal to be finalized", PATIENCE, || async {
        let finalized = bench.counted(name).await.finalized;
        if finalized == 2 { Ok(()) } else { Err(Pending::not_yet(finalized)) }
    })
    .await
    .unwrap();
    let revocation = revoke(&bench, &id, json!({ "reason": "cessationOfOperation", "replace": false })).await;
    job_succeeded(&bench, &revocation).await;

    let database = Client::with_uri_str(stack.mongo_uri()).await.unwrap().default_database().unwrap();
    let (orders, jobs) = (database.collection::<Document>("orders"), database.collection::<Document>("jobs"));
    let expired = doc! { "$set": { "state.placed.expires": "2026-01-01T00:00:00Z" } };
    orders.update_one(doc! { "certificate": &id, "live": true }, expired).await.unwrap();
    wait::until("the renewal to end", PATIENCE, || async {
        // Nobody asked for it: its time came.
        let due = vec![doc! { "$set": { "claim_at": "$$NOW" } }];
        let waiting = doc! { "_id": &renewal, "state": "queued" };
        jobs.update_one(waiting, due).await.map_err(Pending::not_yet)?;
        let job = jobs.find_one(doc! { "_id": &renewal }).await.map_err(Pending::not_yet)?.unwrap();
        if job.get_str("state").is_ok_and(|state| state == "cancelled") {
            Ok(())
        } else {
            Err(Pending::not_yet(job))
        }
    })
    .await
    .unwrap();
    assert_eq!(bench.counted(name).await.orders, 2);
    assert_eq!(bench.get(&id).await["status"], "revoked");
}
