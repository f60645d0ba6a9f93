// SPDX-License-Identifier: Apache-2.0
//! What cannot work says so, and works once its cause is gone.

use std::time::Duration;

use cap_core::clock::Clock;
use cap_runtime::clock::SystemClock;
use cap_testkit::ca::{Asked, Fault, FaultRule};
use cap_testkit::mongo::driver::bson::Document;
use cap_testkit::wait::{self, Pending};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::bench::{self, Bench, PATIENCE};

#[tokio::test]
async fn an_unreachable_ca_is_said_on_the_issuer() {
    let bench = bench::shared("unreachable").await;
    let directory = "https://127.0.0.1:1/dir";
    let issuer = json!({ "name": "nobody", "directory_url": directory });
    let issuer = bench.api.post(&bench.path("issuers"), &issuer).await.unwrap();
    let path = bench.path(&format!("issuers/{}", issuer["id"].as_str().unwrap()));
    let record = failing(&bench, &path).await;
    let problem = &record["problem"];
    assert_eq!((&problem["class"], &problem["type"]), (&"transient".into(), &"ca-unreachable".into()));
    let detail = problem["detail"].as_str().unwrap();
    for said in [directory, "connection refused", "check the directory URL"] {
        assert!(detail.contains(said), "what, why, what to do: {detail}");
    }
    assert!(record["account_url"].is_null());

    let body = json!({ "names": ["nobody.example.test"], "issuer": "nobody" });
    let certificate = bench.api.post(&bench.path("certificates"), &body).await.unwrap();
    let id = certificate["id"].as_str().unwrap();
    let path = bench.path(&format!("certificates/{id}"));
    let record = failing(&bench, &path).await;
    let jobs = bench.jobs().await;
    let job = jobs.iter().find(|job| job["certificate"] == id).unwrap();
    assert_eq!(job["attempt"], 1, "what is known of the issuer is said at once: {job}");
    let detail = record["problem"]["detail"].as_str().unwrap();
    assert!(detail.contains("issuer nobody") && detail.contains("connection refused"), "{detail}");
    assert_eq!(record["problem"]["type"], "ca-unreachable");
    assert!(record["version"].is_null());
    // Its neighbour works.
    let id = bench.request("neighbour.example.test").await;
    bench.valid(&id).await;
}

#[tokio::test]
async fn a_name_that_does_not_validate_fails_with_the_cas_words_and_is_tried_again() {
    let bench = bench::shared("validation").await;
    let name = "nobody-answers.example.test";
    bench.ca.set_a(name, &["127.0.0.99".parse().unwrap()]).await.unwrap();
    let id = bench.request(name).await;
    let path = bench.path(&format!("certificates/{id}"));
    let record = failing(&bench, &path).await;
    let problem = &record["problem"];
    assert_eq!(problem["class"], "validation");
    assert_eq!(problem["type"], "urn:ietf:params:acme:error:connection");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains(name) && detail.contains("127.0.0.99"), "the CA's own words: {detail}");
    let next: Timestamp = record["next_attempt_at"].as_str().unwrap().parse().unwrap();
    assert!(next > SystemClock.now(), "the next attempt waits for somebody to act");
    assert_eq!(bench.counted(name).await.finalized, 0);

    bench.ca.set_a(name, &["127.0.0.1".parse().unwrap()]).await.unwrap();
    bench.api.post(&format!("{path}/renew"), &json!({})).await.unwrap();
    let record = bench.valid(&id).await;
    assert!(record["problem"].is_null() && record["next_attempt_at"].is_null(), "{record}");
    let counted = bench.counted(name).await;
    assert_eq!((counted.orders, counted.finalized), (2, 1), "an attempt that failed is not resumed");
    // What was refused may have been the key.
    let orders = bench::shared_orders(&id).await;
    let key = |order: &Document| order.get_document("key").unwrap().get("spki_sha256").cloned().unwrap();
    let [one, other] = &orders[..] else { panic!("{orders:#?}") };
    assert_ne!(key(one), key(other), "each attempt has a key of its own");
}

