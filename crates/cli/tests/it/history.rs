// SPDX-License-Identifier: Apache-2.0
//! What was, from the command line: totals of finished jobs, and notices.

use cap_testkit::mongo::driver::Client;
use cap_testkit::mongo::driver::bson::{DateTime, Document, doc};

use crate::world::world;

#[tokio::test]
async fn totals_and_notices_are_shown_as_far_back_and_in_the_state_asked_for() {
    let world = world().await.read().await;
    let cli = world.cli();
    let projects = cli.run(&["project", "list", "-o", "json"]).await.ends(0).json();
    let id = projects[0]["id"].as_str().unwrap();
    let database = Client::with_uri_str(world.stack.mongo_uri()).await.unwrap().default_database().unwrap();
    let total = doc! { "_id": format!("{id}/2020-02-01T03/issue/succeeded"), "project": id, "jobs": 7_i64 };
    database.collection::<Document>("job_totals").insert_one(total).await.unwrap();
    let at = DateTime::from_millis(1_790_000_000_000);
    let (certificate, version) = (id.replace("prj_", "crt_"), id.replace("prj_", "ver_"));
    let notice = doc! {
        "_id": format!("{certificate}/{version}/expired"), "project": id, "name": "a.example.test", "not_after": at,
        "reason": "late", "problem": null, "noticed_at": at, "open": false, "resolved_at": at,
    };
    database.collection::<Document>("notices").insert_one(notice).await.unwrap();

    let old = cli.run(&["job", "totals", "--since", "3650d"]).await.ends(0).data;
    let cells: Vec<Vec<&str>> = old.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(
        cells[..2],
        [["HOUR", "KIND", "OUTCOME", "JOBS"], ["2020-02-01T03:00:00Z", "issue", "succeeded", "7"]]
    );
    let lately = cli.run(&["job", "totals", "-o", "json"]).await.ends(0).json();
    assert!(lately.as_array().unwrap().iter().all(|total| total["hour"] != "2020-02-01T03:00:00Z"));
    let open = cli.run(&["notice", "list", "-o", "json"]).await.ends(0).json();
    assert_eq!(open.as_array().map(Vec::len), Some(0), "{open}");
    let all = cli.run(&["notice", "list", "--all"]).await.ends(0).data;
    assert!(
        all.contains("a.example.test  expired") && all.contains("late") && all.contains("resolved"),
        "{all}"
    );
}
