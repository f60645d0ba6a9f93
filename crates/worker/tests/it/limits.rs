// SPDX-License-Identifier: Apache-2.0
//! A CA's rate limit: one order meets it, and no worker places another before it is over.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use cap_connectors::kek::EnvKek;
use cap_core::audit::{Action, Auditor, Draft, Origin};
use cap_core::certificate::{ChallengeType, KeyType, Names, Profile, RevocationReason, Spec, Status};
use cap_core::clock::{Clock, later};
use cap_core::drift::{Look, Lookout, Seen};
use cap_core::entropy::Entropy;
use cap_core::envelope::{Kek, KeyOwner, Keyring};
use cap_core::id::{CertificateId, IssuerId, ProjectId};
use cap_core::issuer::{IssuerSpec, IssuerStatus};
use cap_core::job::{JobDraft, Work};
use cap_core::name::Identifier;
use cap_core::order::{CaAccount, CaError, CaRequest, CertificateAuthority, Found, Placed};
use cap_core::problem::{Class, Problem};
use cap_core::renewal_info::{AriId, RenewalInfo};
use cap_core::retention::Retention;
use cap_core::secret::{SecretSlice, SecretString, secret_key};
use cap_runtime::clock::SystemClock;
use cap_runtime::entropy::OsEntropy;
use cap_store::{CertificateRecord, DriftRecord, IssuerRecord, Mutation, RenewalInfoRecord, Store};
use cap_testkit::mongo::ReplicaSet;
use cap_testkit::wait::{self, Pending};
use cap_worker::{Metrics, Runner, World};
use tokio_util::sync::CancellationToken;

use crate::bench::PATIENCE;

/// How long the CA wants to be left alone.
const LIMIT: Duration = Duration::from_secs(3_600);
const LEASE: Duration = Duration::from_secs(60);
const KIND: &str = "urn:ietf:params:acme:error:rateLimited";

/// A CA that places nothing, and counts who asks.
#[derive(Debug, Default)]
struct Closed(AtomicUsize);

/// How a worker reaches it.
struct Authority(Arc<Closed>);

struct Account(Arc<Closed>);

#[async_trait]
impl CertificateAuthority for Authority {
    async fn register(&self, _: &CaRequest) -> Result<String, CaError> {
        panic!("its issuers are registered")
    }

    async fn find(&self, _: &CaRequest) -> Result<Option<String>, CaError> {
        panic!("it refuses no account")
    }

    async fn change_key(&self, _: &CaRequest, _: &str, _: &Arc<SecretSlice<u8>>) -> Result<(), CaError> {
        panic!("no key is rolled here")
    }

    async fn deactivate(&self, _: &CaRequest, _: &str) -> Result<(), CaError> {
        panic!("no account is closed here")
    }

    async fn account(&self, _: &CaRequest, _: &str) -> Result<Arc<dyn CaAccount>, CaError> {
        Ok(Arc::new(Account(self.0.clone())))
    }
}

#[async_trait]
impl CaAccount for Account {
    async fn place(
        &self,
        _: &[Identifier],
        _: Option<&Profile>,
        _: Option<&AriId>,
    ) -> Result<(Placed, Option<Found>), CaError> {
        self.0.0.fetch_add(1, Ordering::Relaxed);
        let problem = Problem::new(Class::RateLimited, KIND, "too many new orders from this account");
        Err(CaError::Later { problem, at: later(SystemClock.now(), LIMIT) })
    }

    async fn resume(&self, _: &str) -> Result<Found, CaError> {
        panic!("it has no orders")
    }

    fn offers_renewal_info(&self) -> bool {
        false
    }

    async fn renewal_info(&self, _: &AriId) -> Result<RenewalInfo, CaError> {
        panic!("it offers none")
    }

    async fn revoke(&self, _: &[u8], _: RevocationReason) -> Result<(), CaError> {
        panic!("nothing is revoked here")
    }
}

#[derive(Debug)]
struct Nowhere;

