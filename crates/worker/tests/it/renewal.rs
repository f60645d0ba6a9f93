// SPDX-License-Identifier: Apache-2.0
//! Renewal by the word of the CA (RFC 9773), end to end: the CA moves its window, and the certificate is renewed as one that
//! replaces the one before.

use std::time::Duration;

use cap_core::clock::{later, until};
use cap_testkit::ca::{Pebble, PebbleOptions, Profile};
use cap_testkit::mongo::driver::bson::{Document, doc};
use cap_testkit::mongo::driver::{Client, Collection};
use cap_testkit::progress::{say, skip};
use cap_testkit::stack::{Stack, StackOptions};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::bench::{self, Bench};

const DAY: Duration = Duration::from_secs(86_400);
/// Certificates until one can be replaced at most: one in 256 cannot.
const TRIES: u32 = 4;
/// Versions of a certificate that lives for a minute that are waited for.
const VERSIONS: i64 = 4;

fn options() -> StackOptions {
    let mut options = bench::workers(1);
    options.schedulers = 1;
    options
}

struct Certificates(Collection<Document>);

impl Certificates {
    async fn of(stack: &Stack) -> Self {
        let client = Client::with_uri_str(&stack.infrastructure.mongo_uri).await.unwrap();
        Self(client.default_database().unwrap().collection("certificates"))
    }

    async fn get(&self, id: &str) -> Document {
        self.0.find_one(doc! { "_id": id }).await.unwrap().unwrap()
    }

    async fn set(&self, id: &str, change: Document) {
        self.0.update_one(doc! { "_id": id }, doc! { "$set": change }).await.unwrap();
    }

    /// What the CA calls the current version.
    async fn ari_id(&self, id: &str) -> String {
        self.get(id).await.get_document("version").unwrap().get_str("ari_id").unwrap().to_owned()
    }
}

/// Has the CA asked now, past the hours of waiting.
async fn ask_now(bench: &Bench, id: &str) {
    bench.api.post(&bench.path(&format!("certificates/{id}/renewal-info")), &json!({})).await.unwrap();
}

fn time(value: &Value) -> Timestamp {
    value.as_str().unwrap_or_else(|| panic!("{value} is no time")).parse().unwrap()
}

async fn until_version(bench: &Bench, id: &str, number: i64) -> Value {
    bench
        .until_so(id, &format!("version {number}"), |record| {
            record["version"]["number"] == number && record["status"] == "valid"
        })
        .await
}

fn window(start: Timestamp, end: Timestamp, why: &str) -> String {
    json!({ "suggestedWindow": { "start": start, "end": end }, "explanationURL": why }).to_string()
}

/// Without renewal information all goes on by the life of certificates, and nobody is asked for it.
async fn without(bench: &Bench, id: &str) {
    skip("renewal by the word of the CA", "this CA offers no renewal information: it is an older Pebble");
    assert!(bench.get(id).await["renewal_info"].is_null());
    bench.api.post(&bench.path(&format!("certificates/{id}/renew")), &json!({})).await.unwrap();
    until_version(bench, id, 2).await;
    assert!(bench.ca.counts().await.unwrap().replaced.is_empty());
}

