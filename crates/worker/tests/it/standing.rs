// SPDX-License-Identifier: Apache-2.0
//! What a CA says of an account, and what of it is no word on the account: with a CA that is made up, since no real one says
//! these things when it is asked to.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use cap_core::certificate::RevocationReason;
use cap_core::clock::{Clock, later};
use cap_core::issuer::{ACCOUNT_CLOSED, Hold, IssuerStatus};
use cap_core::order::{Bucket, CaAccount, CaError, CaRequest, CertificateAuthority};
use cap_core::problem::{Class, Problem};
use cap_core::secret::{ExposeSecret, SecretSlice};
use cap_runtime::clock::SystemClock;
use cap_store::{HoldRecord, IssuerRecord, RolloverRecord};
use cap_testkit::mongo::driver::Client;
use cap_testkit::mongo::driver::bson::{Document, doc};
use cap_testkit::wait::{self, Pending};
use tokio_util::sync::CancellationToken;

use crate::bench::PATIENCE;
use crate::house::{ACCOUNT_URL, House, KEY};

const CONTACT: &str = "mailto:ops@example.test";
const NEXT_KEY: &[u8] = b"next";
const REFUSED: &str = "urn:ietf:params:acme:error:unauthorized";

/// A CA that has the account with its first key.
#[derive(Debug, Default)]
struct Made {
    /// Whether it does not take contacts.
    refuses_contacts: bool,
    /// Whether it says of a key that it does not know what others say of accounts that are closed.
    is_rude: bool,
    /// Whether it parks whoever sets contacts.
    limits_contacts: bool,
    /// Whether it cannot be asked for an account once it has refused something.
    is_silent: bool,
    refused: AtomicBool,
    /// Whether it has closed the account since it knows it by the next key.
    has_closed: bool,
    /// The contacts that it was told.
    told: Mutex<Vec<String>>,
}

fn refused() -> CaError {
    CaError::Account(Problem::new(Class::Configuration, REFUSED, "it may not"))
}

impl Made {
    /// What becomes of contacts.
    fn take(&self, request: &CaRequest) -> Result<(), CaError> {
        if self.refuses_contacts || self.has_closed {
            self.refused.store(true, Ordering::Relaxed);
            return Err(refused());
        }
        if self.limits_contacts {
            let kind = "urn:ietf:params:acme:error:rateLimited";
            let problem = Problem::new(Class::RateLimited, kind, "too many changes");
            return Err(CaError::Later { problem, at: later(SystemClock.now(), PATIENCE * 10) });
        }
        *self.told.lock().unwrap() = request.spec.contacts.iter().map(ToString::to_string).collect();
        Ok(())
    }
}

#[async_trait]
impl CertificateAuthority for Made {
    async fn register(&self, request: &CaRequest) -> Result<String, CaError> {
        assert_eq!(request.account_key.expose_secret(), KEY, "it would make another account");
        self.take(request).map(|()| ACCOUNT_URL.to_owned())
    }

    async fn tell_contacts(&self, request: &CaRequest, account_url: &str) -> Result<(), CaError> {
        assert_eq!((request.account_key.expose_secret(), account_url), (KEY, ACCOUNT_URL));
        self.take(request)
    }

    async fn find(&self, request: &CaRequest) -> Result<Option<String>, CaError> {
        if self.is_silent && self.refused.load(Ordering::Relaxed) {
            return Err(CaError::Transient(Problem::new(Class::Transient, "ca-error", "503")));
        }
        match request.account_key.expose_secret() {
            NEXT_KEY if self.has_closed => {
                Err(CaError::Account(Problem::new(Class::Configuration, ACCOUNT_CLOSED, "it is deactivated")))
            }
            KEY if !self.has_closed => Ok(Some(ACCOUNT_URL.to_owned())),
            _ if self.is_rude => Err(refused()),
            _ => Ok(None),
        }
    }

    async fn change_key(&self, _: &CaRequest, _: &str, _: &Arc<SecretSlice<u8>>) -> Result<(), CaError> {
        Err(CaError::Transient(Problem::new(Class::Transient, "ca-error", "502 Bad Gateway")))
    }

    async fn deactivate(&self, _: &CaRequest, _: &str) -> Result<(), CaError> {
        panic!("no account is closed here")
    }

    async fn revoke_by_key(
        &self,
        _: &CaRequest,
        _: &[u8],
        _: &SecretSlice<u8>,
        _: RevocationReason,
    ) -> Result<(), CaError> {
        panic!("nothing is revoked here")
    }

    async fn account(&self, _: &CaRequest, _: &str) -> Result<Arc<dyn CaAccount>, CaError> {
        panic!("nothing is ordered here")
    }
}

