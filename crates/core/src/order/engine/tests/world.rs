// SPDX-License-Identifier: Apache-2.0
//! A world for one run: a CA that answers what it is told to, a ledger that remembers, a clock that sleeps at once.

use std::collections::{HashMap, VecDeque};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use secrecy::ExposeSecret;

use super::super::{Engine, Outcome};
use crate::audit::{Auditor, Row};
use crate::certificate::{Names, Profile};
use crate::challenge::ChallengeAnswer;
use crate::clock::{Clock, later};
use crate::entropy::tests::Seeded;
use crate::envelope::{
    Canary, Kek, KekError, KekVersion, KeyStore, KeyStoreError, Keyring, Sealed, WrappedKey,
};
use crate::id::{CertificateId, ClaimId, ClusterId, IssuerId, JobId, OrderId, ProjectId};
use crate::job::{Claim, Mandate, Work};
use crate::name::Identifier;
use crate::order::{
    Authorization, CaAccount, CaError, FailedAttempt, IssuedVersion, Ledger, LedgerError, Order, OrderKey,
    OrderState, Placed, RemoteOrder, Seen,
};
use crate::problem::{Class, Problem};
use crate::renewal_info::{AriId, RenewalInfo};
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

/// What the CA answers to an act; none: nothing, for ever.
pub(super) type Answer<T> = Option<Result<T, CaError>>;

/// A CA with one order. Looks are answered one after the other, and from then on by the last.
#[derive(Clone)]
pub(super) struct Ca(Arc<Mutex<Answers>>);

pub(super) struct Answers {
    pub(super) offers_renewal_info: bool,
    pub(super) places: VecDeque<Answer<(Placed, Seen)>>,
    /// What the orders that were placed were said to replace.
    pub(super) replaced: Vec<Option<AriId>>,
    pub(super) looks: VecDeque<Answer<Seen>>,
    pub(super) authorizations: Answer<Vec<Authorization>>,
    pub(super) submit: Answer<()>,
    pub(super) finalize: Answer<Seen>,
    pub(super) certificate: Answer<String>,
}

async fn say<T>(answer: Answer<T>) -> Result<T, CaError> {
    match answer {
        Some(result) => result,
        None => std::future::pending().await,
    }
}

impl Ca {
    fn next_look(&self) -> Answer<Seen> {
        let looks = &mut self.0.lock().unwrap().looks;
        if looks.len() > 1 { looks.pop_front().unwrap() } else { looks[0].clone() }
    }
}

#[async_trait]
impl CaAccount for Ca {
    async fn place(
        &self,
        _names: &[Identifier],
        _profile: Option<&Profile>,
        replaces: Option<&AriId>,
    ) -> Result<(Placed, Seen, Box<dyn RemoteOrder>), CaError> {
        let answer = {
            let mut answers = self.0.lock().unwrap();
            answers.replaced.push(replaces.cloned());
            answers.places.pop_front().expect("no order is to be placed any more")
        };
        let (placed, seen) = say(answer).await?;
        Ok((placed, seen, Box::new(self.clone())))
    }

    async fn resume(&self, _url: &str) -> Result<(Seen, Box<dyn RemoteOrder>), CaError> {
        let seen = say(self.next_look()).await?;
        Ok((seen, Box::new(self.clone())))
    }

    fn offers_renewal_info(&self) -> bool {
        self.0.lock().unwrap().offers_renewal_info
    }

    async fn renewal_info(&self, _: &AriId) -> Result<RenewalInfo, CaError> {
        panic!("the engine asks for no renewal information")
    }
}

#[async_trait]
impl RemoteOrder for Ca {
    async fn look(&mut self) -> Result<Seen, CaError> {
        say(self.next_look()).await
    }

    async fn authorizations(&mut self) -> Result<Vec<Authorization>, CaError> {
        let answer = self.0.lock().unwrap().authorizations.clone();
        say(answer).await
    }

    async fn submit(&mut self) -> Result<(), CaError> {
        let answer = self.0.lock().unwrap().submit.clone();
        say(answer).await
    }

    async fn finalize(&mut self, _csr: &[u8]) -> Result<Seen, CaError> {
        let answer = self.0.lock().unwrap().finalize.clone();
        say(answer).await
    }

    async fn certificate(&mut self) -> Result<String, CaError> {
        let answer = self.0.lock().unwrap().certificate.clone();
        say(answer).await
    }
}

/// Remembers the states that orders went through and the attempts that failed.
#[derive(Default)]
pub(super) struct Book {
    pub(super) states: Mutex<Vec<OrderState>>,
    pub(super) failed: Mutex<Vec<Problem>>,
}

#[async_trait]
impl Ledger for Book {
    async fn advance(
        &self,
        order: &Order,
        next: OrderState,
        _answers: &[ChallengeAnswer],
    ) -> Result<Order, LedgerError> {
        self.states.lock().unwrap().push(next.clone());
        Ok(Order { revision: order.revision + 1, state: next, ..order.clone() })
    }

    async fn store(&self, _: &Claim, _: &Order, _: &IssuedVersion, _: &Row) -> Result<(), LedgerError> {
        panic!("no test here has a certificate issued")
    }

    async fn fail(
        &self,
        _: &Claim,
        order: &Order,
        failed: &FailedAttempt,
        _: &Row,
    ) -> Result<(), LedgerError> {
        if let Some(last) = self.states.lock().unwrap().last() {
            assert_eq!(order.state, *last, "what is ended is the order as it was written last");
        }
        self.failed.lock().unwrap().push(failed.problem.clone());
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

/// One claim on one order.
pub(super) struct World {
    pub(super) clock: Arc<Hands>,
    pub(super) mandate: Mandate,
    pub(super) claim: Claim,
    pub(super) book: Book,
    pub(super) order: Order,
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
        let submit = Some(Ok(()));
        let answers = Answers {
            offers_renewal_info: true,
            places: VecDeque::new(),
            replaced: Vec::new(),
            looks: [None].into(),
            authorizations: None,
            submit,
            finalize: None,
            certificate: None,
        };
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
                key: OrderKey { sealed, csr: vec![], spki_sha256: vec![0; 32] },
                fence: 1,
                revision: 0,
                state,
            },
            ca: Ca(Arc::new(Mutex::new(answers))),
            auditor: Auditor::new("test".into(), keyring.clone(), clock.clone(), luck.clone()),
            clock,
            luck,
            keyring,
        }
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

    /// Runs the engine to its end. Nothing here is waited for in earnest, so one look at it is enough.
    pub(super) fn run(&self) -> Outcome {
        let engine = Engine {
            account: &self.ca,
            ledger: &self.book,
            keyring: &self.keyring,
            auditor: &self.auditor,
            clock: self.clock.as_ref(),
            entropy: self.luck.as_ref(),
            claim: &self.claim,
            mandate: &self.mandate,
            expires: None,
            number: 1,
        };
        match pin!(engine.run(self.order.clone())).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => panic!("the run waits for what never comes"),
        }
    }

    /// How many attempts were written down as failed.
    pub(super) fn failed(&self) -> usize {
        self.book.failed.lock().unwrap().len()
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
