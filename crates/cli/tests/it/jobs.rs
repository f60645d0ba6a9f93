// SPDX-License-Identifier: Apache-2.0
//! Jobs from the command line, and the queue that they are in.

use std::time::Duration;

use cap_core::clock::Clock;
use cap_runtime::clock::SystemClock;
use cap_testkit::mongo::driver::Client;
use cap_testkit::mongo::driver::bson::{DateTime, Document, doc};
use cap_testkit::wait::{self, Pending};

use crate::world::{World, world};

/// More than a job that meets a closed port runs for, on a busy machine.
const WITHIN: Duration = Duration::from_secs(60);

/// Lets a job wait for an hour, as soon as no worker has it.
async fn hold(world: &World, job: &str) {
    let client = Client::with_uri_str(world.stack.mongo_uri()).await.unwrap();
    let jobs = client.default_database().unwrap().collection::<Document>("jobs");
    let later = DateTime::from_millis(SystemClock.now().as_millisecond() + 3_600_000);
    let change = doc! { "$set": { "claim_at": later } };
    wait::until("the job to wait", WITHIN, || async {
        let held = jobs.update_one(doc! { "_id": job, "state": "queued" }, change.clone()).await;
        match held.map_err(Pending::not_yet)?.matched_count {
            0 => Err(Pending::not_yet("a worker has it")),
            _ => Ok(()),
        }
    })
    .await
    .unwrap();
}

/// The ids of listed jobs.
fn jobs_of(listed: &serde_json::Value) -> Vec<String> {
    let id = |job: &serde_json::Value| job["id"].as_str().unwrap().to_owned();
    listed.as_array().unwrap().iter().map(id).collect()
}

#[tokio::test]
async fn a_job_is_retried_and_cancelled_and_what_is_over_is_a_conflict() {
    let world = world().await.read().await;
    let cli = world.cli();
    // Nobody is at home there: the job of the certificate waits for its issuer as long as this test needs it.
    let issuer = ["issuer", "create", "closed", "--directory-url", "https://127.0.0.1:1/dir"];
    cli.run(&issuer).await.ends(0);
    let args = ["cert", "request", "held.example.test", "--issuer", "closed", "-o", "name"];
    let certificate = cli.run(&args).await.ends(0).data.trim_end().to_owned();
    let listed = cli.run(&["job", "list", "-o", "json"]).await.ends(0).json();
    let jobs = listed.as_array().unwrap().iter();
    let found = jobs.filter(|job| job["certificate"] == certificate.as_str()).collect::<Vec<_>>();
    assert_eq!(found.len(), 1, "{listed}");
    let job = found[0]["id"].as_str().unwrap().to_owned();
    let ids = jobs_of(&listed);
    assert!(ids.is_sorted_by(|one, next| one > next), "the newest is not first: {ids:?}");
    let last = ["job", "list", "--limit", "1", "-o", "json"];
    assert_eq!(jobs_of(&cli.run(&last).await.ends(0).json()).len(), 1);
    let own = ["job", "list", "--certificate", &certificate, "--kind", "issue", "-o", "json"];
    assert_eq!(jobs_of(&cli.run(&own).await.ends(0).json()), std::slice::from_ref(&job));
    let none = ["job", "list", "--certificate", &certificate, "--kind", "drift-scan", "-o", "json"];
    assert!(jobs_of(&cli.run(&none).await.ends(0).json()).is_empty());
    hold(&world, &job).await;

    let rehearsed = cli.run(&["job", "retry", &job, "--dry-run"]).await.ends(0).data;
    assert_eq!(rehearsed, format!("POST /api/v1/projects/demo/jobs/{job}/retry\n"));
    let before = cli.run(&["job", "get", &job, "-o", "json"]).await.ends(0).json();
    assert_eq!(before["state"], "queued");
    let retried = cli.run(&["job", "retry", &job, "-o", "json"]).await.ends(0).json();
    assert_eq!(retried["id"], job.as_str());
    wait::until("a worker to claim it again", WITHIN, || async {
        let now = cli.run(&["job", "get", &job, "-o", "json"]).await.ends(0).json();
        if now["attempt"].as_i64() > before["attempt"].as_i64() { Ok(()) } else { Err(Pending::not_yet(now)) }
    })
    .await
    .unwrap();
    let again = cli.run(&["job", "get", &job, "-o", "json"]).await.ends(0).json();
    let last = again["attempts"].as_array().and_then(|attempts| attempts.last()).unwrap();
    assert_eq!(last["number"], again["attempt"], "{again}");
    assert!(last["owner"].as_str().unwrap().starts_with("worker"), "{last}");

    hold(&world, &job).await;
    let rehearsed = cli.run(&["job", "cancel", &job, "--dry-run"]).await.ends(0).data;
    assert_eq!(rehearsed, format!("POST /api/v1/projects/demo/jobs/{job}/cancel\n"));
    let cancelled = cli.run(&["job", "cancel", &job]).await.ends(0);
    let cancelled = cancelled.tells(&["is cancelled", "renew it to queue another job"]);
    assert!(cancelled.data.starts_with("ID") && cancelled.data.contains(" cancelled "), "{cancelled:?}");
    cli.run(&["job", "cancel", &job]).await.refuses(6, &["it was cancelled before", "request: req_"]);
    cli.run(&["job", "retry", &job]).await.refuses(6, &["renew the certificate", "request: req_"]);
    let none = format!("job_{}1", "0".repeat(31));
    for verb in ["retry", "cancel"] {
        cli.run(&["job", verb, &none]).await.refuses(4, &[&none, "request: req_"]);
        cli.run(&["job", verb, "no-id"]).await.ends(2);
    }
    cli.run(&["cert", "delete", &certificate, "--yes"]).await.ends(0);
    cli.run(&["issuer", "delete", "closed", "--yes"]).await.ends(0);
}