/// Has a worker do what there is to do for the issuer, until it is so.
async fn worked(
    house: &House,
    ca: &Arc<Made>,
    what: &str,
    is_so: impl Fn(&IssuerRecord) -> bool,
) -> IssuerRecord {
    let worker = house.worker("worker", ca.clone()).await;
    let stop = CancellationToken::new();
    let talk = async {
        let seen = wait::until(what, PATIENCE, async || {
            let seen = house.store.issuer(house.project, &house.issuer.to_string()).await;
            let seen = seen.map_err(Pending::not_yet)?.unwrap();
            if is_so(&seen) { Ok(seen) } else { Err(Pending::not_yet(format_args!("{seen:?}"))) }
        })
        .await
        .unwrap();
        stop.cancel();
        seen
    };
    tokio::join!(worker.run(stop.clone(), PATIENCE), talk).1
}

/// The job on the account, once a worker has settled it with a problem.
async fn settled_job(house: &House, ca: &Arc<Made>) -> Document {
    let database = Client::with_uri_str(&house.uri).await.unwrap().default_database().unwrap();
    let jobs = database.collection::<Document>("jobs");
    let worker = house.worker("worker", ca.clone()).await;
    let stop = CancellationToken::new();
    let talk = async {
        let settled = wait::until("the job to be settled", PATIENCE, async || {
            let job = jobs.find_one(doc! { "problem.type": { "$exists": true } }).await;
            job.map_err(Pending::not_yet)?.ok_or_else(|| Pending::not_yet("nothing was in its way"))
        })
        .await
        .unwrap();
        stop.cancel();
        settled
    };
    tokio::join!(worker.run(stop.clone(), PATIENCE), talk).1
}

async fn with_contact(house: &House) -> IssuerRecord {
    let mut issuer = house.issuer_record().await;
    issuer.spec.contacts = vec![CONTACT.parse().unwrap()];
    issuer
}

