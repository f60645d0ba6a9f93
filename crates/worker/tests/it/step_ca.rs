// SPDX-License-Identifier: Apache-2.0
//! An account's life at another CA than Pebble: step-ca says in its directory that keys can be changed, and changes none.

use cap_testkit::ca::CaKind;
use cap_testkit::fetch;
use cap_testkit::progress::skip;
use cap_testkit::wait::{self, Pending};
use serde_json::{Value, json};

use crate::bench::{self, Bench, PATIENCE};

async fn issuer(bench: &Bench, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    wait::until(what, PATIENCE, || async {
        let seen = bench.api.get(&bench.path("issuers/pebble")).await.map_err(Pending::not_yet)?;
        if is_so(&seen) { Ok(seen) } else { Err(Pending::not_yet(seen)) }
    })
    .await
    .unwrap()
}

async fn revoked(bench: &Bench, id: &str) {
    let body = json!({ "reason": "superseded", "replace": false });
    bench.api.post(&bench.path(&format!("certificates/{id}/revoke")), &body).await.unwrap();
    bench.until_so(id, "it to be revoked", |record| record["status"] == "revoked").await;
}

#[tokio::test]
async fn an_account_at_step_ca_keeps_its_key_and_issues_and_revokes_until_it_is_closed_and_after() {
    if !fetch::can_have_step_ca() {
        return skip("an account at step-ca", "there is neither step-ca nor Go to build it");
    }
    let mut options = bench::workers(1);
    options.ca = CaKind::StepCa;
    let (_stack, bench) = bench::own(options).await;
    let first = bench.request("first.example.test").await;
    bench.valid(&first).await;

    let contact = json!({ "contact": ["mailto:other@example.test"] });
    bench.api.patch(&bench.path("issuers/pebble"), &contact).await.unwrap();
    issuer(&bench, "the contacts to be told", |seen| seen["status"] == "ready").await;

    bench.api.post(&bench.path("issuers/pebble/roll-key"), &json!({})).await.unwrap();
    let kept = issuer(&bench, "the rollover to be given up", |seen| {
        seen["status"] == "ready" && seen["key_rollover"]["problem"].is_object()
    });
    let problem = kept.await["key_rollover"]["problem"].clone();
    assert_eq!(problem["class"], "configuration");
    assert!(problem["detail"].as_str().unwrap().contains("does not do this"), "{problem}");
    let second = bench.request("second.example.test").await;
    bench.valid(&second).await;

    revoked(&bench, &first).await;
    let close = json!({ "even_if_used": true });
    bench.api.post(&bench.path("issuers/pebble/deactivate"), &close).await.unwrap();
    issuer(&bench, "the account to be closed", |seen| seen["status"] == "deactivated").await;
    revoked(&bench, &second).await;
}
