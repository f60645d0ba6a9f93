// SPDX-License-Identifier: Apache-2.0
//! No secret leaves memory: with everything logged, nothing is in the database's files, the logs or the process table.

use std::collections::BTreeSet;
use std::fs;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use cap_testkit::process::Service;
use serde_json::json;

use crate::http::Http;
use crate::scan::Needles;
use crate::world::{Whole, whole};

/// The beginning of every P-256 key in PKCS #8 (RFC 5208, RFC 5915), up to the scalar.
const P256_PKCS8: &[u8] = b"\x30\x81\x87\x02\x01\x00\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x04\x6d\x30\x6b\x02\x01\x01\x04\x20";
/// Octets of a P-256 scalar.
const SCALAR_OCTETS: usize = 32;
/// Octets of the beginning that tell a PKCS #8 key from everything else.
const PREFIX_OCTETS: usize = 18;

fn add_octets(needles: &mut Needles, what: &str, octets: &[u8]) {
    needles.add(what, octets);
    needles.add(&format!("{what} as hex"), hex::encode(octets));
    needles.add(&format!("{what} as HEX"), hex::encode_upper(octets));
    needles.add(&format!("{what} as base64"), BASE64_STANDARD.encode(octets).trim_end_matches('='));
    needles.add(&format!("{what} as base64url"), BASE64_URL_SAFE_NO_PAD.encode(octets));
}

fn add_token(needles: &mut Needles, what: &str, token: &str) {
    let secret = token.split('_').nth(3).unwrap();
    needles.add(what, token);
    add_octets(needles, &format!("the secret of {what}"), &hex::decode(secret).unwrap());
}

fn add_key(needles: &mut Needles, what: &str, pem: &str) {
    let der = pem::parse(pem).unwrap().into_contents();
    assert!(der.starts_with(P256_PKCS8), "another key than was asked for");
    let scalar = &der[P256_PKCS8.len()..][..SCALAR_OCTETS];
    add_octets(needles, &format!("the scalar of {what}"), scalar);
    add_octets(needles, what, &der);
    let lines = pem.lines().filter(|line| line.len() >= 16 && !line.starts_with('-'));
    for (number, line) in lines.enumerate() {
        needles.add(&format!("line {number} of {what}"), line);
    }
}

/// Everything that must be nowhere.
async fn secrets(whole: &Whole, canary: &str) -> Needles {
    let (stack, mut needles) = (&whole.stack, Needles::default());
    let http = Http::new(stack.api_url(1).unwrap());
    let api = stack.client(0).unwrap();
    let name = format!("{canary}.example.test");
    let certificate = whole.demo.request(&api, &[&name]).await.unwrap();
    whole.demo.wait_valid(&api, &certificate).await.unwrap();
    let place =
        format!("/api/v1/projects/{}/certificates/{certificate}/download?format=key", whole.demo.project);
    let key = http.get(&place, stack.token()).await;
    assert_eq!(key.status, 200, "{key:?}");
    add_key(&mut needles, "the leaf key", &key.text);
    add_token(&mut needles, "the owner's token", stack.token());
    for role in ["viewer", "admin"] {
        let body = json!({ "name": "secret", "role": role, "expires_in": "1h" });
        let made = http.post("/api/v1/tokens", stack.token(), &body).await.json();
        let token = made["token"].as_str().unwrap().to_owned();
        // Used, and misused, so that it had every chance to be logged.
        assert_eq!(http.get("/api/v1/projects", &token).await.status, 200);
        http.get("/api/v1/projects", &format!("{token}0")).await.problem(401, "unauthenticated");
        add_token(&mut needles, &format!("the {role}'s token"), &token);
    }
    add_octets(&mut needles, "the KEK", &fs::read(stack.kek_dir().join("v1.key")).unwrap());
    needles.add("a PEM private key", "PRIVATE KEY-----");
    add_octets(&mut needles, "a PKCS #8 key", &P256_PKCS8[..PREFIX_OCTETS]);
    needles
}

/// The command lines of the stack's processes.
fn command_lines(whole: &Whole) -> Vec<u8> {
    let stack = &whole.stack;
    let services = stack.apis.iter().chain(&stack.workers).chain(&stack.schedulers);
    let set = stack.infrastructure.replica_set.as_ref().unwrap();
    let members = (0..set.len()).map(|index| set.process(index).unwrap().pid());
    let pids = services.map(Service::pid).chain(members);
    pids.flat_map(|pid| fs::read(format!("/proc/{pid}/cmdline")).unwrap()).collect()
}

#[tokio::test]
async fn no_secret_is_in_the_database_the_logs_or_the_process_table_where_the_canary_is() {
    let whole = whole().await;
    let canary = "canary-4f1d9c";
    let needles = secrets(&whole, canary).await;
    let (stack, mut clear) = (&whole.stack, Needles::default());
    // In clear in the database as a name of a certificate, in the log as a path that somebody asked for.
    Http::new(stack.api_url(2).unwrap()).get(&format!("/{canary}"), stack.token()).await;
    clear.add("the canary", canary);
    let set = stack.infrastructure.replica_set.as_ref().unwrap();
    set.checkpoint().await.unwrap();
    let logs = stack.launcher().home().join("logs");
    let mut places = vec![logs.join("api-2.log")];
    for index in 0..set.len() {
        places.push(set.data_dir(index).unwrap().to_owned());
        places.push(set.data_dir(index).unwrap().join("journal"));
    }
    let (found, leaked) = tokio::task::spawn_blocking(move || {
        let found: Vec<_> = places.iter().map(|place| (place.clone(), clear.under(place))).collect();
        let mut leaked: BTreeSet<String> = BTreeSet::new();
        // The journals lie in the data folders.
        for place in places.iter().filter(|place| !place.ends_with("journal")).chain([&logs]) {
            leaked.extend(needles.under(place));
        }
        (found, (leaked, needles))
    })
    .await
    .unwrap();
    for (place, canaries) in found {
        assert!(!canaries.is_empty(), "the canary is not in {}: the scan proves nothing", place.display());
    }
    let (leaked, needles) = leaked;
    assert_eq!(leaked, BTreeSet::new());
    let table = command_lines(&whole);
    let mut program = Needles::default();
    program.add("a program", "certautopilot-api");
    assert_eq!(program.in_octets(&table).len(), 1, "the process table was not read");
    assert_eq!(needles.in_octets(&table), BTreeSet::new());
}
