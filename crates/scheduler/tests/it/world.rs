// SPDX-License-Identifier: Apache-2.0
//! Two whole systems with three schedulers each, shared by the tests of this binary: a calm one, whose schedulers are
//! let alone but by one test at a time, and a stormy one with short leases, whose schedulers are killed and paused.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use cap_testkit::ca::PebbleOptions;
use cap_testkit::mongo::driver::bson::{Document, doc};
use cap_testkit::process::{Service, Signal};
use cap_testkit::progress::say;
use cap_testkit::stack::{ApiClient, Demo, Role, Stack, StackOptions};
use cap_testkit::wait::{self, Pending};
use serde_json::{Value, json};
use tokio::sync::RwLock;

use crate::bench::raw;

/// The lease of the calm world: a takeover that is much quicker cannot have waited for its end.
pub(crate) const LONG_LEASE: &str = "15s";
/// What is promised to operators for every takeover.
pub(crate) const PROMISED: Duration = Duration::from_secs(30);
/// An issuance on a machine that is busy with other tests.
pub(crate) const ISSUED_WITHIN: Duration = Duration::from_secs(120);
/// From start to ready.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// A system, and a project in it.
pub(crate) struct World {
    pub(crate) stack: Stack,
    pub(crate) demo: Demo,
    pub(crate) database: String,
}

/// Who leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leader {
    pub(crate) holder: String,
    pub(crate) epoch: i64,
}

static CALM: OnceLock<RwLock<World>> = OnceLock::new();
static STORMY: OnceLock<RwLock<World>> = OnceLock::new();

pub(crate) async fn calm() -> &'static RwLock<World> {
    shared(&CALM, LONG_LEASE).await
}

/// Always to be taken for writing: each test disturbs the others.
pub(crate) async fn stormy() -> &'static RwLock<World> {
    shared(&STORMY, "3s").await
}

/// Statics are never dropped: the kernel ends the processes with us, and the next test run sweeps the files.
async fn shared(slot: &'static OnceLock<RwLock<World>>, lease: &'static str) -> &'static RwLock<World> {
    let start = move || {
        slot.get_or_init(|| {
            // On a runtime of its own: that of the test which comes first ends with that test.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            RwLock::new(runtime.block_on(World::start(lease)))
        })
    };
    tokio::task::spawn_blocking(start).await.unwrap()
}

impl World {
    pub(crate) async fn start(lease: &str) -> Self {
        Self::start_with(lease, 1).await
    }

    /// With two apis and two workers.
    pub(crate) async fn crowd(lease: &str) -> Self {
        Self::start_with(lease, 2).await
    }

    async fn start_with(lease: &str, each: u8) -> Self {
        let mut options = StackOptions::for_test().with(Role::Scheduler, "CAP_SCHEDULER_LEASE", lease);
        (options.apis, options.workers) = (each, each);
        options.schedulers = 3;
        options.pebble = PebbleOptions::with_every_profile();
        let stack = Stack::start(options).await.unwrap();
        let api = stack.client(0).unwrap();
        let demo = Demo::create(&api, stack.ca(), "demo", "local-ca").await.unwrap();
        let database = stack.mongo_uri().to_owned();
        Self { stack, demo, database }
    }

    /// Brings back the schedulers that an earlier test killed or paused, and waits for a leader.
    pub(crate) async fn heal(&mut self) -> Leader {
        for scheduler in &mut self.stack.schedulers {
            scheduler.signal(Signal::CONT).unwrap();
            if !scheduler.process().is_running() {
                scheduler.restart().unwrap();
            }
            scheduler.wait_ready(READY_WITHIN).await.unwrap();
        }
        self.leader_after(0).await
    }

    pub(crate) fn api(&self) -> ApiClient {
        self.stack.client(0).unwrap()
    }

    pub(crate) fn scheduler(&self, name: &str) -> &Service {
        self.stack.schedulers.iter().find(|service| service.name() == name).unwrap()
    }

    /// Waits for a leader of a later epoch than this, for as long as is promised.
    pub(crate) async fn leader_after(&self, epoch: i64) -> Leader {
        self.leader_where(&format!("a leader after epoch {epoch}"), |leader| leader.epoch > epoch).await
    }

    /// Waits for a leader that is not this one.
    pub(crate) async fn leader_other_than(&self, holder: &str) -> Leader {
        self.leader_where(&format!("another leader than {holder}"), |leader| leader.holder != holder).await
    }

    async fn leader_where(&self, what: &str, wanted: impl Fn(&Leader) -> bool) -> Leader {
        let (api, wanted) = (self.api(), &wanted);
        wait::until(what, PROMISED, || async {
            let cluster = api.get("/api/v1/cluster").await.map_err(Pending::not_yet)?;
            let leader = &cluster["leader"];
            match (leader["epoch"].as_i64(), leader["holder"].as_str(), leader["expired"].as_bool()) {
                (Some(epoch), Some(holder), Some(false)) => {
                    let leader = Leader { holder: holder.to_owned(), epoch };
                    if wanted(&leader) { Ok(leader) } else { Err(Pending::not_yet(cluster)) }
                }
                _ => Err(Pending::not_yet(cluster)),
            }
        })
        .await
        .unwrap()
    }

    /// The epoch of the lease, whoever has it.
    pub(crate) async fn epoch(&self) -> i64 {
        let cluster = self.api().get("/api/v1/cluster").await.unwrap();
        cluster["leader"]["epoch"].as_i64().unwrap()
    }

