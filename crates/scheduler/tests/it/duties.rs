// SPDX-License-Identifier: Apache-2.0
//! The leader's duties: what a leader that is killed in the middle leaves behind, another goes on with.

use std::time::Duration;

use cap_core::clock::Clock;
use cap_core::entropy::Entropy;
use cap_core::id::JobId;
use cap_runtime::clock::SystemClock;
use cap_runtime::entropy::OsEntropy;
use cap_store::COUNT_PAGE;
use cap_testkit::mongo::ReplicaSet;
use cap_testkit::mongo::driver::bson::{Bson, DateTime, Document, doc};
use cap_testkit::wait::{self, Pending};
use serde_json::Value;

use crate::bench::{Bench, raw};
use crate::world::{admin, calm, metric};

/// Two looks of the slowest duty that is waited for, on a busy machine.
const DONE_WITHIN: Duration = Duration::from_secs(120);
const PROJECT: &str = "prj_0192f0c1a3d27b4e8f6a5c4d3e2f1a0b";

/// Jobs that ended in this moment and were not counted.
async fn ended(uri: &str, count: usize) {
    let (clock, entropy): (&dyn Clock, &dyn Entropy) = (&SystemClock, &OsEntropy);
    let at = DateTime::from_millis(clock.now().as_millisecond());
    let job = |_| {
        let id = JobId::generate(clock, entropy).to_string();
        doc! {
            "_id": &id, "key": &id, "project": PROJECT, "work": { "kind": "issue" }, "alive": false,
            "state": "succeeded", "finished_at": at, "uncounted": true,
        }
    };
    raw(uri).await.collection::<Document>("jobs").insert_many((0..count).map(job)).await.unwrap();
}

async fn sum(uri: &str) -> i64 {
    let mut totals = raw(uri).await.collection::<Document>("job_totals").find(doc! {}).await.unwrap();
    let mut sum = 0;
    while totals.advance().await.unwrap() {
        sum += totals.deserialize_current().unwrap().get_i64("jobs").unwrap();
    }
    sum
}

#[tokio::test]
async fn a_leader_that_is_killed_while_it_counts_leaves_nothing_counted_twice_or_missed() {
    const JOBS: usize = 2_300;
    let bench = Bench::new(ReplicaSet::fresh_database().await.unwrap().uri);
    let kek = bench.kek("kek").await;
    bench.migrate(&kek).await;
    ended(&bench.mongo_uri, JOBS).await;
    let victim = bench.scheduler_with(&kek, "victim", "3s", &[("CAP_DRILL_KILL", "totals.within:3")]);
    let code = victim.wait_exit(DONE_WITHIN).await.unwrap();
    assert_eq!(code, None, "it was not ended by the drill: are these binaries built with --all-features?");
    let two_pages = i64::from(2 * COUNT_PAGE);
    assert_eq!(sum(&bench.mongo_uri).await, two_pages, "two pages were committed, and the third was not");

    let _next = bench.scheduler(&kek, "next", "3s");
    let jobs = raw(&bench.mongo_uri).await.collection::<Document>("jobs");
    wait::until("every job to be counted", DONE_WITHIN, || async {
        match jobs.count_documents(doc! { "uncounted": true }).await.map_err(Pending::not_yet)? {
            0 => Ok(()),
            left => Err(Pending::not_yet(left)),
        }
    })
    .await
    .unwrap();
    assert_eq!(sum(&bench.mongo_uri).await, i64::try_from(JOBS).unwrap());
    let expiring = doc! { "expire_at": { "$exists": true } };
    assert_eq!(jobs.count_documents(expiring).await.unwrap(), u64::try_from(JOBS).unwrap());
}

/// The one item of a list that `is_it` says.
fn find(list: &Value, is_it: impl Fn(&Value) -> bool) -> Option<Value> {
    list["items"].as_array().unwrap().iter().find(|item| is_it(item)).cloned()
}

#[tokio::test]
async fn a_certificate_that_runs_out_is_noticed_once_and_its_job_is_in_the_totals() {
    let mut world = calm().await.write().await;
    let leader = world.heal().await;
    let certificate = world.issued(&["runs-out.example.test"]).await.remove(0);
    let certificates = raw(&world.database).await.collection::<Document>("certificates");
    // As if an eighth of its life were left, and nobody renewed it.
    let at = |hours: i64| -> Bson {
        doc! { "$dateAdd": { "startDate": "$$NOW", "unit": "hour", "amount": hours } }.into()
    };
    let change = vec![doc! { "$set": {
        "version.not_before": at(-72), "version.not_after": at(8), "notice_at": at(-1), "auto_renew": false,
    } }];
    certificates.update_one(doc! { "_id": &certificate }, change).await.unwrap();
    let (api, path) = (world.api(), world.path("notices?open=true"));
    let notice = wait::until("the notice", DONE_WITHIN, || async {
        let list = api.get(&path).await.map_err(Pending::not_yet)?;
        find(&list, |notice| notice["certificate"] == certificate.as_str())
            .ok_or_else(|| Pending::not_yet(list))
    })
    .await
    .unwrap();
    assert_eq!(
        (&notice["kind"], &notice["reason"]),
        (&"eighth_left".into(), &"auto_renew_off".into()),
        "{notice}"
    );
    assert_eq!(notice["name"], "runs-out.example.test");
    let page = admin(world.scheduler(&leader.holder)).text("/metrics").await.unwrap();
    let line = page
        .lines()
        .find(|line| line.starts_with("certautopilot_notices_total") && line.contains("eighth_left"));
    assert!(line.is_some_and(|line| !line.ends_with(" 0")), "{page}");

    wait::until("the totals to have its job", DONE_WITHIN, || async {
        let totals = api.get(&world.path("jobs/totals")).await.map_err(Pending::not_yet)?;
        let is_it = |total: &Value| total["kind"] == "issue" && total["outcome"] == "succeeded";
        find(&totals, is_it)
            .filter(|total| total["jobs"].as_u64() > Some(0))
            .ok_or_else(|| Pending::not_yet(totals))
    })
    .await
    .unwrap();
    let counted = metric(world.scheduler(&leader.holder), "certautopilot_jobs_counted_total").await.unwrap();
    assert!(counted > 0.0, "{counted}");
    // A look or more later there is still the one.
    let list = api.get(&world.path("notices")).await.unwrap();
    let of_it = list["items"].as_array().unwrap().iter();
    assert_eq!(of_it.filter(|notice| notice["certificate"] == certificate.as_str()).count(), 1, "{list}");
}
