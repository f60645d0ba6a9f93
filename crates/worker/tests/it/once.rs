// SPDX-License-Identifier: Apache-2.0
//! However a renewal comes to be queued, and however often, it is one: one order, one certificate, as the CA counts them.
//!
//! There is no scheduler here. The test itself is the leader, and says in which order things happen.

use std::sync::Arc;

use cap_boot::Cluster;
use cap_core::audit::{Action, Draft, Origin};
use cap_core::clock::Clock;
use cap_core::duty::{self, Candidate};
use cap_core::job::JobDraft;
use cap_core::secret::SecretString;
use cap_runtime::clock::SystemClock;
use cap_runtime::config::{KekConfig, KekProvider, MongoConfig};
use cap_runtime::entropy::OsEntropy;
use cap_store::Planned;
use cap_testkit::mongo::driver::bson::{Document, doc};
use cap_testkit::mongo::driver::{Client, Database};
use cap_testkit::process::Signal;
use cap_testkit::stack::Stack;
use cap_testkit::wait::{self, Pending};
use serde_json::{Value, json};

use crate::bench::{self, Bench, PATIENCE, names};

/// Certificates, one for each way in which a renewal comes to be queued twice.
const WAYS: usize = 5;

/// What a leader has.
struct Leader {
    cluster: Cluster,
    clock: SystemClock,
    entropy: OsEntropy,
}

impl Leader {
    async fn of(stack: &Stack) -> Self {
        let database = raw(stack).await.name().to_owned();
        let uri = SecretString::from(stack.mongo_uri().to_owned());
        let mongo = MongoConfig { uri, database, allow_plaintext: false };
        let kek = KekConfig { provider: KekProvider::File { dir: stack.kek_dir().to_owned() } };
        let (clock, entropy) = (Arc::new(SystemClock), Arc::new(OsEntropy));
        let cluster = cap_boot::open_now(&mongo, kek, clock, entropy).await.unwrap();
        Self { cluster, clock: SystemClock, entropy: OsEntropy }
    }

    /// What is due, as a leader reads it.
    async fn page(&self) -> Vec<Candidate> {
        self.cluster.store.due_certificates(self.clock.now(), 500, 1).await.unwrap()
    }

    /// The job that a leader makes of what it read.
    fn job(&self, seen: &Candidate) -> JobDraft {
        let work = duty::renewal(seen, self.clock.now()).unwrap();
        JobDraft::now(seen.project, work, seen.fence, &self.clock, &self.entropy).before(seen.expires)
    }

    /// Sends it to the queue as the leader of an epoch.
    async fn enqueue(&self, seen: &Candidate, job: &JobDraft, epoch: i64) -> Planned {
        let draft = Draft::new(Action::CertificateRenewalPlanned, Some(job.project), "test");
        let audit = self.cluster.auditor.row(&Origin::service("scheduler"), &draft).await.unwrap();
        self.cluster.store.plan_renewal(job, seen.renew_at, epoch, &audit).await.unwrap()
    }
}

/// A person asks for the renewal, by a request that is sent twice, and once more without a key; answers the job.
async fn renew(bench: &Bench, certificate: &str) -> Value {
    let path = bench.path(&format!("certificates/{certificate}/renew"));
    let first = bench.api.call("POST", &path, None, Some(certificate)).await.unwrap();
    assert_eq!(first.status, 202, "{}", first.text);
    let again = bench.api.call("POST", &path, None, Some(certificate)).await.unwrap();
    let other = bench.api.post(&path, &json!({})).await.unwrap();
    let ids = [&first.json()["id"], &again.json()["id"], &other["id"]].map(Value::to_string);
    assert!(ids.iter().all(|id| *id == ids[0]), "one job, however often it is asked for: {ids:?}");
    first.json()
}

async fn raw(stack: &Stack) -> Database {
    Client::with_uri_str(stack.mongo_uri()).await.unwrap().default_database().unwrap()
}

