// SPDX-License-Identifier: Apache-2.0
//! What works, and what is counted.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use cap_core::certificate::KeyType;
use cap_testkit::process::series;
use cap_testkit::scratch::Scratch;
use serde_json::json;

use crate::bench::{self, Bench};
use crate::pem::{self, Leaf};

#[tokio::test]
async fn a_requested_certificate_is_issued_and_verifies() {
    let bench = bench::shared("issuance").await;
    let cases: [(&[&str], KeyType, &[&str]); 6] = [
        (
            &["b.one.example.test", "A.one.example.test"],
            KeyType::EcdsaP256,
            &["a.one.example.test", "b.one.example.test"],
        ),
        (&["bücher.example.test"], KeyType::EcdsaP384, &["xn--bcher-kva.example.test"]),
        (
            &["127.0.0.1", "with-address.example.test"],
            KeyType::EcdsaP256,
            &["127.0.0.1", "with-address.example.test"],
        ),
        (&["rsa-2048.example.test"], KeyType::Rsa2048, &["rsa-2048.example.test"]),
        (&["rsa-3072.example.test"], KeyType::Rsa3072, &["rsa-3072.example.test"]),
        (&["rsa-4096.example.test"], KeyType::Rsa4096, &["rsa-4096.example.test"]),
    ];
    let folder = Scratch::create().unwrap();
    let root = folder.path().join("root.pem");
    std::fs::write(&root, bench.ca.issuance_root_pem().await.unwrap()).unwrap();
    let mut keys = BTreeSet::new();
    for (typed, key_type, names) in cases {
        let id = request(&bench, typed, key_type.as_str()).await;
        let record = bench.valid(&id).await;
        assert_eq!(record["display_names"], json!(typed));
        assert_eq!(record["key"], json!({ "type": key_type.as_str(), "reuse": false }));
        let shown: BTreeSet<&str> = strings(&record["names"]);
        let names: BTreeSet<&str> = names.iter().copied().collect();
        assert_eq!(shown, names);

        let fullchain = bench.download(&id, "fullchain").await;
        let (leaf, chain) = (bench.download(&id, "leaf").await, bench.download(&id, "chain").await);
        assert_eq!(
            (pem::count(&leaf), pem::count(&chain)),
            (1, pem::count(&fullchain) - 1),
            "a leaf, and what leads to the root"
        );
        let read = Leaf::read(&leaf);
        assert_eq!(read.names.iter().map(String::as_str).collect::<BTreeSet<_>>(), names);
        assert_eq!(read.key_type, Some(key_type));
        assert_eq!(read.spki, Leaf::read(&fullchain).spki);
        let key_pem = bench.download(&id, "key").await;
        let key = pem::spki_of_key(&key_pem);
        assert_eq!(read.spki, key);
        assert_eq!(openssl_public_key(&folder.path().join("key.pem"), &key_pem), key);
        assert!(keys.insert(key), "each certificate has a key of its own");

        let (leaf_file, chain_file) = (folder.path().join("leaf.pem"), folder.path().join("chain.pem"));
        std::fs::write(&leaf_file, leaf).unwrap();
        std::fs::write(&chain_file, chain).unwrap();
        assert!(openssl_verifies(&root, &chain_file, &leaf_file));
        assert!(!openssl_verifies(bench.ca.ca_file(), &chain_file, &leaf_file), "under another root");
    }
}

#[tokio::test]
async fn a_worker_counts_from_zero() {
    let metrics = bench::metrics_at_start().await;
    for kind in ["issue", "register-issuer", "drift-scan", "renewal-look", "revoke"] {
        for outcome in ["succeeded", "failed", "again", "superseded", "handed_back", "lost", "dead"] {
            let name = format!("certautopilot_jobs_total{{kind=\"{kind}\",outcome=\"{outcome}\"}}");
            assert_eq!(series(metrics, &name), Some(0.0), "{name}");
        }
        let name = format!("certautopilot_job_duration_seconds_count{{kind=\"{kind}\"}}");
        assert_eq!(series(metrics, &name), Some(0.0), "{name}");
    }
    for name in ["jobs_running", "job_lease_expired_total", "fenced_writes_refused_total"] {
        assert_eq!(series(metrics, &format!("certautopilot_{name}")), Some(0.0), "{name}");
    }
    assert_eq!(series(metrics, "certautopilot_no_such_total"), None);
}

async fn request(bench: &Bench, names: &[&str], key_type: &str) -> String {
    let body = json!({
        "names": names, "issuer": "pebble", "key": { "type": key_type }, "challenge": "http-01",
        "profile": bench.profile(),
    });
    let made = bench.api.post(&bench.path("certificates"), &body).await.unwrap();
    made["id"].as_str().unwrap().to_owned()
}

fn strings(list: &serde_json::Value) -> BTreeSet<&str> {
    list.as_array().unwrap().iter().filter_map(|item| item.as_str()).collect()
}

/// The SubjectPublicKeyInfo of a private key, PKCS #8 PEM, as OpenSSL reads it.
fn openssl_public_key(file: &Path, pem: &str) -> Vec<u8> {
    assert!(pem.starts_with("-----BEGIN PRIVATE KEY-----"), "it is not PKCS #8");
    std::fs::write(file, pem).unwrap();
    let mut openssl = Command::new("openssl");
    let output = openssl.args(["pkey", "-pubout", "-outform", "DER", "-in"]).arg(file).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

fn openssl_verifies(root: &Path, chain: &Path, leaf: &Path) -> bool {
    let mut openssl = Command::new("openssl");
    // Pebble's leaves are for TLS servers; the system's own roots must not count.
    openssl.args(["verify", "-no-CApath", "-no-CAstore", "-purpose", "sslserver", "-CAfile"]);
    let output = openssl.arg(root).arg("-untrusted").arg(chain).arg(leaf).output().unwrap();
    output.status.success()
}
