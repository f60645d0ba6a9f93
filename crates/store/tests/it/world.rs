// SPDX-License-Identifier: Apache-2.0
//! A database of its own for each test, migrated, with a KEK, and what a test puts into it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cap_connectors::kek::EnvKek;
use cap_core::audit::{Action, Auditor, Draft, Origin, Row};
use cap_core::certificate::{KeyType, Names, Spec, Status};
use cap_core::clock::Clock;
use cap_core::entropy::Entropy;
use cap_core::envelope::{Kek, Keyring, Slot};
use cap_core::id::{CertificateId, ClaimId, IssuerId, JobId, OrderId, ProjectId};
use cap_core::issuer::{IssuerSpec, IssuerStatus};
use cap_core::job::{Claim, JobDraft, ProjectLane, Room, Work};
use cap_core::order::{Fuse, Order, OrderKey, OrderState};
use cap_core::secret::{SecretString, secret_key};
use cap_runtime::clock::SystemClock;
use cap_runtime::entropy::OsEntropy;
use cap_store::{
    CertificateRecord, DriftRecord, IssuerRecord, MigrateError, Mutation, RenewalInfoRecord, Search, Store,
    StoreError,
};
use cap_testkit::mongo::ReplicaSet;
use jiff::Timestamp;

pub(crate) const FUSE: Fuse = Fuse { orders: 10, window: Duration::from_secs(3_600) };
pub(crate) const LEASE: Duration = Duration::from_secs(60);
/// How often a migration is begun.
const MIGRATIONS_TRIED: usize = 4;

pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) uri: String,
    pub(crate) kek: Arc<dyn Kek>,
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) auditor: Auditor,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) project: ProjectId,
    judges_scans: bool,
}

pub(crate) fn kek(byte: u8) -> Arc<dyn Kek> {
    let keys = BTreeMap::from([(1, secret_key([byte; 32]))]);
    Arc::new(EnvKek::new(keys, Arc::new(OsEntropy)).unwrap())
}

/// Under a name of its own: a migration looks through what it changes. On a machine that does much else one may wait for longer than
/// an answer may take; like a person, the test begins it again then.
async fn migrate(uri: &str, kek: &dyn Kek, clock: &dyn Clock, entropy: &dyn Entropy) -> Vec<u32> {
    let store = Store::connect(&SecretString::from(uri.to_owned()), None, "migration").await.unwrap();
    for _ in 1..MIGRATIONS_TRIED {
        match store.migrate(kek, clock, entropy).await {
            Err(MigrateError::Store(StoreError::Unavailable { .. })) => {}
            migrated => return migrated.unwrap(),
        }
    }
    store.migrate(kek, clock, entropy).await.unwrap()
}

/// A look by lanes for whatever is due, in no partition yet.
pub(crate) fn search(held: &BTreeMap<ProjectLane, usize>, now: Timestamp) -> Search<'_> {
    Search { by_lanes: true, ..Search::anything(Room { all: 50, side: 50 }, &[], held, now) }
}

/// A claim, as its lease is extended by.
pub(crate) fn held(claim: &Claim) -> (JobId, ClaimId, i32) {
    (claim.job, claim.token, claim.attempt)
}

impl World {
    pub(crate) async fn new() -> Self {
        let mut world = Self::at(ReplicaSet::fresh_database().await.unwrap().uri).await;
        world.judges_scans = true;
        world
    }

    pub(crate) async fn at(uri: String) -> Self {
        let (clock, entropy): (Arc<dyn Clock>, Arc<dyn Entropy>) =
            (Arc::new(SystemClock), Arc::new(OsEntropy));
        let kek = kek(7);
        migrate(&uri, kek.as_ref(), clock.as_ref(), entropy.as_ref()).await;
        let store = Store::connect(&SecretString::from(uri.clone()), None, "test").await.unwrap();
        let canary = store.canary().await.unwrap().unwrap();
        let keys = Arc::new(store.clone());
        let keyring = Arc::new(Keyring::new(&canary, kek.clone(), keys, clock.clone(), entropy.clone()));
        let auditor = Auditor::new("test".into(), keyring.clone(), clock.clone(), entropy.clone());
        let project = ProjectId::generate(clock.as_ref(), entropy.as_ref());
        Self { store, uri, kek, keyring, auditor, clock, entropy, project, judges_scans: false }
    }

    /// Migrates the database again; answers what was applied.
    pub(crate) async fn migrate(&self) -> Vec<u32> {
        migrate(&self.uri, self.kek.as_ref(), self.clock.as_ref(), self.entropy.as_ref()).await
    }

    /// For a test that looks through collections on purpose.
    pub(crate) fn may_scan(&mut self) {
        self.judges_scans = false;
    }

    pub(crate) async fn row(&self) -> Row {
        let draft = Draft::new(Action::CertificateUpdated, Some(self.project), "test");
        self.auditor.row(&Origin::service("test"), &draft).await.unwrap()
    }

    /// An issuer, and the certificate of `name` with its job queued.
    pub(crate) async fn certificate(&self, name: &str) -> CertificateRecord {
        self.certificate_before(name, None).await.0
    }

