// SPDX-License-Identifier: Apache-2.0
//! A world for one run: a CA, a ledger that remembers, a clock that sleeps at once.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use secrecy::ExposeSecret;

use super::super::{Engine, Outcome};
pub(super) use super::ca::{Answer, Answers};
use super::ca::{Ca, certificate};
use crate::audit::{Auditor, Row};
use crate::certificate::{ChainName, KeyMaterial, KeyType, Names};
use crate::challenge::ChallengeAnswer;
use crate::clock::{Clock, later};
use crate::entropy::tests::Seeded;
use crate::envelope::{
    Canary, Kek, KekError, KekVersion, KeyStore, KeyStoreError, Keyring, Sealed, Slot, WrappedKey,
};
use crate::id::{CertificateId, ClaimId, ClusterId, IssuerId, JobId, OrderId, ProjectId};
use crate::job::{Claim, Mandate, Work};
use crate::order::{
    CaError, FailedAttempt, IssuedVersion, Ledger, LedgerError, Order, OrderKey, OrderState, Placed, Seen,
    Standing,
};
use crate::problem::{Class, Problem};
use crate::renewal_info::AriId;
use crate::secret::{SecretKey, secret_key};

/// When every test begins.
pub(super) const NOW_S: i64 = 1_790_000_000;

/// Both clocks move by what is slept, and sleeping takes no time.
#[derive(Debug, Default)]
pub(super) struct Hands {
    slept: Mutex<Duration>,
    /// How far ahead of another clock that is asked the civil time is.
    pub(super) ahead: Mutex<Duration>,
}

impl Hands {
    /// It is so long after the beginning.
    pub(super) fn set(&self, time: Duration) {
        *self.slept.lock().unwrap() = time;
    }
}

#[async_trait]
impl Clock for Hands {
    fn now(&self) -> Timestamp {
        later(self.surely(), *self.ahead.lock().unwrap())
    }

    fn surely(&self) -> Timestamp {
        later(Timestamp::from_second(NOW_S).unwrap(), self.boottime())
    }

    fn boottime(&self) -> Duration {
        *self.slept.lock().unwrap()
    }

    async fn sleep(&self, time: Duration) {
        *self.slept.lock().unwrap() += time;
    }
}

/// Remembers the states that orders went through and the attempts that failed.
#[derive(Default)]
pub(super) struct Book {
    pub(super) states: Mutex<Vec<OrderState>>,
    pub(super) answers: Mutex<Vec<ChallengeAnswer>>,
    pub(super) failed: Mutex<Vec<Problem>>,
    /// Whether each of those wants a new key.
    pub(super) new_keys: Mutex<Vec<bool>>,
    /// What was written about each for the audit.
    pub(super) leaves: Mutex<Vec<String>>,
    /// The last attempt that failed.
    pub(super) last: Mutex<Option<FailedAttempt>>,
    pub(super) buried: Mutex<Vec<Problem>>,
    /// What was written for the audit alone.
    pub(super) noted: Mutex<Vec<String>>,
    /// Whether the key of the version before was revoked.
    pub(super) key_is_bad: bool,
    /// Whether a peer has the order, so that nothing more is written of it.
    pub(super) is_taken: bool,
    /// What was issued.
    pub(super) stored: Mutex<Vec<IssuedVersion>>,
}

#[async_trait]
impl Ledger for Book {
    async fn advance(
        &self,
        order: &Order,
        next: OrderState,
        answers: &[ChallengeAnswer],
    ) -> Result<Order, LedgerError> {
        if self.is_taken {
            return Err(LedgerError::Fenced);
        }
        self.states.lock().unwrap().push(next.clone());
        self.answers.lock().unwrap().extend_from_slice(answers);
        Ok(Order { revision: order.revision + 1, state: next, ..order.clone() })
    }

    async fn may_keep_key(&self, _: &Order) -> Result<bool, LedgerError> {
        Ok(!self.key_is_bad)
    }

    async fn note(&self, _: &Order, audit: &Row) -> Result<(), LedgerError> {
        self.noted.lock().unwrap().push(String::from_utf8(audit.leaf.clone()).unwrap());
        Ok(())
    }

    async fn store(&self, _: &Claim, _: &Order, version: &IssuedVersion, _: &Row) -> Result<(), LedgerError> {
        self.stored.lock().unwrap().push(version.clone());
        Ok(())
    }

    async fn fail(
        &self,
        _: &Claim,
        order: &Order,
        failed: &FailedAttempt,
        audit: &Row,
    ) -> Result<(), LedgerError> {
        self.new_keys.lock().unwrap().push(failed.needs_new_key);
        self.leaves.lock().unwrap().push(String::from_utf8(audit.leaf.clone()).unwrap());
        if let Some(last) = self.states.lock().unwrap().last() {
            assert_eq!(order.state, *last, "what is ended is the order as it was written last");
        }
        self.failed.lock().unwrap().push(failed.problem.clone());
        *self.last.lock().unwrap() = Some(failed.clone());
        Ok(())
    }