#[async_trait]
impl Lookout for Nowhere {
    async fn look(&self, _: &Look) -> Vec<Seen> {
        panic!("nothing is scanned here")
    }
}

/// A database with an issuer, and what is asked of it.
struct House {
    uri: String,
    store: Store,
    kek: Arc<dyn Kek>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    project: ProjectId,
    issuer: IssuerId,
}

impl House {
    async fn new() -> Self {
        let uri = ReplicaSet::fresh_database().await.unwrap().uri;
        let store = Store::connect(&SecretString::from(uri.clone()), None, "test").await.unwrap();
        let (clock, entropy): (Arc<dyn Clock>, Arc<dyn Entropy>) =
            (Arc::new(SystemClock), Arc::new(OsEntropy));
        let keys = BTreeMap::from([(1, secret_key([7; 32]))]);
        let kek: Arc<dyn Kek> = Arc::new(EnvKek::new(keys, Arc::new(OsEntropy)).unwrap());
        store.migrate(kek.as_ref(), clock.as_ref(), entropy.as_ref()).await.unwrap();
        let project = ProjectId::generate(clock.as_ref(), entropy.as_ref());
        let issuer = IssuerId::generate(clock.as_ref(), entropy.as_ref());
        let house = Self { uri, store, kek, clock, entropy, project, issuer };
        house.add_issuer().await;
        house
    }

    async fn keyring(&self) -> Arc<Keyring> {
        let canary = self.store.canary().await.unwrap().unwrap();
        let keys = Arc::new(self.store.clone());
        Arc::new(Keyring::new(&canary, self.kek.clone(), keys, self.clock.clone(), self.entropy.clone()))
    }

    async fn row(&self) -> cap_core::audit::Row {
        let keyring = self.keyring().await;
        let auditor = Auditor::new("test".into(), keyring, self.clock.clone(), self.entropy.clone());
        let draft = Draft::new(Action::CertificateUpdated, Some(self.project), "test");
        auditor.row(&Origin::service("test"), &draft).await.unwrap()
    }

    async fn add_issuer(&self) {
        let place = ("issuers", &*self.issuer.to_string(), "account_key");
        let key = self.keyring().await.seal(KeyOwner::Project(self.project), place, 1, b"key").await.unwrap();
        let issuer = IssuerRecord {
            id: self.issuer,
            project: self.project,
            name: "closed".parse().unwrap(),
            spec: IssuerSpec::new("https://ca.example.test/dir".parse().unwrap(), None, vec![]).unwrap(),
            account_key: key,
            external: None,
            rollover: None,
            rolled_at: None,
            hold: None,
            account_url: Some("https://ca.example.test/account/1".into()),
            status: IssuerStatus::Ready,
            problem: None,
            next_attempt_at: None,
            fence: 0,
            created_at: self.clock.now(),
        };
        let work = Work::RegisterIssuer { issuer: self.issuer };
        let mut job = JobDraft::now(self.project, work, 0, self.clock.as_ref(), self.entropy.as_ref());
        job.after = LIMIT * 24;
        let audit = self.row().await;
        self.store.create_issuer(&issuer, &job, Mutation { audit: &audit, request: None }).await.unwrap();
    }

    async fn add_certificate(&self, name: &str) -> CertificateId {
        let (clock, entropy) = (self.clock.as_ref(), self.entropy.as_ref());
        let now = clock.now();
        let certificate = CertificateRecord {
            id: CertificateId::generate(clock, entropy),
            project: self.project,
            issuer: self.issuer,
            spec: Spec {
                names: Names::parse(vec![name.to_owned()]).unwrap(),
                key_type: KeyType::EcdsaP256,
                challenge: ChallengeType::Http01,
                profile: None,
                auto_renew: true,
                key_reuse: false,
                preferred_chain: None,
            },
            status: Status::Requested,
            problem: None,
            next_attempt_at: None,
            version: None,
            renew_at: None,
            versions: 0,
            order: None,
            watched: vec![],
            new_key: false,
            fence: 0,
            drift: DriftRecord::default(),
            renewal_info: RenewalInfoRecord::default(),
            created_at: now,
            updated_at: now,
        };
        let work = Work::Issue { certificate: certificate.id, made_for: None };
        let job = JobDraft::now(self.project, work, 0, clock, entropy);
        let audit = self.row().await;
        let mutation = Mutation { audit: &audit, request: None };
        self.store.create_certificate(&certificate, &job, mutation).await.unwrap();
        certificate.id
    }