async fn make_due(stack: &Stack) {
    let past = doc! { "$dateSubtract": { "startDate": "$$NOW", "unit": "second", "amount": 1 } };
    let certificates = raw(stack).await.collection::<Document>("certificates");
    certificates
        .update_many(doc! {}, vec![doc! { "$set": { "renew_at": &past, "plan_at": past } }])
        .await
        .unwrap();
}

async fn version(bench: &Bench, certificate: &str, number: i64) {
    wait::until(&format!("version {number} of {certificate}"), PATIENCE, || async {
        let record = bench.get(certificate).await;
        if record["version"]["number"] == number { Ok(()) } else { Err(Pending::not_yet(record)) }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_plan_from_an_old_page_an_enqueue_sent_twice_and_a_users_renewal_are_one_certificate() {
    let (stack, bench) = bench::own(bench::workers(2)).await;
    let leader = Leader::of(&stack).await;
    let names = names("once", WAYS);
    let certificates = bench.request_each(&names).await;
    bench.all_valid(PATIENCE).await;
    make_due(&stack).await;
    // Nobody works before all of it is queued.
    for worker in &stack.workers {
        assert!(worker.signal(Signal::STOP).unwrap());
    }
    let page = leader.page().await;
    assert_eq!(page.len(), WAYS, "{page:?}");
    let of = |way: usize| {
        let is_it = |seen: &&Candidate| seen.certificate.to_string() == certificates[way];
        page.iter().find(is_it).unwrap_or_else(|| panic!("{way}"))
    };

    // An enqueue whose answer was lost, sent again; and one by another leader who read the same page.
    let job = leader.job(of(0));
    assert_eq!(leader.enqueue(of(0), &job, 1).await, Planned::Queued);
    assert_eq!(leader.enqueue(of(0), &job, 1).await, Planned::Unneeded);
    assert_eq!(leader.enqueue(of(0), &leader.job(of(0)), 2).await, Planned::Unneeded);
    // A user's renewal between the page and the enqueue.
    renew(&bench, &certificates[1]).await;
    assert_eq!(leader.enqueue(of(1), &leader.job(of(1)), 1).await, Planned::Unneeded);
    // A user's renewal behind the enqueue: it is the leader's job.
    let job = leader.job(of(2));
    assert_eq!(leader.enqueue(of(2), &job, 1).await, Planned::Queued);
    assert_eq!(renew(&bench, &certificates[2]).await["id"], job.id.to_string());
    // All of it in one moment.
    let (one, two) = (leader.job(of(3)), leader.job(of(3)));
    let user = renew(&bench, &certificates[3]);
    let (planned, twice, _) =
        tokio::join!(leader.enqueue(of(3), &one, 1), leader.enqueue(of(3), &two, 2), user);
    assert!(planned == Planned::Unneeded || twice == Planned::Unneeded, "two were queued");
    // A page that was read before the renewal, and is planned from when that is over: the user's was it.
    renew(&bench, &certificates[4]).await;

    for worker in &stack.workers {
        assert!(worker.signal(Signal::CONT).unwrap());
    }
    for certificate in &certificates {
        version(&bench, certificate, 2).await;
    }
    assert!(leader.page().await.is_empty(), "what has a new version is not due");
    for way in 0..WAYS {
        let (seen, job) = (of(way), leader.job(of(way)));
        assert_eq!(
            leader.enqueue(seen, &job, 9).await,
            Planned::Unneeded,
            "{way}: the page is old: {seen:?}"
        );
    }
    let (counts, jobs) = (bench.ca.counts().await.unwrap(), bench.jobs().await);
    for (name, certificate) in names.iter().zip(&certificates) {
        let counted = counts.of(&[name]);
        let all = (counted.orders, counted.finalized, counted.certificates);
        assert_eq!(all, (2, 2, 2), "{name}: {counted:?}");
        let of_it = jobs.iter().filter(|job| job["certificate"] == certificate.as_str());
        let states: Vec<&Value> = of_it.map(|job| &job["state"]).collect();
        assert_eq!(states, ["succeeded", "succeeded"], "{name}: {jobs:#?}");
    }
}
