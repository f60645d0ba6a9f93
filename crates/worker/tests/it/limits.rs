// SPDX-License-Identifier: Apache-2.0
//! A CA's rate limit: one order meets it, and no worker places another before it is over.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use cap_core::certificate::{Profile, RevocationReason, Status};
use cap_core::clock::{Clock, later};
use cap_core::id::CertificateId;
use cap_core::job::{JobDraft, Work};
use cap_core::name::Identifier;
use cap_core::order::{CaAccount, CaError, CaRequest, CertificateAuthority, Found, Placed};
use cap_core::problem::{Class, Problem};
use cap_core::renewal_info::{AriId, RenewalInfo};
use cap_core::secret::SecretSlice;
use cap_runtime::clock::SystemClock;
use cap_store::{CertificateRecord, Mutation};
use cap_testkit::wait::{self, Pending};
use tokio_util::sync::CancellationToken;

use crate::bench::PATIENCE;
use crate::house::House;

/// How long the CA wants to be left alone.
const LIMIT: Duration = Duration::from_secs(3_600);
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

    async fn tell_contacts(&self, _: &CaRequest, _: &str) -> Result<(), CaError> {
        panic!("nobody changes contacts here")
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

/// Waits until the certificate says that it waits for the limit.
async fn told(house: &House, certificate: CertificateId) -> CertificateRecord {
    wait::until("the limit to be told", PATIENCE, async || {
        let record = house.store.certificate(house.project, certificate).await.map_err(Pending::not_yet)?;
        match record {
            Some(record) if record.problem.as_ref().is_some_and(|problem| problem.kind == KIND) => Ok(record),
            record => Err(Pending::not_yet(format_args!("{:?}", record.map(|record| record.problem)))),
        }
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_one_order_met_is_asked_for_by_no_other_worker() {
    let (house, ca) = (House::new().await, Arc::new(Closed::default()));
    let authority = || Arc::new(Authority(ca.clone()));
    let (one, two) = (house.worker("one", authority()).await, house.worker("two", authority()).await);
    let (stop, grace) = (CancellationToken::new(), Duration::from_secs(30));
    let talk = async {
        let first = house.add_certificate("first.example.test").await;
        told(&house, first).await;
        assert_eq!(ca.0.load(Ordering::Relaxed), 1);
        let mut others = Vec::new();
        for n in 0..20 {
            others.push(house.add_certificate(&format!("n{n}.example.test")).await);
        }
        let soon = later(house.clock.now(), LIMIT - PATIENCE);
        for other in others {
            let record = told(&house, other).await;
            assert_eq!(record.status, Status::Failing);
            assert!(record.next_attempt_at.is_some_and(|at| at > soon), "{:?}", record.next_attempt_at);
            assert!(record.order.is_none(), "nothing was begun for it");
        }
        // Nor by somebody's wish.
        let work = Work::Issue { certificate: first, made_for: None };
        let job =
            JobDraft::now(house.project, work, 0, house.clock.as_ref(), house.entropy.as_ref()).awaited();
        let audit = house.row().await;
        let job =
            house.store.request_renewal(None, &job, Mutation { audit: &audit, request: None }).await.unwrap();
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
