// SPDX-License-Identifier: Apache-2.0
//! What the tests share: a stack with a project and an issuer, and questions that are asked of it often.

use std::sync::OnceLock;
use std::time::Duration;

use cap_testkit::ca::{NameSetCounts, Pebble};
use cap_testkit::mongo::driver::Client;
use cap_testkit::mongo::driver::bson::{Document, doc};
use cap_testkit::stack::{ApiClient, Demo, Stack, StackOptions};
use cap_testkit::wait::{self, Pending};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::Value;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Stacks that work at once, whatever the number of test threads: a small machine runs three beside each other, which wait
/// most of the time.
static ROOM: Semaphore = Semaphore::const_new(3);
/// Requests in flight while many certificates are asked for.
const CLIENTS: usize = 8;
/// The API's largest page: every list of a test fits into one.
const PAGE: &str = "limit=500";
/// How long anything may take that is not about time: a bound against hanging, not a measure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A project with an issuer on some stack.
pub(crate) struct Bench {
    pub(crate) api: ApiClient,
    pub(crate) ca: Pebble,
    demo: Demo,
    _room: Option<SemaphorePermit<'static>>,
}

/// One API and this many workers, no scheduler, in the shared replica set.
pub(crate) fn workers(count: u8) -> StackOptions {
    let mut options = StackOptions::for_test();
    options.workers = count;
    options.schedulers = 0;
    options
}

/// A place for a stack among those that work at once.
pub(crate) async fn room() -> SemaphorePermit<'static> {
    ROOM.acquire().await.unwrap()
}

/// A stack of one test's own, to break.
pub(crate) async fn own(options: StackOptions) -> (Stack, Bench) {
    let room = room().await;
    let stack = Stack::start(options).await.unwrap();
    let mut bench = on(&stack, "drill").await;
    bench._room = Some(room);
    (stack, bench)
}

/// The stack of the tests that break nothing: two workers.
pub(crate) async fn shared(project: &str) -> Bench {
    let room = room().await;
    let standing = standing().await;
    let mut bench = on(&standing.stack, project).await;
    bench._room = Some(room);
    bench
}

/// The orders of a certificate of the shared stack, one an attempt.
pub(crate) async fn shared_orders(certificate: &str) -> Vec<Document> {
    let uri = &standing().await.stack.infrastructure.mongo_uri;
    let database = Client::with_uri_str(uri).await.unwrap().default_database().unwrap();
    let orders = database.collection::<Document>("orders");
    orders.find(doc! { "certificate": certificate }).await.unwrap().try_collect().await.unwrap()
}

/// What the metrics of a worker of the shared stack were before there was any job.
pub(crate) async fn metrics_at_start() -> &'static str {
    &standing().await.metrics
}

struct Standing {
    stack: Stack,
    metrics: String,
}

async fn standing() -> &'static Standing {
    static STANDING: OnceLock<Standing> = OnceLock::new();
    let start = || {
        // On a runtime of its own: that of the test which comes first ends with that test.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let stack = Stack::start(workers(2)).await.unwrap();
            let metrics = stack.workers[0].metrics().await.unwrap();
            Standing { stack, metrics }
        })
    };
    tokio::task::spawn_blocking(move || STANDING.get_or_init(start)).await.unwrap()
}

async fn on(stack: &Stack, project: &str) -> Bench {
    let api = stack.client(0).unwrap();
    let ca = Pebble::attach(stack.ca().coordinates().clone());
    let demo = Demo::create(&api, &ca, project, "pebble").await.unwrap();
    Bench { api, ca, demo, _room: None }
}

impl Bench {
    /// The path of something in the project.
    pub(crate) fn path(&self, rest: &str) -> String {
        format!("/api/v1/projects/{}/{rest}", self.demo.project)
    }

    /// The profile that certificates ask for.
    pub(crate) fn profile(&self) -> Option<&String> {
        self.ca.flavor().profiles.first()
    }

    /// Asks for one certificate; answers its id.
    pub(crate) async fn request(&self, name: &str) -> String {
        self.demo.request(&self.api, &[name]).await.unwrap()
    }

    /// Asks for a certificate for each name; answers their ids.
    pub(crate) async fn request_each(&self, names: &[String]) -> Vec<String> {
        let asked = names.iter().map(|name| async { self.demo.request(&self.api, &[name]).await });
        stream::iter(asked).buffered(CLIENTS).try_collect().await.unwrap()
    }

    /// Waits until it is valid; answers its record.
    pub(crate) async fn valid(&self, certificate: &str) -> Value {
        self.demo.wait_valid(&self.api, certificate).await.unwrap()
    }

    /// A certificate's record, as the API shows it.
    pub(crate) async fn get(&self, certificate: &str) -> Value {
        self.api.get(&self.path(&format!("certificates/{certificate}"))).await.unwrap()
    }

    /// Waits until a certificate's record is as wanted; answers it.
    pub(crate) async fn until_so(
        &self,
        certificate: &str,
        what: &str,
        is_so: impl Fn(&Value) -> bool,
    ) -> Value {
        wait::until(what, PATIENCE, || async {
            let record = self.get(certificate).await;
            if is_so(&record) { Ok(record) } else { Err(Pending::not_yet(record)) }
        })
        .await
        .unwrap()
    }

