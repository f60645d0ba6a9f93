// SPDX-License-Identifier: Apache-2.0
//! Accounts: their keys are rolled while everything goes on, and killed workers leave them with one key; what a CA does not
//! accept any more waits; what is deactivated stays so.

use std::sync::Arc;

use cap_acme::Acme;
use cap_boot::Cluster;
use cap_core::clock::Clock;
use cap_core::envelope::Sealed;
use cap_core::envelope::Slot;
use cap_core::fault::ACCOUNT_POINTS;
use cap_core::issuer::KEY_IN_USE;
use cap_core::limits;
use cap_core::order::{CaError, CaRequest, CertificateAuthority};
use cap_core::secret::SecretString;
use cap_runtime::clock::SystemClock;
use cap_runtime::config::{KekConfig, KekProvider, MongoConfig};
use cap_runtime::entropy::OsEntropy;
use cap_store::IssuerRecord;
use cap_testkit::scratch::Scratch;
use cap_testkit::stack::Stack;
use cap_testkit::wait::{self, Pending};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::bench::{self, Bench, PATIENCE, names};

/// Rollovers while certificates are issued.
const ROLLOVERS: usize = 4;

/// Whoever has the database and the KEK, and speaks to the CA without a word to us.
struct Stranger {
    cluster: Cluster,
    acme: Acme,
}

impl Stranger {
    async fn of(stack: &Stack) -> Self {
        let uri = SecretString::from(stack.mongo_uri().to_owned());
        let path = stack.mongo_uri().rsplit('/').next().unwrap();
        let database = path.split('?').next().unwrap().to_owned();
        let mongo = MongoConfig { uri, database, allow_plaintext: false };
        let kek = KekConfig { provider: KekProvider::File { dir: stack.kek_dir().to_owned() } };
        let (clock, entropy) = (Arc::new(SystemClock), Arc::new(OsEntropy));
        let cluster = cap_boot::open_now(&mongo, kek, clock.clone(), entropy).await.unwrap();
        let registry = prometheus::Registry::new();
        Self { cluster, acme: Acme::new(clock, limits::CA_REQUEST, &registry).unwrap() }
    }

    async fn record(&self, issuer: &Value) -> IssuerRecord {
        let project = issuer["project"].as_str().unwrap().parse().unwrap();
        self.cluster.store.issuer(project, issuer["id"].as_str().unwrap()).await.unwrap().unwrap()
    }

    /// Who signs as the issuer does now.
    async fn request(&self, issuer: &Value) -> CaRequest {
        let record = self.record(issuer).await;
        let key = record.account_key.clone();
        self.with(record, &key).await
    }

    /// Who signs as the issuer does next.
    async fn next(&self, issuer: &Value) -> CaRequest {
        let record = self.record(issuer).await;
        let key = record.rollover.as_ref().unwrap().key.clone();
        self.with(record, &key).await
    }

    async fn with(&self, record: IssuerRecord, key: &Sealed) -> CaRequest {
        let slot = Slot::account_key(record.project, record.id);
        let key = self.cluster.keyring.open(&slot, key).await.unwrap();
        CaRequest { issuer: record.id, spec: record.spec, account_key: Arc::new(key), external: None }
    }
}

async fn issuer(bench: &Bench) -> Value {
    bench.api.get(&bench.path("issuers/pebble")).await.unwrap()
}

async fn ask(bench: &Bench, verb: &str) -> Value {
    bench.api.post(&bench.path(&format!("issuers/pebble/{verb}")), &json!({})).await.unwrap()
}

/// Waits until the issuer is as it should be; answers it.
async fn seen(bench: &Bench, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    wait::until(what, PATIENCE, || async {
        let seen = bench.api.get(&bench.path("issuers/pebble")).await.map_err(Pending::not_yet)?;
        if is_so(&seen) { Ok(seen) } else { Err(Pending::not_yet(seen)) }
    })
    .await
    .unwrap()
}

async fn rolled(bench: &Bench) -> Value {
    seen(bench, "the account to have its next key", |seen| {
        seen["key_rollover"].is_null() && seen["status"] == "ready"
    })
    .await
}