fn held(issuer: IssuerRecord) -> IssuerRecord {
    let hold = HoldRecord { why: Hold::Refused, account_url: issuer.account_url };
    IssuerRecord { hold: Some(hold), account_url: None, status: IssuerStatus::Failing, ..issuer }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_is_accepted_again_is_told_the_contacts_that_changed_meanwhile() {
    let (house, ca) = (House::empty().await, Arc::new(Made::default()));
    house.add_issuer(held(with_contact(&house).await), Duration::ZERO).await;
    let ready = |issuer: &IssuerRecord| issuer.status == IssuerStatus::Ready;
    let issuer = worked(&house, &ca, "the account to be accepted again", ready).await;
    assert_eq!((issuer.hold, issuer.account_url.as_deref()), (None, Some(ACCOUNT_URL)));
    assert_eq!(*ca.told.lock().unwrap(), [CONTACT]);
}

/// An issuer is updated, or its account was on hold, so that it was found again, or nobody knows where it is.
#[tokio::test(flavor = "multi_thread")]
async fn contacts_that_the_ca_refuses_hold_no_orders_up() {
    for what in ["updated", "on hold", "forgotten"] {
        let (house, ca) =
            (House::empty().await, Arc::new(Made { refuses_contacts: true, ..Made::default() }));
        let issuer = with_contact(&house).await;
        let issuer = match what {
            "on hold" => held(issuer),
            "forgotten" => IssuerRecord { account_url: None, status: IssuerStatus::Registering, ..issuer },
            _ => issuer,
        };
        house.add_issuer(issuer, Duration::ZERO).await;
        let told = |issuer: &IssuerRecord| issuer.problem.is_some() && issuer.account_url.is_some();
        let issuer = worked(&house, &ca, "the refusal to be told", told).await;
        assert_eq!((issuer.hold, issuer.account_url.as_deref()), (None, Some(ACCOUNT_URL)), "{what}");
        assert_eq!(issuer.status, IssuerStatus::Failing);
        assert!(issuer.next_attempt_at.is_some(), "they are told again");
        let said = issuer.problem.unwrap().detail;
        assert!(said.contains("its orders go on"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_not_put_on_hold_while_its_ca_cannot_be_asked_for_it() {
    let ca = Arc::new(Made { refuses_contacts: true, is_silent: true, ..Made::default() });
    let house = House::empty().await;
    house.add_issuer(with_contact(&house).await, Duration::ZERO).await;
    let asked = settled_job(&house, &ca).await;
    assert_eq!(asked.get_str("state").ok(), Some("queued"), "{asked}");
    let issuer = house.store.issuer(house.project, &house.issuer.to_string()).await.unwrap().unwrap();
    assert_eq!((issuer.hold, issuer.account_url.as_deref()), (None, Some(ACCOUNT_URL)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_on_contacts_holds_no_orders_up() {
    for was_held in [false, true] {
        let (house, ca) = (House::empty().await, Arc::new(Made { limits_contacts: true, ..Made::default() }));
        let issuer = with_contact(&house).await;
        house.add_issuer(if was_held { held(issuer) } else { issuer }, Duration::ZERO).await;
        settled_job(&house, &ca).await;
        let issuer = house.store.issuer(house.project, &house.issuer.to_string()).await.unwrap().unwrap();
        assert_eq!(
            (issuer.hold, issuer.account_url.as_deref()),
            (None, Some(ACCOUNT_URL)),
            "held: {was_held}"
        );
        let parked = house.store.parked(house.issuer, &[Bucket::Account]).await.unwrap();
        assert!(parked.is_none(), "{parked:?}");
    }
}

/// Otherwise another account would be made with the key that the closed one had.
#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_was_closed_under_its_next_key_is_put_on_hold() {
    let (house, ca) = (House::empty().await, Arc::new(Made { has_closed: true, ..Made::default() }));
    let (key, requested_at) = (house.account_key(NEXT_KEY).await, house.clock.now());
    let rollover = Some(RolloverRecord { key, requested_at, problem: None });
    house.add_issuer(IssuerRecord { rollover, ..with_contact(&house).await }, Duration::ZERO).await;
    let on_hold = |issuer: &IssuerRecord| issuer.why_held() == Some(Hold::Refused);
    let issuer = worked(&house, &ca, "the end of the account to be told", on_hold).await;
    assert!(issuer.is_rolling(), "it is not given up: {issuer:?}");
    assert!(ca.told.lock().unwrap().is_empty(), "nothing was registered");

    // Nor is it in the way of who wants it closed.
    let (house, ca) = (House::empty().await, Arc::new(Made { has_closed: true, ..Made::default() }));
    let (key, requested_at) = (house.account_key(NEXT_KEY).await, house.clock.now());
    let rollover = Some(RolloverRecord { key, requested_at, problem: None });
    let hold = HoldRecord { why: Hold::Deactivating, account_url: Some(ACCOUNT_URL.into()) };
    let leaving =
        IssuerRecord { rollover, hold: Some(hold), account_url: None, ..with_contact(&house).await };
    house.add_issuer(leaving, Duration::ZERO).await;
    let is_over = |issuer: &IssuerRecord| issuer.why_held() == Some(Hold::Deactivated);
    worked(&house, &ca, "the account to count as deactivated", is_over).await;
}

/// A CA that forgot it gets no other one by itself.
#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_the_ca_does_not_know_any_more_is_not_made_anew() {
    let (house, ca) = (House::empty().await, Arc::new(Made { has_closed: true, ..Made::default() }));
    house.add_issuer(with_contact(&house).await, Duration::ZERO).await;
    let on_hold = |issuer: &IssuerRecord| issuer.why_held() == Some(Hold::Refused);
    worked(&house, &ca, "the account to be on hold", on_hold).await;
    assert!(ca.told.lock().unwrap().is_empty(), "it was registered");
}

/// Until it is given up, refusals of orders count for nothing, since the account may have either key.
#[tokio::test(flavor = "multi_thread")]
async fn a_rollover_that_the_ca_does_not_do_is_given_up_after_an_hour() {
    for is_rude in [false, true] {
        let (house, ca) = (House::empty().await, Arc::new(Made { is_rude, ..Made::default() }));
        let (key, requested_at) = (house.account_key(NEXT_KEY).await, house.clock.now());
        let rollover = Some(RolloverRecord { key, requested_at, problem: None });
        let issuer = IssuerRecord { rollover, ..with_contact(&house).await };
        house.add_issuer(issuer, PATIENCE * 10).await;
        let database = Client::with_uri_str(&house.uri).await.unwrap().default_database().unwrap();
        let jobs = database.collection::<Document>("jobs");
        let for_long = doc! { "$set": { "setbacks": {
            "count": 70, "since": "2026-01-01T00:00:00Z", "faulty_ms": 3_700_000_i64,
        } } };
        jobs.update_many(doc! {}, for_long).await.unwrap();
        jobs.update_many(doc! {}, vec![doc! { "$set": { "claim_at": "$$NOW" } }]).await.unwrap();
        let told = |_: &IssuerRecord| !ca.told.lock().unwrap().is_empty();
        let issuer = worked(&house, &ca, "the contacts to be told", told).await;
        let given_up = issuer.rollover.and_then(|rollover| rollover.problem);
        assert_eq!(given_up.unwrap().kind, "account-key-not-changed", "rude: {is_rude}");
        assert_eq!((issuer.hold, issuer.account_url.as_deref()), (None, Some(ACCOUNT_URL)));
    }
}
