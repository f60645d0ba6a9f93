// SPDX-License-Identifier: Apache-2.0
//! Accounts whose key changes (RFC 8555, 7.3.5), and that end (7.3.6).

use std::sync::Arc;

use cap_core::certificate::account_key;
use cap_core::issuer::KEY_IN_USE;
use cap_core::order::{CaError, CaRequest, CertificateAuthority};
use cap_testkit::ca::Pebble;

use crate::bench::{Bench, acme};

/// The same issuer with another key.
fn with_new_key(bench: &Bench) -> CaRequest {
    CaRequest { account_key: Arc::new(account_key().unwrap()), ..bench.request.clone() }
}

#[tokio::test]
async fn the_new_key_orders_and_the_old_one_is_refused() {
    let ca = Pebble::shared().await.unwrap();
    let bench = Bench::of(&ca).await;
    let (url, next) = (&bench.account_url, with_new_key(&bench));
    assert_eq!(bench.acme.find(&bench.request).await.unwrap().as_ref(), Some(url));
    assert_eq!(bench.acme.find(&next).await.unwrap(), None, "asking makes no account");
    bench.acme.change_key(&bench.request, url, &next.account_key).await.unwrap();
    assert_eq!(bench.acme.find(&next).await.unwrap().as_ref(), Some(url));
    assert_eq!(bench.acme.find(&bench.request).await.unwrap(), None);
    let names = ["rolled.acme.test".parse().unwrap()];
    let account = bench.acme.account(&next, url).await.unwrap();
    assert!(account.place(&names, None, None).await.is_ok());
    let Err(refused) = bench.account.place(&names, None, None).await else {
        panic!("the old key orders");
    };
    assert!(matches!(refused, CaError::Refused(_) | CaError::Account(_)), "{refused}");
    // Whoever lost the first answer and sends it again is refused, and can find out why.
    let again = bench.acme.change_key(&bench.request, url, &next.account_key).await.unwrap_err();
    assert!(matches!(again, CaError::Refused(_) | CaError::Account(_)), "{again}");
}

#[tokio::test]
async fn a_key_that_another_account_has_is_not_taken() {
    let ca = Pebble::shared().await.unwrap();
    let bench = Bench::of(&ca).await;
    let other = with_new_key(&bench);
    let other_url = acme().0.register(&other).await.unwrap();
    // This Pebble means to answer 409, and answers 200: only by asking can one know what it did.
    match bench.acme.change_key(&bench.request, &bench.account_url, &other.account_key).await {
        Ok(()) => {}
        Err(CaError::Refused(problem)) => assert_eq!(problem.kind, KEY_IN_USE),
        other => panic!("{other:?}"),
    }
    assert_eq!(bench.acme.find(&other).await.unwrap(), Some(other_url));
    assert_eq!(bench.acme.find(&bench.request).await.unwrap(), Some(bench.account_url));
}

#[tokio::test]
async fn a_deactivated_account_is_refused_from_then_on() {
    let ca = Pebble::shared().await.unwrap();
    let bench = Bench::of(&ca).await;
    bench.acme.deactivate(&bench.request, &bench.account_url).await.unwrap();
    let refused = [
        bench.acme.find(&bench.request).await.map(drop),
        bench.acme.register(&bench.request).await.map(drop),
        bench.acme.deactivate(&bench.request, &bench.account_url).await,
        bench.account.place(&["ended.acme.test".parse().unwrap()], None, None).await.map(drop),
    ];
    for refused in refused {
        assert!(matches!(refused, Err(CaError::Account(_))), "{refused:?}");
    }
}
