// SPDX-License-Identifier: Apache-2.0
//! Lists by cursor: nothing is skipped or doubled, whatever is added meanwhile.

use std::collections::BTreeSet;

use cap_testkit::mongo::driver::bson::{DateTime, Document, doc};
use serde_json::json;

use crate::jobs::raw;
use crate::world::quiet;

#[tokio::test]
async fn pages_hold_what_was_there_once_each_while_more_is_added() {
    let quiet = quiet().await;
    let _writing = quiet.writing.read().await;
    let (http, owner) = (quiet.http(), quiet.owner());
    let project = http.post("/api/v1/projects", owner, &json!({ "name": "paging" })).await.id();
    let path = |rest: &str| format!("/api/v1/projects/{project}{rest}");
    let issuer = json!({ "name": "ca", "directory_url": "https://ca.example.test/dir" });
    assert_eq!(http.post(&path("/issuers"), owner, &issuer).await.status, 201);
    let add = async |n: usize| {
        let body = json!({ "names": [format!("p{n}.example.test")], "issuer": "ca" });
        http.post(&path("/certificates"), owner, &body).await.id()
    };
    let mut there = BTreeSet::new();
    for n in 0..23 {
        there.insert(add(n).await);
    }
    let (mut seen, mut cursor, mut pages) = (Vec::new(), None::<String>, 0);
    loop {
        let next = cursor.map_or(String::new(), |cursor| format!("&cursor={cursor}"));
        let page = http.get(&path(&format!("/certificates?limit=5{next}")), owner).await.json();
        let items = page["items"].as_array().unwrap();
        seen.extend(items.iter().map(|item| item["id"].as_str().unwrap().to_owned()));
        pages += 1;
        cursor = page["next_cursor"].as_str().map(str::to_owned);
        if cursor.is_none() {
            break;
        }
        assert_eq!(items.len(), 5, "a page with a successor is full");
        // Fewer than a page holds, so that the end is reached; one goes, too, that was seen already.
        add(100 + pages).await;
        if pages == 1 {
            let gone = http.call("DELETE", &path(&format!("/certificates/{}", seen[4]))).token(owner);
            assert_eq!(gone.send().await.status, 204);
        }
    }
    let once: BTreeSet<String> = seen.iter().cloned().collect();
    assert_eq!(once.len(), seen.len(), "something was doubled");
    assert!(once.is_superset(&there), "something was skipped");
    assert!(pages >= 5);
}

#[tokio::test]
async fn a_list_without_a_limit_has_fifty_items_and_a_filter_holds() {
    let quiet = quiet().await;
    let _writing = quiet.writing.read().await;
    let (http, owner) = (quiet.http(), quiet.owner());
    let project = http.post("/api/v1/projects", owner, &json!({ "name": "fifty" })).await.id();
    let path = |rest: &str| format!("/api/v1/projects/{project}{rest}");
    let issuer = json!({ "name": "ca", "directory_url": "https://ca.example.test/dir" });
    http.post(&path("/issuers"), owner, &issuer).await;
    for n in 0..51 {
        let body = json!({ "names": [format!("f{n}.example.test")], "issuer": "ca" });
        assert_eq!(http.post(&path("/certificates"), owner, &body).await.status, 201);
    }
    let shown = async |query: &str| {
        let page = http.get(&path(&format!("/certificates{query}")), owner).await.json();
        (page["items"].as_array().unwrap().len(), page["next_cursor"].is_string())
    };
    assert_eq!(shown("").await, (50, true));
    assert_eq!(shown("?limit=51").await, (51, false));
    assert_eq!(shown("?limit=500&status=requested").await, (51, false));
    assert_eq!(shown("?status=valid").await, (0, false));
}

#[tokio::test]
async fn versions_are_listed_by_pages_from_the_newest_on_and_nothing_else_is_taken() {
    let quiet = quiet().await;
    let _writing = quiet.writing.read().await;
    let (http, owner) = (quiet.http(), quiet.owner());
    let certificate = quiet.certificate("versions.example.test").await["id"].as_str().unwrap().to_owned();
    let end = DateTime::from_millis(1_790_000_000_000);
    let version = |number: i64| {
        let id = format!("ver_{number:032x}");
        doc! {
            "_id": &id, "id": &id, "certificate": &certificate, "project": &quiet.project, "number": number, "serial": "01",
            "fingerprint_sha256": "ff", "not_before": end, "not_after": end, "issued_at": end,
        }
    };
    let versions = raw(quiet).await.collection::<Document>("certificate_versions");
    versions.insert_many((1..=501).map(version)).await.unwrap();
    let path = quiet.path(&format!("/certificates/{certificate}/versions"));
    let page = async |query: &str| {
        let page = http.get(&format!("{path}{query}"), owner).await.json();
        let items = page["items"].as_array().unwrap().iter();
        let numbers: Vec<_> = items.map(|version| version["number"].as_i64().unwrap()).collect();
        (numbers, page["next_cursor"].as_str().map(str::to_owned))
    };
    let (numbers, next) = page("").await;
    assert_eq!((numbers.len(), numbers[0], numbers[499]), (500, 501, 2));
    assert_eq!(page(&format!("?cursor={}", next.unwrap())).await, (vec![1], None));
    let (numbers, next) = page("?limit=2").await;
    assert_eq!(numbers, [501, 500]);
    assert_eq!(page(&format!("?limit=2&cursor={}", next.unwrap())).await.0, [499, 498]);
    let elsewhere = http.get(&quiet.path("/certificates?limit=1"), owner).await.json();
    let elsewhere = elsewhere["next_cursor"].as_str().unwrap();
    for wrong in ["?foo=1", "?limit=0", "?limit=501", "?cursor=x", &format!("?cursor={elsewhere}")] {
        http.get(&format!("{path}{wrong}"), owner).await.problem(400, "malformed-request");
    }
}