    async fn bury(&self, _: &Claim, order: &Order, problem: &Problem, _: &Row) -> Result<(), LedgerError> {
        assert!(order.state.placed().is_none(), "an order that the CA has is left to whoever goes on");
        self.buried.lock().unwrap().push(problem.clone());
        Ok(())
    }
}

/// Wraps nothing: what it seals here is nobody's secret.
#[derive(Debug)]
struct OpenKek;

#[async_trait]
impl Kek for OpenKek {
    fn provider(&self) -> &'static str {
        "open"
    }

    async fn versions(&self) -> Result<Vec<KekVersion>, KekError> {
        Ok(vec![1])
    }

    async fn wrap(&self, _: KekVersion, key: &SecretKey, _: &[u8]) -> Result<Vec<u8>, KekError> {
        Ok(key.expose_secret().to_vec())
    }

    async fn unwrap(&self, version: KekVersion, wrapped: &[u8], _: &[u8]) -> Result<SecretKey, KekError> {
        wrapped.try_into().map(secret_key).map_err(|_| KekError::Wrong(version))
    }
}

#[derive(Default)]
struct Keys(Mutex<HashMap<String, WrappedKey>>);

#[async_trait]
impl KeyStore for Keys {
    async fn find(&self, key: &str, _: Option<u32>) -> Result<Option<WrappedKey>, KeyStoreError> {
        Ok(self.0.lock().unwrap().get(key).cloned())
    }

    async fn insert(&self, wrapped: WrappedKey) -> Result<WrappedKey, KeyStoreError> {
        Ok(self.0.lock().unwrap().entry(wrapped.key.clone()).or_insert(wrapped).clone())
    }
}

/// How the account stands, as it is told.
pub(super) struct Told {
    pub(super) moving: bool,
    pub(super) rekeyed: bool,
    pub(super) accepted: Result<bool, CaError>,
}

#[async_trait]
impl Standing for Told {
    async fn is_moving(&self) -> bool {
        self.moving
    }

    fn is_rekeyed(&self, _made_at: Timestamp) -> bool {
        self.rekeyed
    }

    async fn is_accepted(&self) -> Result<bool, CaError> {
        self.accepted.clone()
    }
}

/// One claim on one order.
pub(super) struct World {
    pub(super) clock: Arc<Hands>,
    pub(super) mandate: Mandate,
    pub(super) claim: Claim,
    pub(super) book: Book,
    pub(super) order: Order,
    pub(super) preferred_chain: Option<ChainName>,
    pub(super) standing: Told,
    /// Orders that were set aside.
    pub(super) watched: Vec<String>,
    /// When the certificate's current version expires.
    pub(super) expires: Option<Timestamp>,
    /// Its fingerprint.
    pub(super) in_use: Option<String>,
    ca: Ca,
    luck: Arc<Seeded>,
    keyring: Arc<Keyring>,
    auditor: Auditor,
}

impl World {
    /// An order in `state`; the CA answers nothing until it is told what.
    pub(super) fn new(state: OrderState) -> Self {
        let (clock, luck) = (Arc::new(Hands::default()), Arc::new(Seeded::new(1)));
        let (now, dice): (&dyn Clock, _) = (clock.as_ref(), luck.as_ref());
        let (project, certificate) = (ProjectId::generate(now, dice), CertificateId::generate(now, dice));
        let canary = Canary { cluster: ClusterId::generate(now, dice), kek_version: 1, wrapped: vec![] };
        let keys = Arc::new(Keys::default());
        let keyring = Arc::new(Keyring::new(&canary, Arc::new(OpenKek), keys, clock.clone(), luck.clone()));
        let sealed =
            Sealed { v: 1, pk_id: String::new(), pk_ver: 1, info: vec![], commit: vec![], ct: vec![] };
        Self {
            mandate: Mandate::new(clock.clone(), Duration::MAX),
            claim: Claim {
                job: JobId::generate(now, dice),
                project,
                work: Work::Issue { certificate, made_for: None },
                token: ClaimId::generate(now, dice),
                attempt: 1,
                fence: 1,
                failures: 0,
                setbacks: None,
                lane: crate::job::Lane::Main,
                lost: 0,
                is_last: false,
            },
            book: Book::default(),
            order: Order {
                id: OrderId::generate(now, dice),
                project,
                certificate,
                made_for: None,
                issuer: IssuerId::generate(now, dice),
                names: Names::parse(vec!["a.example.test".into()]).unwrap(),
                profile: None,
                key: OrderKey { sealed, csr: vec![], spki_sha256: vec![0; 32], kept: false },
                fence: 1,
                revision: 0,
                state,
            },
            expires: None,
            preferred_chain: None,
            in_use: None,
            watched: vec![],
            standing: Told { moving: false, rekeyed: false, accepted: Ok(true) },
            ca: Ca::silent(),
            auditor: Auditor::new("test".into(), keyring.clone(), clock.clone(), luck.clone()),
            clock,
            luck,
            keyring,
        }
    }