#[tokio::test]
async fn a_window_that_the_ca_moves_into_the_past_has_the_certificate_replaced() {
    let (stack, bench) = bench::own(options()).await;
    let certificates = Certificates::of(&stack).await;
    let mut tries = 0;
    let (name, id, first, first_id) = loop {
        tries += 1;
        assert!(tries <= TRIES, "{TRIES} certificates in a row that this CA does not find");
        let name = format!("moved-{tries}.example.test");
        let id = bench.request(&name).await;
        let first = bench.valid(&id).await;
        let first_id = certificates.ari_id(&id).await;
        if Pebble::finds(&first_id) {
            break (name, id, first, first_id);
        }
    };
    let (ca, name) = (&bench.ca, name.as_str());
    if !ca.flavor().renewal_info {
        return without(&bench, &id).await;
    }
    assert!(first["renewal_info"]["window"].is_null() && first["renewal_info"]["next_look_at"].is_string());

    // Pebble suggests two days around two thirds of the life.
    ask_now(&bench, &id).await;
    let asked = bench.until_so(&id, "a window", |record| record["renewal_info"]["window"].is_object()).await;
    let (born, dies) = (time(&asked["version"]["not_before"]), time(&asked["version"]["not_after"]));
    let info = &asked["renewal_info"];
    let (start, end) = (time(&info["window"]["start"]), time(&info["window"]["end"]));
    let two_thirds = later(born, until(born, dies) * 2 / 3);
    assert!(until(start, end) <= 2 * DAY && start < two_thirds && two_thirds < end, "{info}");
    let drawn = time(&info["window"]["renew_at"]);
    assert!(start <= drawn && drawn < end, "{info}");
    assert_eq!(asked["renew_at"], info["window"]["renew_at"]);
    let next = until(time(&info["looked_at"]), time(&info["next_look_at"]));
    assert!(next > Duration::from_secs(5 * 3_600) && next < Duration::from_secs(7 * 3_600), "{next:?}");
    assert!(info["problem"].is_null() && info["explanation_url"].is_null(), "{info}");

    // Nonsense changes nothing, and says so.
    let leaf = bench.download(&id, "leaf").await;
    for (answer, kind) in [
        (window(end, start, "https://ca.example.test/x"), "renewal-window-ignored"),
        (
            window(later(dies, DAY), later(dies, 2 * DAY), "https://ca.example.test/x"),
            "renewal-window-ignored",
        ),
        ("<html>".to_owned(), "renewal-info-unreadable"),
    ] {
        ca.set_renewal_info(&leaf, &answer).await.unwrap();
        ask_now(&bench, &id).await;
        let ignored = bench
            .until_so(&id, kind, |record| {
                record["renewal_info"]["problem"]["type"] == kind
                    && time(&record["renewal_info"]["next_look_at"]) > born
            })
            .await;
        assert_eq!(ignored["renewal_info"]["window"], info["window"], "{answer}");
        assert_eq!(ignored["renew_at"], asked["renew_at"], "{answer}");
    }
    assert!(ca.counts().await.unwrap().replaced(&[name]).is_empty());

    // Now it wants it renewed: at the next look it is.
    let past = window(born - DAY, later(born, Duration::from_secs(1)), "https://ca.example.test/incident");
    ca.set_renewal_info(&leaf, &past).await.unwrap();
    ask_now(&bench, &id).await;
    let second = until_version(&bench, &id, 2).await;
    assert_eq!(ca.counts().await.unwrap().replaced(&[name]), std::slice::from_ref(&first_id));
    assert!(
        second["renewal_info"]["window"].is_null(),
        "what was said of version 1 says nothing of version 2"
    );
    assert!(time(&second["renew_at"]) > drawn - 30 * DAY, "the new version is not due at once: {second}");
    let counted = bench.counted(name).await;
    assert_eq!((counted.finalized, counted.certificates), (2, 2), "{counted:?}");

    // Another order has replaced what we would replace: it is ordered all the same.
    let replaced_already = doc! { "version.ari_id": &first_id };
    certificates.set(&id, replaced_already).await;
    bench.api.post(&bench.path(&format!("certificates/{id}/renew")), &json!({})).await.unwrap();
    until_version(&bench, &id, 3).await;
    let counts = ca.counts().await.unwrap();
    assert_eq!(counts.refused_replacements, std::slice::from_ref(&first_id));
    assert_eq!(counts.replaced(&[name]), std::slice::from_ref(&first_id));
    assert_eq!(counts.of(&[name]).finalized, 3);

    // And the next one names its own predecessor again.
    let third_id = certificates.ari_id(&id).await;
    bench.api.post(&bench.path(&format!("certificates/{id}/renew")), &json!({})).await.unwrap();
    until_version(&bench, &id, 4).await;
    let last = if Pebble::finds(&third_id) { &third_id } else { &first_id };
    assert_eq!(ca.counts().await.unwrap().replaced(&[name]).last(), Some(last));
}

/// Each replaces the one before, in time, and not before its time.
#[tokio::test]
async fn certificates_that_live_for_a_minute_are_replaced_in_time() {
    let mut options = options();
    options.pebble = PebbleOptions { profiles: vec![Profile::seconds()], ..PebbleOptions::default() };
    let (stack, bench) = bench::own(options).await;
    let certificates = Certificates::of(&stack).await;
    let name = "minute.example.test";
    let id = bench.request(name).await;
    bench.valid(&id).await;
    let (mut ids, mut before) = (Vec::new(), None::<Value>);
    for number in 1..=VERSIONS {
        let record = until_version(&bench, &id, number).await;
        let issued = time(&record["version"]["issued_at"]);
        if let Some(before) = before {
            let (due, dies) = (time(&before["renew_at"]), time(&before["version"]["not_after"]));
            assert!(
                issued >= due && issued < dies,
                "version {number} at {issued}, due at {due}, needed by {dies}"
            );
            say(format_args!("version {number}: {:?} after it was due", until(due, issued)));
        }
        ids.push(certificates.ari_id(&id).await);
        before = Some(record);
    }
    if bench.ca.flavor().renewal_info {
        ids.pop();
        ids.retain(|id| Pebble::finds(id));
        assert_eq!(bench.ca.counts().await.unwrap().replaced(&[name])[..ids.len()], ids);
    }
}