#[tokio::test]
async fn a_renewal_asked_for_while_an_attempt_runs_is_made_right_behind_its_failure() {
    let bench = bench::shared("wish").await;
    let name = "wished-for.example.test";
    bench.ca.set_a(name, &["127.0.0.99".parse().unwrap()]).await.unwrap();
    let stall = FaultRule::always(Fault::Stall { ms: 1_500 });
    bench.ca.inject(&stall.at(&[Asked::Authorization]).names(name).times_each(1)).await.unwrap();
    let id = bench.request(name).await;
    let jobs = bench.path(&format!("jobs?subject={id}"));
    wait::until("its job to run", PATIENCE, || async {
        let job = bench.api.get(&jobs).await.map_err(Pending::not_yet)?["items"][0].clone();
        if job["state"] == "running" { Ok(()) } else { Err(Pending::not_yet(job)) }
    })
    .await
    .unwrap();
    let asked_at = SystemClock.now();
    bench.api.post(&bench.path(&format!("certificates/{id}/renew")), &json!({})).await.unwrap();
    wait::until("another order", PATIENCE, || async {
        let orders = bench.counted(name).await.orders;
        if orders > 1 { Ok(()) } else { Err(Pending::not_yet(format_args!("{orders} orders"))) }
    })
    .await
    .unwrap();
    let waited = SystemClock.now().duration_since(asked_at);
    assert!(waited.as_secs() < 45, "behind a first failure a job waits for a minute: {waited:?}");
    // It was asked for once.
    bench
        .until_so(&id, "its second failure", |record| {
            let next = record["next_attempt_at"].as_str().and_then(|at| at.parse::<Timestamp>().ok());
            record["status"] == "failing" && next.is_some_and(|next| next > SystemClock.now() + PATIENCE)
        })
        .await;
    let other = bench.request("behind-a-wish.example.test").await;
    bench.valid(&other).await;
    assert_eq!(bench.counted(name).await.orders, 2);
}

/// Waits until a record says that it fails, why, and when it is tried again.
async fn failing(bench: &Bench, path: &str) -> Value {
    wait::until(&format!("{path} to be failing"), PATIENCE, || async {
        let record = bench.api.get(path).await.map_err(Pending::not_yet)?;
        let told = record["problem"].is_object() && record["next_attempt_at"].is_string();
        if record["status"] == "failing" && told { Ok(record) } else { Err(Pending::not_yet(record)) }
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn a_profile_that_the_ca_does_not_have_is_shown_on_the_issuer_until_an_order_goes_through() {
    let bench = bench::shared("settings").await;
    let body =
        json!({ "names": ["settings.example.test"], "issuer": "pebble", "profile": "no-such-profile" });
    let made = bench.api.post(&bench.path("certificates"), &body).await.unwrap();
    let id = made["id"].as_str().unwrap();
    let record = bench.until_so(id, "its failure", |record| record["status"] == "failing").await;
    assert_eq!(record["problem"]["class"], "configuration");
    let issuer = async || bench.api.get(&bench.path("issuers/pebble")).await.unwrap();
    let shown = |issuer: &Value| issuer["problem"]["type"] == record["problem"]["type"];
    wait::until("the issuer to show it", PATIENCE, || async {
        let issuer = issuer().await;
        if shown(&issuer) { Ok(()) } else { Err(Pending::not_yet(issuer)) }
    })
    .await
    .unwrap();
    assert_eq!(issuer().await["status"], "ready", "it issues all the same");

    let good = bench.request("good-settings.example.test").await;
    bench.valid(&good).await;
    wait::until("the issuer to show nothing", PATIENCE, || async {
        let issuer = issuer().await;
        if issuer["problem"].is_null() { Ok(()) } else { Err(Pending::not_yet(issuer)) }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_limit_that_an_order_meets_which_is_placed_is_kept_whoever_asks_for_a_renewal() {
    const LIMIT_S: u32 = 10;
    let (_stack, bench) = bench::own(bench::workers(2)).await;
    let name = "limited.example.test";
    let limit = FaultRule::always(Fault::RateLimited { retry_after_s: LIMIT_S, as_date: false });
    bench.ca.inject(&limit.at(&[Asked::Finalize]).names(name).times_each(1)).await.unwrap();
    let asked_at = SystemClock.now();
    let id = bench.request(name).await;
    let jobs = bench.path(&format!("jobs?subject={id}"));
    wait::until("the limit", PATIENCE, || async {
        let job = bench.api.get(&jobs).await.map_err(Pending::not_yet)?["items"][0].clone();
        if job["problem"]["class"] == "rate_limited" { Ok(()) } else { Err(Pending::not_yet(job)) }
    })
    .await
    .unwrap();
    for _ in 0..3 {
        let job = bench.api.post(&bench.path(&format!("certificates/{id}/renew")), &json!({})).await.unwrap();
        // A worker has looked at it, and leaves it.
        wait::until("a worker", PATIENCE, || async {
            let now = bench.api.get(&jobs).await.map_err(Pending::not_yet)?["items"][0].clone();
            match now["attempt"].as_i64() > job["attempt"].as_i64() && now["state"] != "running" {
                true => Ok(()),
                false => Err(Pending::not_yet(now)),
            }
        })
        .await
        .unwrap();
    }
    // Another order of the same account has nothing to do with it.
    let other = bench.request("other.example.test").await;
    bench.valid(&other).await;
    let record = bench.valid(&id).await;
    let issued_at: Timestamp = record["version"]["issued_at"].as_str().unwrap().parse().unwrap();
    assert!(issued_at >= asked_at + Duration::from_secs(LIMIT_S.into()), "{asked_at}: {record}");
    let counts = bench.ca.counts().await.unwrap();
    assert_eq!((counts.faults.get("rate-limited"), counts.totals.orders), (Some(&1), 2), "{counts:?}");
}