    /// [`World::leader_after`] with the time that it took since `began`.
    pub(crate) async fn takeover(&self, from: &Leader, began: Instant, what: &str) -> (Leader, Duration) {
        let next = self.leader_after(from.epoch).await;
        let took = began.elapsed();
        say(format_args!("takeover after {what}: {took:?} ({} to {})", from.holder, next.holder));
        assert!(took < PROMISED, "the takeover took {took:?}");
        (next, took)
    }

    /// Asks for a certificate with this profile; answers its id at once.
    pub(crate) async fn request(&self, name: &str, profile: &str, auto_renew: bool) -> String {
        let body = json!({
            "names": [name], "issuer": self.demo.issuer, "key": { "type": "ecdsa-p256" },
            "challenge": "http-01", "profile": profile, "auto_renew": auto_renew,
        });
        let made = self.api().post(&self.path("certificates"), &body).await.unwrap();
        made["id"].as_str().unwrap().to_owned()
    }

    /// Certificates that are valid and due in months, by name.
    pub(crate) async fn issued(&self, names: &[&str]) -> Vec<String> {
        let api = self.api();
        let mut ids = Vec::new();
        for name in names {
            ids.push(self.demo.request(&api, &[name]).await.unwrap());
        }
        for id in &ids {
            self.demo.wait_valid(&api, id).await.unwrap();
        }
        ids
    }

    /// Waits until the current version of a certificate has this number, or a higher one; answers the record.
    pub(crate) async fn wait_version(&self, certificate: &str, number: i64) -> Value {
        let (api, path) = (self.api(), self.path(&format!("certificates/{certificate}")));
        wait::until(&format!("version {number} of {certificate}"), ISSUED_WITHIN, || async {
            let record = api.get(&path).await.map_err(Pending::not_yet)?;
            if version_number(&record) >= number { Ok(record) } else { Err(Pending::not_yet(record)) }
        })
        .await
        .unwrap()
    }

    pub(crate) async fn certificate(&self, certificate: &str) -> Value {
        self.api().get(&self.path(&format!("certificates/{certificate}"))).await.unwrap()
    }

    /// Every job that was ever queued to issue this certificate.
    pub(crate) async fn issue_jobs(&self, certificate: &str) -> Vec<Value> {
        let path = self.path(&format!("jobs?limit=200&subject={certificate}"));
        let jobs = self.api().get(&path).await.unwrap();
        let jobs = jobs["items"].as_array().unwrap().iter();
        jobs.filter(|job| job["kind"] == "issue").cloned().collect()
    }

    /// The certificate has so many versions, the CA issued as many, and as many jobs were queued: none twice.
    pub(crate) async fn assert_issued(&self, certificate: &str, name: &str, versions: i64) {
        let counts = self.stack.ca().counts().await.unwrap().of(&[name]);
        let jobs = self.issue_jobs(certificate).await;
        let record = self.certificate(certificate).await;
        assert_eq!(version_number(&record), versions, "{record}");
        let want = u64::try_from(versions).unwrap();
        assert_eq!(
            (counts.orders, counts.finalized, counts.certificates),
            (want, want, want),
            "{name}: {jobs:#?}"
        );
        assert_eq!(jobs.len(), usize::try_from(versions).unwrap(), "{name}: {jobs:#?}");
        assert!(jobs.iter().all(|job| job["state"] == "succeeded"), "{name}: {jobs:#?}");
    }

    /// Makes certificates due so many milliseconds from now, by the database's clock.
    pub(crate) async fn make_due(&self, certificates: &[String], in_ms: i64) {
        let due = doc! { "$dateAdd": { "startDate": "$$NOW", "unit": "millisecond", "amount": in_ms } };
        let filter = doc! { "_id": { "$in": certificates } };
        let collection = raw(&self.database).await.collection::<Document>("certificates");
        let changed = collection
            .update_many(filter, vec![doc! { "$set": { "renew_at": &due, "plan_at": due } }])
            .await
            .unwrap();
        assert_eq!(changed.matched_count, u64::try_from(certificates.len()).unwrap());
    }

    /// The epoch of the leader that planned a certificate's last renewal.
    pub(crate) async fn planned_in(&self, certificate: &str) -> i64 {
        let collection = raw(&self.database).await.collection::<Document>("certificates");
        let found = collection.find_one(doc! { "_id": certificate }).await.unwrap().unwrap();
        found.get_i64("plan_epoch").unwrap()
    }

    pub(crate) fn path(&self, below: &str) -> String {
        format!("/api/v1/projects/{}/{below}", self.demo.project)
    }
}

pub(crate) fn version_number(record: &Value) -> i64 {
    record["version"]["number"].as_i64().unwrap_or(0)
}

/// The admin listener of a scheduler. (It asks for no token; the client has to have one.)
pub(crate) fn admin(service: &Service) -> ApiClient {
    ApiClient::new(&format!("http://{}", service.process().launch().env["CAP_ADMIN_LISTEN"]), "none").unwrap()
}

/// A metric without labels but those that every series has.
pub(crate) async fn metric(service: &Service, name: &str) -> anyhow::Result<f64> {
    let text = admin(service).text("/metrics").await?;
    let of_it = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']));
    let line = text.lines().find(of_it).and_then(|line| line.rsplit(' ').next());
    Ok(line.ok_or_else(|| anyhow::anyhow!("no {name} in:\n{text}"))?.parse()?)
}

/// Waits until a metric has this value.
#[expect(clippy::float_cmp, reason = "counters and gauges of ours are whole numbers")]
pub(crate) async fn wait_metric(service: &Service, name: &str, wanted: f64) {
    wait::until(&format!("{name} of {} to be {wanted}", service.name()), PROMISED, || async {
        let value = metric(service, name).await.map_err(Pending::not_yet)?;
        if value == wanted { Ok(()) } else { Err(Pending::not_yet(value)) }
    })
    .await
    .unwrap();
}