    /// Takes from the current version of a certificate what is known of its revocation, past every interface of ours.
    pub(crate) async fn forget_revocation(&self, stack: &Stack, certificate: &str) {
        let client = Client::with_uri_str(&stack.infrastructure.mongo_uri).await.unwrap();
        let database = client.default_database().unwrap();
        let (own, known) = (doc! { "_id": certificate }, doc! { "$unset": { "version.revocation": "" } });
        database.collection::<Document>("certificates").update_one(own, known).await.unwrap();
        let (own, known) = (doc! { "certificate": certificate }, doc! { "$unset": { "revocation": "" } });
        database.collection::<Document>("certificate_versions").update_many(own, known).await.unwrap();
    }

    /// Waits until every certificate of the project is valid. All are seen at one moment: one that is tried again while
    /// the statuses are asked for one after the other would be in none of them.
    pub(crate) async fn all_valid(&self, limit: Duration) {
        wait::until("every certificate to be valid", limit, || async {
            let listed = self.api.get(&self.path(&format!("certificates?{PAGE}"))).await;
            let listed = listed.map_err(Pending::not_yet)?;
            assert!(listed["next_cursor"].is_null(), "more certificates than fit a page");
            let left = listed["items"].as_array().unwrap().iter().find(|one| one["status"] != "valid");
            left.map_or(Ok(()), |one| Err(Pending::not_yet(one)))
        })
        .await
        .unwrap();
    }

    /// The project's jobs that issue.
    pub(crate) async fn jobs(&self) -> Vec<Value> {
        let jobs = self.api.get(&self.path(&format!("jobs?{PAGE}"))).await.unwrap();
        assert!(jobs["next_cursor"].is_null(), "more jobs than fit a page");
        let jobs = jobs["items"].as_array().unwrap().iter();
        jobs.filter(|job| job["kind"] == "issue").cloned().collect()
    }

    /// Waits until this many of the project's jobs are being worked on.
    pub(crate) async fn running(&self, count: usize) {
        wait::until(&format!("{count} jobs to be running"), PATIENCE, || async {
            let jobs = self.api.get(&self.path(&format!("jobs?{PAGE}&state=running"))).await;
            match jobs.map_err(Pending::not_yet)?["items"].as_array().map(Vec::len) {
                Some(found) if found == count => Ok(()),
                found => Err(Pending::not_yet(format_args!("{found:?}"))),
            }
        })
        .await
        .unwrap();
    }

    /// What the CA counted for this name.
    pub(crate) async fn counted(&self, name: &str) -> NameSetCounts {
        self.ca.counts().await.unwrap().of(&[name])
    }

    /// Waits until the CA counted what `enough` wants, of all names together.
    pub(crate) async fn counted_at_least(&self, what: &str, enough: impl Fn(NameSetCounts) -> bool) {
        wait::until(what, PATIENCE, || async {
            let totals = self.ca.counts().await.map_err(Pending::not_yet)?.totals;
            if enough(totals) { Ok(()) } else { Err(Pending::not_yet(format_args!("{totals:?}"))) }
        })
        .await
        .unwrap();
    }

    /// That each name was issued for once and never again, that nothing was lost, and that no version is a second one.
    /// Answers how many orders the CA made for all of them.
    pub(crate) async fn one_each(&self, names: &[String]) -> u64 {
        let counts = self.ca.counts().await.unwrap();
        let mut orders = 0;
        for name in names {
            let counted = counts.of(&[name]);
            assert_eq!((counted.finalized, counted.certificates), (1, 1), "{name}: {counted:?}");
            orders += counted.orders;
        }
        let listed = self.api.get(&self.path(&format!("certificates?{PAGE}"))).await.unwrap();
        let listed = listed["items"].as_array().unwrap();
        for name in names {
            let record = listed.iter().find(|record| record["names"][0] == name.as_str());
            let record = record.unwrap_or_else(|| panic!("{name} was lost"));
            assert_eq!((&record["status"], &record["version"]["number"]), (&"valid".into(), &1.into()));
        }
        let jobs = self.jobs().await;
        assert_eq!(jobs.len(), listed.len());
        assert!(jobs.iter().all(|job| job["state"] == "succeeded"), "{jobs:?}");
        orders
    }

    /// That each certificate's key is its own.
    pub(crate) async fn keys_match(&self, certificates: &[String]) {
        let checks = certificates.iter().map(|id| async move {
            let leaf = self.download(id, "leaf").await;
            let key = self.download(id, "key").await;
            assert_eq!(crate::pem::Leaf::read(&leaf).spki, crate::pem::spki_of_key(&key), "{id}");
        });
        stream::iter(checks).buffer_unordered(CLIENTS).collect::<Vec<()>>().await;
    }

    /// Downloads a certificate in a format.
    pub(crate) async fn download(&self, certificate: &str, format: &str) -> String {
        let path = self.path(&format!("certificates/{certificate}/download?format={format}"));
        self.api.text(&path).await.unwrap()
    }
}

/// Names `prefix-0`, `prefix-1`, and so on.
pub(crate) fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{prefix}-{n}.example.test")).collect()
}