    /// With this key for the order, sealed as it is stored.
    pub(super) fn keyed(mut self, material: &KeyMaterial) -> Self {
        let slot = Slot::order_key(self.order.project, self.order.id);
        let sealed = {
            let sealing = self.keyring.seal(&slot, material.pkcs8.expose_secret());
            at_once(pin!(sealing)).unwrap()
        };
        let (csr, spki_sha256) = (material.csr.clone(), material.spki_sha256.to_vec());
        self.order.key = OrderKey { sealed, csr, spki_sha256, kept: false };
        self
    }

    /// An order in `state` whose key is there, at a CA that issues for it at once.
    pub(super) fn issuing(state: OrderState) -> Self {
        let world = Self::new(state);
        let names = world.order.names.identifiers().to_vec();
        let material = KeyMaterial::generate(KeyType::EcdsaP256, &names).unwrap();
        world.keyed(&material).tell(|ca| {
            ca.looks = [Some(Ok(Seen::Ready.into()))].into();
            ca.finalize = Some(Ok(Seen::Valid.into()));
            ca.certificate = Some(Ok(certificate(&material.csr)));
        })
    }

    /// Tells the CA what to answer.
    pub(super) fn tell(self, told: impl FnOnce(&mut Answers)) -> Self {
        told(&mut self.ca.0.lock().unwrap());
        self
    }

    /// What the orders that were placed were said to replace.
    pub(super) fn replaced(&self) -> Vec<Option<AriId>> {
        self.ca.0.lock().unwrap().replaced.clone()
    }

    /// The fingerprint of what the CA gives.
    pub(super) fn given(&self) -> String {
        let Some(Ok(chain)) = self.ca.0.lock().unwrap().certificate.clone() else { panic!("it gives none") };
        crate::certificate::presented(&chain).unwrap().fingerprint_sha256
    }

    /// The other chains that were asked for.
    pub(super) fn followed(&self) -> Vec<String> {
        self.ca.0.lock().unwrap().followed.clone()
    }

    /// How many signing requests were sent.
    pub(super) fn finalized(&self) -> u32 {
        self.ca.0.lock().unwrap().finalized
    }

    /// Runs the engine to its end. Nothing here is waited for in earnest, so one look at it is enough.
    pub(super) fn run(&self) -> Outcome {
        let engine = Engine {
            standing: &self.standing,
            account: &self.ca,
            ledger: &self.book,
            keyring: &self.keyring,
            auditor: &self.auditor,
            clock: self.clock.as_ref(),
            entropy: self.luck.as_ref(),
            claim: &self.claim,
            mandate: &self.mandate,
            expires: self.expires,
            in_use: self.in_use.as_deref(),
            number: 1,
            preferred_chain: self.preferred_chain.as_ref(),
            set_aside: &self.watched,
        };
        at_once(pin!(engine.run(self.order.clone())))
    }

    /// How many attempts were written down as failed.
    pub(super) fn failed(&self) -> usize {
        self.book.failed.lock().unwrap().len()
    }
}

fn at_once<T>(work: std::pin::Pin<&mut impl Future<Output = T>>) -> T {
    match work.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => panic!("it waits for what never comes"),
    }
}

/// The order at the CA, which expires so many seconds after the test begins.
pub(super) fn placed(expires_in_s: i64) -> Placed {
    let expires = Timestamp::from_second(NOW_S + expires_in_s).ok();
    Placed { url: "https://ca.example.test/order/1".into(), expires }
}

pub(super) fn ready(expires_in_s: i64) -> OrderState {
    OrderState::Ready { placed: placed(expires_in_s), since: Timestamp::from_second(NOW_S).unwrap() }
}

pub(super) fn problem() -> Problem {
    Problem::new(Class::Configuration, "urn:ietf:params:acme:error:unauthorized", "not yours")
}

pub(super) fn refused<T>() -> Answer<T> {
    Some(Err(CaError::Refused(problem())))
}

pub(super) fn gone<T>() -> Answer<T> {
    Some(Err(CaError::Gone(problem())))
}

pub(super) fn needs_a_person<T>() -> Answer<T> {
    Some(Err(CaError::NeedsPerson(problem())))
}