#[tokio::test]
async fn a_worker_killed_at_any_point_of_a_rollover_leaves_an_account_with_one_key() {
    let (mut stack, bench) = bench::own(bench::workers(2)).await;
    let stranger = Stranger::of(&stack).await;
    let folder = Scratch::create().unwrap();
    let account = issuer(&bench).await["account_url"].clone();
    for worker in &stack.workers {
        worker.kill9().unwrap();
    }
    let mut certificates = Vec::new();
    for point in ACCOUNT_POINTS {
        let before = stranger.request(&issuer(&bench).await).await;
        let hits = folder.path().join(point);
        let victim = &mut stack.workers[0];
        victim.set_env("CAP_DRILL_KILL", point);
        victim.set_env("CAP_DRILL_HITS", &hits.display().to_string());
        victim.restart().unwrap();
        let asked = ask(&bench, "roll-key").await;
        assert!(asked["key_rollover"]["requested_at"].is_string(), "{asked}");
        assert_eq!(victim.wait_exit(PATIENCE).await.unwrap(), None, "{point}: ended by a signal");
        let passed = std::fs::read_to_string(&hits).unwrap();
        assert_eq!(passed.lines().last(), Some(*point), "died there, and nowhere before");

        let peer = &mut stack.workers[1];
        peer.restart().unwrap();
        let after = rolled(&bench).await;
        assert_eq!(after["account_url"], account, "{point}: another account");
        let name = format!("{}.example.test", point.replace('.', "-"));
        let certificate = bench.request(&name).await;
        bench.valid(&certificate).await;
        let now = stranger.request(&after).await;
        let found = stranger.acme.find(&now).await.unwrap();
        assert_eq!(found.as_deref(), account.as_str(), "{point}: what is stored is what the CA knows");
        assert_eq!(stranger.acme.find(&before).await.unwrap(), None, "{point}: the old key is none any more");
        peer.kill9().unwrap();
        certificates.push(certificate);
    }
    bench.keys_match(&certificates).await;
}

#[tokio::test]
async fn a_key_that_another_account_has_is_given_up_and_the_next_one_is_new() {
    let (mut stack, bench) = bench::own(bench::workers(1)).await;
    let stranger = Stranger::of(&stack).await;
    let before = issuer(&bench).await;
    stack.workers[0].kill9().unwrap();
    ask(&bench, "roll-key").await;
    let taken = stranger.next(&before).await;
    let other = stranger.acme.register(&taken).await.unwrap();
    assert_ne!(before["account_url"], other.as_str());
    stack.workers[0].restart().unwrap();
    let given_up = seen(&bench, "the rollover to be given up", |seen| {
        seen["key_rollover"]["problem"]["type"] == KEY_IN_USE && seen["status"] == "ready"
    });
    assert_eq!(given_up.await["account_url"], before["account_url"], "the account keeps the key that it has");
    let certificate = bench.request("kept.example.test").await;
    bench.valid(&certificate).await;

    ask(&bench, "roll-key").await;
    let after = rolled(&bench).await;
    assert_eq!(after["account_url"], before["account_url"]);
    let found = stranger.acme.find(&stranger.request(&after).await).await.unwrap();
    assert_eq!(found.as_deref(), after["account_url"].as_str(), "another key was made");
}

#[tokio::test]
async fn issuance_goes_on_while_keys_are_rolled_under_two_workers() {
    let (_stack, bench) = bench::own(bench::workers(2)).await;
    let all = names("rolling", 24);
    let certificates = bench.request_each(&all).await;
    for round in 0..ROLLOVERS {
        let issued = u64::try_from(round * 3).unwrap();
        bench.counted_at_least("some to be issued", |totals| totals.finalized >= issued).await;
        ask(&bench, "roll-key").await;
        rolled(&bench).await;
    }
    bench.all_valid(PATIENCE).await;
    bench.one_each(&all).await;
    bench.keys_match(&certificates).await;
    let after = issuer(&bench).await;
    assert_eq!((&after["status"], &after["problem"]), (&json!("ready"), &json!(null)), "nothing was halted");
}

