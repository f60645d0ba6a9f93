// SPDX-License-Identifier: Apache-2.0
//! The keys of a certificate's versions: a new one each time, or the same one where that is wanted.

use cap_core::certificate::KeyType;
use cap_testkit::wait::{self, Pending};
use serde_json::{Value, json};

use crate::bench::{self, Bench, PATIENCE};
use crate::pem::{Leaf, spki_of_key};

async fn request(bench: &Bench, name: &str, key: Value) -> String {
    let body = json!({ "names": [name], "issuer": "pebble", "key": key, "profile": bench.profile() });
    let made = bench.api.post(&bench.path("certificates"), &body).await.unwrap();
    made["id"].as_str().unwrap().to_owned()
}

async fn change(bench: &Bench, id: &str, body: Value) {
    bench.api.patch(&bench.path(&format!("certificates/{id}")), &body).await.unwrap();
}

/// Renews it; answers the type of the key of the version that this comes to, and its SubjectPublicKeyInfo.
async fn renewed(bench: &Bench, id: &str) -> (Option<KeyType>, Vec<u8>) {
    let number = bench.get(id).await["version"]["number"].as_i64().unwrap() + 1;
    bench.api.post(&bench.path(&format!("certificates/{id}/renew")), &json!({})).await.unwrap();
    wait::until("the next version", PATIENCE, || async {
        let record = bench.get(id).await;
        if record["version"]["number"] == number { Ok(()) } else { Err(Pending::not_yet(record)) }
    })
    .await
    .unwrap();
    key(bench, id).await
}

async fn key(bench: &Bench, id: &str) -> (Option<KeyType>, Vec<u8>) {
    let leaf = Leaf::read(&bench.download(id, "leaf").await);
    assert_eq!(leaf.spki, spki_of_key(&bench.download(id, "key").await), "certificate and key are two");
    (leaf.key_type, leaf.spki)
}

#[tokio::test]
async fn a_renewal_has_a_new_key_unless_it_shall_keep_it_and_never_one_of_another_type() {
    let bench = bench::shared("keys").await;
    let id = request(&bench, "keys.example.test", json!({ "type": "ecdsa-p256" })).await;
    bench.valid(&id).await;
    let first = key(&bench, &id).await;
    let second = renewed(&bench, &id).await;
    assert_ne!(first.1, second.1, "a new one each time");

    change(&bench, &id, json!({ "key": { "reuse": true } })).await;
    assert_eq!(bench.get(&id).await["key"], json!({ "type": "ecdsa-p256", "reuse": true }));
    assert_eq!(renewed(&bench, &id).await, second, "the same one");
    let versions = bench.api.get(&bench.path(&format!("certificates/{id}/versions"))).await.unwrap();
    let spki = |at: usize| versions["items"][at]["spki_sha256"].as_str().unwrap().to_owned();
    assert!(spki(0) == spki(1) && spki(1) != spki(2), "{versions}");

    // Another type is another key, and from then on that one is kept.
    change(&bench, &id, json!({ "key": { "type": "rsa-2048" } })).await;
    let other = renewed(&bench, &id).await;
    assert_eq!(other.0, Some(KeyType::Rsa2048));
    assert_eq!(renewed(&bench, &id).await, other);

    change(&bench, &id, json!({ "key": { "reuse": false } })).await;
    assert_ne!(renewed(&bench, &id).await.1, other.1);
}

/// Keys that take long to make do not keep a worker from anything else.
#[tokio::test]
async fn many_rsa_keys_at_once_are_all_made_while_others_are_issued() {
    let bench = bench::shared("many-keys").await;
    let mut ids = Vec::new();
    for n in 0..6 {
        ids.push(request(&bench, &format!("rsa-{n}.example.test"), json!({ "type": "rsa-3072" })).await);
    }
    ids.push(request(&bench, "beside.example.test", json!({ "type": "ecdsa-p256" })).await);
    bench.all_valid(PATIENCE).await;
    bench.keys_match(&ids).await;
}