    /// The same, in the place of what expires at `expires`.
    pub(crate) async fn certificate_before(
        &self,
        name: &str,
        expires: Option<Timestamp>,
    ) -> (CertificateRecord, JobDraft) {
        let issuer = self.issuer(&name.replace('.', "-")).await;
        let (clock, entropy) = (self.clock.as_ref(), self.entropy.as_ref());
        let now = clock.now();
        let spec = Spec {
            names: Names::parse(vec![name.to_owned()]).unwrap(),
            key_type: KeyType::EcdsaP256,
            key_reuse: false,
            challenge: cap_core::certificate::ChallengeType::Http01,
            profile: None,
            preferred_chain: None,
            auto_renew: true,
        };
        let certificate = CertificateRecord {
            id: CertificateId::generate(clock, entropy),
            project: self.project,
            issuer,
            spec,
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
        let job = JobDraft::now(self.project, work, 0, clock, entropy).before(expires);
        let audit = self.row().await;
        self.store
            .create_certificate(&certificate, &job, Mutation { audit: &audit, request: None })
            .await
            .unwrap();
        (certificate, job)
    }

    /// An issuer; its registration waits for an hour.
    pub(crate) async fn issuer(&self, name: &str) -> IssuerId {
        let (clock, entropy) = (self.clock.as_ref(), self.entropy.as_ref());
        let id = IssuerId::generate(clock, entropy);
        let slot = Slot::account_key(self.project, id);
        let spec = IssuerSpec::new("https://ca.example.test/dir".parse().unwrap(), None, vec![]).unwrap();
        let issuer = IssuerRecord {
            id,
            project: self.project,
            name: name.parse().unwrap(),
            spec,
            account_key: self.keyring.seal(&slot, b"key").await.unwrap(),
            external: None,
            rollover: None,
            rolled_at: None,
            hold: None,
            account_url: None,
            status: IssuerStatus::Registering,
            problem: None,
            next_attempt_at: None,
            fence: 0,
            created_at: clock.now(),
        };
        let work = Work::RegisterIssuer { issuer: id };
        let mut job = JobDraft::now(self.project, work, 0, clock, entropy);
        // Registering is not what these tests are about: its job stays in the future.
        job.after = Duration::from_secs(3_600);
        let audit = self.row().await;
        self.store.create_issuer(&issuer, &job, Mutation { audit: &audit, request: None }).await.unwrap();
        id
    }

    /// Claims what is due, for `lease`.
    pub(crate) async fn claim(&self, owner: &str, lease: Duration) -> Vec<Claim> {
        let all: Vec<u16> = (0..cap_core::limits::JOB_PARTITIONS).collect();
        self.claim_in(&all, owner, lease).await
    }

    /// The same, in these partitions.
    pub(crate) async fn claim_in(&self, partitions: &[u16], owner: &str, lease: Duration) -> Vec<Claim> {
        let token = ClaimId::generate(self.clock.as_ref(), self.entropy.as_ref());
        let (held, now) = (BTreeMap::new(), self.clock.now());
        let search = Search { partitions, ..search(&held, now) };
        self.store.claim_jobs(owner, token, lease, &search).await.unwrap().claims
    }

    /// Asks for a certificate's renewal, and claims it.
    pub(crate) async fn renewing(&self, certificate: &CertificateRecord) -> Claim {
        let made_for = certificate.version.as_ref().map(|version| version.id);
        let work = Work::Issue { certificate: certificate.id, made_for };
        let (clock, entropy) = (self.clock.as_ref(), self.entropy.as_ref());
        let job = JobDraft::now(self.project, work, certificate.fence, clock, entropy);
        let audit = self.row().await;
        self.store.request_renewal(None, &job, Mutation { audit: &audit, request: None }).await.unwrap();
        self.claim("one", LEASE).await.remove(0)
    }

    /// An order for a certificate, as `claim` would begin it.
    pub(crate) async fn order(&self, certificate: &CertificateRecord, claim: &Claim) -> Order {
        let id = OrderId::generate(self.clock.as_ref(), self.entropy.as_ref());
        let slot = Slot::order_key(self.project, id);
        let sealed = self.keyring.seal(&slot, b"leaf key").await.unwrap();
        Order {
            id,
            project: self.project,
            certificate: certificate.id,
            made_for: certificate.version.as_ref().map(|version| version.id),
            issuer: certificate.issuer,
            names: certificate.spec.names.clone(),
            profile: None,
            key: OrderKey { sealed, csr: vec![1, 2, 3], spki_sha256: vec![9; 32], kept: false },
            fence: claim.fence,
            revision: 0,
            state: OrderState::Keyed { replaces: None },
        }
    }
}

/// No test ends well in which the store looked through a whole collection, or sorted in memory: whatever of it a test
/// calls is looked at, and nobody keeps a list.
impl Drop for World {
    fn drop(&mut self) {
        if !self.judges_scans || std::thread::panicking() {
            return;
        }
        let uri = self.uri.clone();
        // On a runtime of its own: that of the test cannot be waited for in here.
        let look = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let found = cap_testkit::mongo::scans(&uri).await.unwrap();
                cap_testkit::mongo::drop_database(&uri).await.unwrap();
                found
            })
        });
        let found = look.join().unwrap();
        assert!(found.is_empty(), "the store asked for what no index has: {found:#?}");
    }
}
