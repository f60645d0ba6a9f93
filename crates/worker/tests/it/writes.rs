// SPDX-License-Identifier: Apache-2.0
//! What an issuance costs the database, by its own log.

use cap_testkit::mongo::driver::Client;
use cap_testkit::mongo::driver::bson::{Document, doc};
use cap_testkit::stack::Role;

use crate::bench;

/// What is promised of an issuance in which nothing goes wrong.
const WRITES: u64 = 7;
/// What each further attempt adds, where the CA took longer than a worker waits in place: put back, and claimed again.
const AN_ATTEMPT: u64 = 2;
/// What there are at least: the claim, the order's beginning, its URL, its challenges, finalize, its end.
const STEPS: u64 = 6;

#[tokio::test]
async fn a_calm_issuance_takes_seven_writes_at_most() {
    // So long that no heartbeat writes to the job meanwhile.
    let options = bench::workers(1).with(Role::Worker, "CAP_JOB_LEASE", "10m");
    let (stack, bench) = bench::own(options).await;
    let certificate = bench.request("calm.example.test").await;
    bench.valid(&certificate).await;
    let client = Client::with_uri_str(stack.mongo_uri()).await.unwrap();
    let database = client.default_database().unwrap();
    let id_in = async |collection: &str, by: &str| {
        let records = database.collection::<Document>(collection);
        let found = records.find_one(doc! { by: &certificate }).await.unwrap().unwrap();
        found.get_str("_id").unwrap().to_owned()
    };
    let job = id_in("jobs", "subject").await;
    let ids = [certificate.clone(), id_in("orders", "certificate").await, job.clone()];
    let job = bench.api.get(&bench.path(&format!("jobs/{job}"))).await.unwrap();
    let most = WRITES + AN_ATTEMPT * (job["attempt"].as_u64().unwrap() - 1);
    let fields = ["o._id", "o2._id", "o.applyOps.o._id", "o.applyOps.o2._id"];
    let any: Vec<Document> = fields.map(|field| doc! { field: { "$in": &ids } }).into();
    let log = client.database("local").collection::<Document>("oplog.rs");
    // The first one is that of the request, which makes certificate and job.
    let writes = log.count_documents(doc! { "$or": any }).await.unwrap() - 1;
    assert!((STEPS..=most).contains(&writes), "{writes} writes");
}
