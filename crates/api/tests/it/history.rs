// SPDX-License-Identifier: Apache-2.0
//! What the leader leaves behind, as clients read it: totals of finished jobs, and notices.

use cap_testkit::mongo::driver::Client;
use cap_testkit::mongo::driver::bson::{DateTime, Document, doc};

use crate::world::quiet;

const CERTIFICATE: &str = "crt_0192f0c1a3d27b4e8f6a5c4d3e2f1a0b";
const VERSION: &str = "ver_0192f0c1a3d27b4e8f6a5c4d3e2f1a0b";

#[tokio::test]
async fn totals_and_notices_are_listed_from_where_and_in_the_state_asked_for() {
    let quiet = quiet().await;
    let _writing = quiet.writing.read().await;
    let (http, owner) = (quiet.http(), quiet.owner());
    let project = http.post("/api/v1/projects", owner, &serde_json::json!({ "name": "history" })).await.id();
    let path = |rest: &str| format!("/api/v1/projects/{project}{rest}");
    let database = Client::with_uri_str(quiet.stack.mongo_uri()).await.unwrap().default_database().unwrap();
    let (totals, notices) =
        (database.collection::<Document>("job_totals"), database.collection::<Document>("notices"));
    for (hour, jobs) in [("2026-11-21T17", 3_i64), ("2026-11-21T18", 4)] {
        let id = format!("{project}/{hour}/issue/succeeded");
        totals.insert_one(doc! { "_id": id, "project": &project, "jobs": jobs }).await.unwrap();
    }
    for (kind, open) in [("expired", true), ("quarter_left", false)] {
        let at = DateTime::from_millis(1_790_000_000_000);
        notices
            .insert_one(doc! {
                "_id": format!("{CERTIFICATE}/{VERSION}/{kind}"), "project": &project, "name": "a.example.test",
                "not_after": at, "reason": "auto_renew_off", "problem": null, "noticed_at": at, "open": open,
                "resolved_at": if open { None } else { Some(at) },
            })
            .await
            .unwrap();
    }
    let jobs = async |query: &str| {
        let page = http.get(&path(&format!("/jobs/totals{query}")), owner).await.json();
        let items = page["items"].as_array().unwrap().clone();
        let counts = items.iter().map(|total| total["jobs"].as_u64().unwrap()).collect::<Vec<_>>();
        (counts, page["next_cursor"].as_str().map(str::to_owned))
    };
    assert_eq!(jobs("").await, (vec![3, 4], None));
    assert_eq!(jobs("?since=2026-11-21T18:59:59Z").await.0, [4]);
    let (first, cursor) = jobs("?limit=1").await;
    assert_eq!(first, [3]);
    assert_eq!(jobs(&format!("?limit=1&cursor={}", cursor.unwrap())).await, (vec![4], None));
    http.get(&path("/jobs/totals?since=yesterday"), owner).await.problem(400, "malformed-request");

    let kinds = async |query: &str| {
        let page = http.get(&path(&format!("/notices{query}")), owner).await.json();
        let items = page["items"].as_array().unwrap().clone();
        items.iter().map(|notice| notice["kind"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(kinds("").await, ["expired", "quarter_left"]);
    assert_eq!(kinds("?open=true").await, ["expired"]);
    assert_eq!(kinds("?open=false").await, ["quarter_left"]);
    let foreign = http.get(&quiet.path("/notices"), owner).await.json();
    assert!(foreign["items"].as_array().unwrap().is_empty(), "{foreign}");
}