    /// A worker on its own connection.
    async fn worker(&self, name: &str, ca: &Arc<Closed>) -> Runner {
        let store = Store::connect(&SecretString::from(self.uri.clone()), None, name).await.unwrap();
        let keyring = self.keyring().await;
        let (clock, entropy) = (self.clock.clone(), self.entropy.clone());
        let world = World {
            store: store.keeping(Retention::default()).working_in_groups(),
            ca: Arc::new(Authority(ca.clone())),
            lookout: Arc::new(Nowhere),
            auditor: Auditor::new(name.to_owned(), keyring.clone(), clock.clone(), entropy.clone()),
            keyring,
            clock,
            entropy,
            fuse: 100,
        };
        let metrics = Metrics::new(&prometheus::Registry::new()).unwrap();
        Runner::new(Arc::new(world), name.to_owned(), 8, LEASE, metrics)
    }

    /// Waits until the certificate says that it waits for the limit.
    async fn told(&self, certificate: CertificateId) -> CertificateRecord {
        wait::until("the limit to be told", PATIENCE, async || {
            let record = self.store.certificate(self.project, certificate).await.map_err(Pending::not_yet)?;
            match record {
                Some(record) if record.problem.as_ref().is_some_and(|problem| problem.kind == KIND) => {
                    Ok(record)
                }
                record => Err(Pending::not_yet(format_args!("{:?}", record.map(|record| record.problem)))),
            }
        })
        .await
        .unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_one_order_met_is_asked_for_by_no_other_worker() {
    let (house, ca) = (House::new().await, Arc::new(Closed::default()));
    let (one, two) = (house.worker("one", &ca).await, house.worker("two", &ca).await);
    let (stop, grace) = (CancellationToken::new(), Duration::from_secs(30));
    let talk = async {
        let first = house.add_certificate("first.example.test").await;
        house.told(first).await;
        assert_eq!(ca.0.load(Ordering::Relaxed), 1);
        let mut others = Vec::new();
        for n in 0..20 {
            others.push(house.add_certificate(&format!("n{n}.example.test")).await);
        }
        let soon = later(house.clock.now(), LIMIT - PATIENCE);
        for other in others {
            let record = house.told(other).await;
            assert_eq!(record.status, Status::Failing);
            assert!(record.next_attempt_at.is_some_and(|at| at > soon), "{:?}", record.next_attempt_at);
            assert!(record.order.is_none(), "nothing was begun for it");
        }
        // Nor by somebody's wish.
        let work = Work::Issue { certificate: first, made_for: None };
        let job =
            JobDraft::now(house.project, work, 0, house.clock.as_ref(), house.entropy.as_ref()).awaited();
        let audit = house.row().await;
        let job = house.store.request_renewal(&job, Mutation { audit: &audit, request: None }).await.unwrap();
        wait::until("the wish to have been refused", PATIENCE, async || {
            let job = house.store.job(house.project, job.id).await.map_err(Pending::not_yet)?.unwrap();
            let said = job.problem.as_ref().is_some_and(|problem| problem.detail.contains("somebody asks"));
            if said { Ok(()) } else { Err(Pending::not_yet(format_args!("{:?}", job.problem))) }
        })
        .await
        .unwrap();
        assert_eq!(ca.0.load(Ordering::Relaxed), 1, "the CA was asked again before its time");
        stop.cancel();
    };
    tokio::join!(one.run(stop.clone(), grace), two.run(stop.clone(), grace), talk);
}