#[tokio::test]
async fn an_account_that_the_ca_closed_halts_and_its_orders_wait() {
    let (stack, bench) = bench::own(bench::workers(2)).await;
    let stranger = Stranger::of(&stack).await;
    let ready = issuer(&bench).await;
    let url = ready["account_url"].as_str().unwrap();
    stranger.acme.deactivate(&stranger.request(&ready).await, url).await.unwrap();

    let all = names("halted", 6);
    let certificates = bench.request_each(&all).await;
    let halted = seen(&bench, "the issuer to be failing", |seen| seen["status"] == "failing").await;
    assert_eq!(halted["account_url"], url, "where the account is, is still shown");
    let detail = halted["problem"]["detail"].as_str().unwrap();
    for said in ["deactivated", "no orders are placed", "update the issuer"] {
        assert!(detail.contains(said), "what, why, what to do: {detail}");
    }
    assert_eq!(halted["problem"]["class"], "configuration");
    let next: Timestamp = halted["next_attempt_at"].as_str().unwrap().parse().unwrap();
    assert!(next > SystemClock.now());
    for certificate in &certificates {
        let what = format!("{certificate} to wait for its issuer");
        wait::until(&what, PATIENCE, || async {
            let record = bench.get(certificate).await;
            let detail = record["problem"]["detail"].as_str().unwrap_or_default();
            let waits =
                detail.starts_with("issuer pebble is failing") && record["next_attempt_at"].is_string();
            if waits { Ok(()) } else { Err(Pending::not_yet(record)) }
        })
        .await
        .unwrap();
    }
    let asked = refused_orders(&stack).await;
    assert!(asked > 0.0, "the CA was never asked");
    // What is asked for now does not go to the CA at all.
    let late = bench.request("late.example.test").await;
    wait::until("it to wait for its issuer", PATIENCE, || async {
        let record = bench.get(&late).await;
        if record["problem"].is_object() { Ok(()) } else { Err(Pending::not_yet(record)) }
    })
    .await
    .unwrap();
    assert_eq!(refused_orders(&stack).await, asked, "a halted account is not asked for orders");
}

/// Orders that the CA refused to the workers.
async fn refused_orders(stack: &Stack) -> f64 {
    let mut refused = 0.0;
    for worker in &stack.workers {
        let text = worker.metrics().await.unwrap();
        let of_it = text.lines().filter(|line| {
            line.starts_with("certautopilot_acme_requests_total")
                && line.contains("action=\"new_order\"")
                && line.contains("status=\"4xx\"")
        });
        refused += of_it.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>();
    }
    refused
}

#[tokio::test]
async fn a_deactivated_account_issues_no_more_and_its_certificates_say_so() {
    let (stack, bench) = bench::own(bench::workers(2)).await;
    let stranger = Stranger::of(&stack).await;
    let certificate = bench.request("closed.example.test").await;
    bench.valid(&certificate).await;
    let path = bench.path("issuers/pebble/deactivate");
    let used = bench.api.call("POST", &path, Some(&json!({})), None).await.unwrap();
    assert_eq!(used.status, 409, "{}", used.text);
    assert!(used.text.contains(&certificate) && used.text.contains("even_if_used"), "{}", used.text);
    assert_eq!(issuer(&bench).await["status"], "ready", "a refusal changes nothing");

    let body = json!({ "even_if_used": true });
    for _ in 0..2 {
        let asked = bench.api.call("POST", &path, Some(&body), None).await.unwrap();
        assert_eq!(asked.status, 202, "{}", asked.text);
    }
    let closed = seen(&bench, "the account to be deactivated", |seen| seen["status"] == "deactivated").await;
    let found = stranger.acme.find(&stranger.request(&closed).await).await;
    assert!(matches!(&found, Err(CaError::Account(_))), "the CA says so too: {found:?}");
    let again = bench.api.call("POST", &path, Some(&body), None).await.unwrap();
    assert_eq!((again.status, &again.json()["status"]), (202, &json!("deactivated")));

    bench.api.post(&bench.path(&format!("certificates/{certificate}/renew")), &json!({})).await.unwrap();
    wait::until("the certificate to say why", PATIENCE, || async {
        let record = bench.get(&certificate).await;
        let says = record["problem"]["type"] == "issuer-deactivated" && record["next_attempt_at"].is_string();
        if record["status"] == "failing" && says { Ok(()) } else { Err(Pending::not_yet(record)) }
    })
    .await
    .unwrap();
    assert_eq!(bench.counted("closed.example.test").await.orders, 1);
    for (method, rest) in [("PATCH", ""), ("POST", "/roll-key")] {
        let path = bench.path(&format!("issuers/pebble{rest}"));
        let refused = bench.api.call(method, &path, Some(&json!({})), None).await.unwrap();
        assert_eq!(refused.status, 409, "{method} {path}: {}", refused.text);
    }
}
