// SPDX-License-Identifier: Apache-2.0
//! A database with an issuer, and workers in this process that reach whatever CA a test makes up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cap_connectors::kek::EnvKek;
use cap_core::audit::{Action, Auditor, Draft, Origin};
use cap_core::certificate::{ChallengeType, KeyType, Names, Spec, Status};
use cap_core::clock::Clock;
use cap_core::drift::{Look, Lookout, Seen};
use cap_core::entropy::Entropy;
use cap_core::envelope::{Kek, Keyring, Sealed, Slot};
use cap_core::id::{CertificateId, IssuerId, ProjectId};
use cap_core::issuer::{IssuerSpec, IssuerStatus};
use cap_core::job::{JobDraft, Work};
use cap_core::order::CertificateAuthority;
use cap_core::retention::Retention;
use cap_core::secret::{SecretString, secret_key};
use cap_runtime::clock::SystemClock;
use cap_runtime::entropy::OsEntropy;
use cap_store::{CertificateRecord, DriftRecord, IssuerRecord, Mutation, RenewalInfoRecord, Store};
use cap_testkit::mongo::ReplicaSet;
use cap_worker::{Metrics, Runner, World};

const LEASE: Duration = Duration::from_secs(60);
/// Longer than any test.
const UNTOUCHED: Duration = Duration::from_secs(86_400);
/// The key of the issuer's account; nobody signs with it here.
pub(crate) const KEY: &[u8] = b"key";
/// Where the account is.
pub(crate) const ACCOUNT_URL: &str = "https://ca.example.test/account/1";

#[derive(Debug)]
struct Nowhere;

#[async_trait]
impl Lookout for Nowhere {
    async fn look(&self, _: &Look) -> Vec<Seen> {
        panic!("nothing is scanned here")
    }
}

/// A database with an issuer, and what is asked of it.
pub(crate) struct House {
    pub(crate) uri: String,
    pub(crate) store: Store,
    kek: Arc<dyn Kek>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) project: ProjectId,
    pub(crate) issuer: IssuerId,
}

impl House {
    /// With an issuer whose account nobody works on for the time of a test.
    pub(crate) async fn new() -> Self {
        let house = Self::empty().await;
        house.add_issuer(house.issuer_record().await, UNTOUCHED).await;
        house
    }

    /// Without one.
    pub(crate) async fn empty() -> Self {
        let uri = ReplicaSet::fresh_database().await.unwrap().uri;
        let store = Store::connect(&SecretString::from(uri.clone()), None, "test").await.unwrap();
        let (clock, entropy): (Arc<dyn Clock>, Arc<dyn Entropy>) =
            (Arc::new(SystemClock), Arc::new(OsEntropy));
        let keys = BTreeMap::from([(1, secret_key([7; 32]))]);
        let kek: Arc<dyn Kek> = Arc::new(EnvKek::new(keys, Arc::new(OsEntropy)).unwrap());
        store.migrate(kek.as_ref(), clock.as_ref(), entropy.as_ref()).await.unwrap();
        let project = ProjectId::generate(clock.as_ref(), entropy.as_ref());
        let issuer = IssuerId::generate(clock.as_ref(), entropy.as_ref());
        Self { uri, store, kek, clock, entropy, project, issuer }
    }

    async fn keyring(&self) -> Arc<Keyring> {
        let canary = self.store.canary().await.unwrap().unwrap();
        let keys = Arc::new(self.store.clone());
        Arc::new(Keyring::new(&canary, self.kek.clone(), keys, self.clock.clone(), self.entropy.clone()))
    }

    pub(crate) async fn row(&self) -> cap_core::audit::Row {
        let keyring = self.keyring().await;
        let auditor = Auditor::new("test".into(), keyring, self.clock.clone(), self.entropy.clone());
        let draft = Draft::new(Action::CertificateUpdated, Some(self.project), "test");
        auditor.row(&Origin::service("test"), &draft).await.unwrap()
    }

    /// A key of the account's, sealed.
    pub(crate) async fn account_key(&self, key: &[u8]) -> Sealed {
        let slot = Slot::account_key(self.project, self.issuer);
        self.keyring().await.seal(&slot, key).await.unwrap()
    }

    /// An issuer that is ready.
    pub(crate) async fn issuer_record(&self) -> IssuerRecord {
        IssuerRecord {
            id: self.issuer,
            project: self.project,
            name: "closed".parse().unwrap(),
            spec: IssuerSpec::new("https://ca.example.test/dir".parse().unwrap(), None, vec![]).unwrap(),
            account_key: self.account_key(KEY).await,
            external: None,
            rollover: None,
            rolled_at: None,
            hold: None,
            account_url: Some(ACCOUNT_URL.into()),
            status: IssuerStatus::Ready,
            problem: None,
            next_attempt_at: None,
            fence: 0,
            created_at: self.clock.now(),
        }
    }

    /// The issuer, whose account is worked on `after` so long.
    pub(crate) async fn add_issuer(&self, issuer: IssuerRecord, after: Duration) {
        let work = Work::RegisterIssuer { issuer: self.issuer };
        let mut job = JobDraft::now(self.project, work, 0, self.clock.as_ref(), self.entropy.as_ref());
        job.after = after;
        let audit = self.row().await;
        self.store.create_issuer(&issuer, &job, Mutation { audit: &audit, request: None }).await.unwrap();
    }

    pub(crate) async fn add_certificate(&self, name: &str) -> CertificateId {
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
    pub(crate) async fn worker(&self, name: &str, ca: Arc<dyn CertificateAuthority>) -> Runner {
        let store = Store::connect(&SecretString::from(self.uri.clone()), None, name).await.unwrap();
        let keyring = self.keyring().await;
        let (clock, entropy) = (self.clock.clone(), self.entropy.clone());
        let world = World {
            store: store.keeping(Retention::default()).working_in_groups(),
            ca,
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
}
