// SPDX-License-Identifier: Apache-2.0
//! No secret leaves memory: with everything logged, nothing is in the database's files, the logs or the process table.

use std::collections::BTreeSet;
use std::fs;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use cap_testkit::needles::Needles;
use cap_testkit::process::Service;
use cap_testkit::wait::{self, Pending};
use serde_json::json;

use crate::http::Http;
use crate::world::{Whole, whole};

/// Registering takes a moment; on a busy machine a longer one.
const REFUSED: std::time::Duration = std::time::Duration::from_secs(60);

fn add_token(needles: &mut Needles, what: &str, token: &str) {
    let secret = token.split('_').nth(3).unwrap();
    needles.add(what, token).unwrap();
    needles.add_encoded(&format!("the secret of {what}"), &hex::decode(secret).unwrap()).unwrap();
}

/// Everything that must be nowhere.
async fn secrets(whole: &Whole, canary: &str) -> Needles {
    let (stack, mut needles) = (&whole.stack, Needles::private_keys().unwrap());
    let http = Http::new(stack.api_url(1).unwrap());
    let api = stack.client(0).unwrap();
    let name = format!("{canary}.example.test");
    let certificate = whole.demo.request(&api, &[&name]).await.unwrap();
    whole.demo.wait_valid(&api, &certificate).await.unwrap();
    let place =
        format!("/api/v1/projects/{}/certificates/{certificate}/download?format=key", whole.demo.project);
    let key = http.get(&place, stack.token()).await;
    assert_eq!(key.status, 200, "{key:?}");
    needles.add_key("the leaf key", &key.text).unwrap();
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
    needles.add_encoded("the KEK", &fs::read(stack.kek_dir().join("v1.key")).unwrap()).unwrap();
    let hmac_key = [&b"an external account's key: "[..], &[0xc5; 16]].concat();
    bind(whole, &http, &BASE64_URL_SAFE_NO_PAD.encode(&hmac_key)).await;
    needles.add_encoded("the HMAC key of an external account", &hmac_key).unwrap();
    needles
}

/// Makes an issuer that is bound to an external account which the CA does not know, so that the key is sealed, opened, signed
/// with, and refused.
async fn bind(whole: &Whole, http: &Http, hmac_key: &str) {
    let (stack, issuers) = (&whole.stack, format!("/api/v1/projects/{}/issuers", whole.demo.project));
    let mut body = json!({
        "name": "bound", "directory_url": stack.ca().directory_url(), "eab_kid": "nobody", "eab_hmac_key": hmac_key,
        "trust_roots_pem": fs::read_to_string(stack.ca().ca_file()).unwrap(),
    });
    let made = http.post(&issuers, stack.token(), &body).await;
    assert!(made.status == 201 && !made.text.contains(hmac_key), "{made:?}");
    let path = format!("{issuers}/{}", made.id());
    let refused = wait::until("the CA to refuse the binding", REFUSED, || async {
        let seen = http.get(&path, stack.token()).await.json();
        if seen["status"] == "failing" { Ok(seen) } else { Err(Pending::not_yet(seen)) }
    });
    let refused = refused.await.unwrap().to_string();
    assert!(
        refused.contains("set eab_kid and eab_hmac_key anew") && !refused.contains(hmac_key),
        "{refused}"
    );
    body["eab_kid"] = json!("two words");
    let refused = http.post(&issuers, stack.token(), &body).await.problem(422, "invalid");
    assert!(!refused.contains(hmac_key), "{refused}");
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
    clear.add("the canary", canary).unwrap();
    let set = stack.infrastructure.replica_set.as_ref().unwrap();
    set.checkpoint().await.unwrap();
    let logs = stack.launcher().home().join("logs");
    let mut places = vec![logs.join("api-2.log")];
    for index in 0..set.len() {
        places.push(set.data_dir(index).unwrap().to_owned());
        places.push(set.data_dir(index).unwrap().join("journal"));
    }
    let (found, leaked) = tokio::task::spawn_blocking(move || {
        let found: Vec<_> = places.iter().map(|place| (place.clone(), clear.under(place).unwrap())).collect();
        let mut leaked: BTreeSet<String> = BTreeSet::new();
        // The journals lie in the data folders.
        for place in places.iter().filter(|place| !place.ends_with("journal")).chain([&logs]) {
            leaked.extend(needles.under(place).unwrap());
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
    program.add("a program", "certautopilot-api").unwrap();
    assert_eq!(program.in_octets(&table).unwrap().len(), 1, "the process table was not read");
    assert_eq!(needles.in_octets(&table).unwrap(), BTreeSet::new());
}