#[tokio::test]
async fn the_jobs_of_an_issuer_are_listed_by_its_name_or_id() {
    let world = world().await.read().await;
    let cli = world.cli();
    world.issued("of-an-issuer.example.test").await;
    let issuer = cli.run(&["issuer", "get", "local-ca", "-o", "name"]).await.ends(0).data;
    let by_name = cli.run(&["job", "list", "--issuer", "local-ca", "-o", "json"]).await.ends(0).json();
    let all = by_name.as_array().unwrap();
    assert!(all.iter().any(|job| job["kind"] == "register-issuer"), "{by_name}");
    assert!(all.iter().all(|job| job["issuer"] == issuer.trim_end()), "{by_name}");
    let registrations = ["job", "list", "--kind", "register-issuer", "-o", "json", "--issuer"];
    let by_id = cli.run(&[&registrations[..], &[issuer.trim_end()]].concat()).await.ends(0).json();
    assert_eq!(jobs_of(&by_id).len(), all.iter().filter(|job| job["kind"] == "register-issuer").count());
    let none = ["job", "list", "--issuer", "absent"];
    cli.run(&none).await.refuses(4, &["absent", "request: req_"]);
    let both = ["job", "list", "--issuer", "local-ca", "--certificate", "of-an-issuer.example.test"];
    cli.run(&both).await.ends(2).tells(&["cannot be used with"]);
}

#[tokio::test]
async fn a_request_whose_job_is_cancelled_is_waited_for_no_longer() {
    let world = world().await.read().await;
    let cli = world.cli();
    let issuer = ["issuer", "create", "shut", "--directory-url", "https://127.0.0.1:1/dir"];
    cli.run(&issuer).await.ends(0);
    let request = ["cert", "request", "given-up.example.test", "--issuer", "shut", "--wait"];
    let cancelled = async {
        let job = wait::until("the job", WITHIN, || async {
            let ran = cli.run(&["job", "list", "--certificate", "given-up.example.test", "-o", "name"]).await;
            match ran.data.lines().next() {
                Some(job) => Ok(job.to_owned()),
                None => Err(Pending::not_yet(ran.talk)),
            }
        });
        let job = job.await.unwrap();
        hold(&world, &job).await;
        cli.run(&["job", "cancel", &job]).await.ends(0);
        job
    };
    let (ran, job) = tokio::join!(cli.run(&request), cancelled);
    let told = format!("its job {job} was cancelled");
    ran.refuses(1, &[&told, "cert renew crt_"]);
    cli.run(&["cert", "delete", "given-up.example.test", "--yes"]).await.ends(0);
    cli.run(&["issuer", "delete", "shut", "--yes"]).await.ends(0);
}

#[tokio::test]
async fn the_queue_is_told_in_every_form() {
    let world = world().await.read().await;
    let cli = world.cli();
    wait::until("the queue to be measured", WITHIN, || async {
        match cli.run(&["queue", "stats"]).await {
            ran if ran.code == Some(0) => Ok(()),
            ran => Err(Pending::not_yet(ran.talk)),
        }
    })
    .await
    .unwrap();
    let table = cli.run(&["queue", "stats"]).await.ends(0).data;
    assert!(table.starts_with("DEPTH") && table.contains("Z ("), "{table}");
    let json = cli.run(&["queue", "stats", "-o", "json"]).await.ends(0).json();
    assert!(json["depth"].is_u64() && json["capped"] == false, "{json}");
    assert!(json["oldest_age_seconds"].is_number() && json["measured_at"].is_string(), "{json}");
    let yaml = cli.run(&["queue", "stats", "-o", "yaml"]).await.ends(0).data;
    assert!(yaml.contains("capped: false"), "{yaml}");
}
