// SPDX-License-Identifier: Apache-2.0
//! A CA that issues only for accounts bound to one of its own (RFC 8555, 7.3.4).

use std::fs;
use std::sync::Arc;

use cap_core::issuer::{ExternalAccount, hmac_key};
use cap_core::order::{CaError, CaRequest, CertificateAuthority};
use cap_core::problem::{Class, Problem};
use cap_testkit::ca::{Pebble, PebbleOptions};

use crate::bench::{acme, request};

const KID: &str = "kid-1";
/// 33 octets: unpadded it has no padding, either.
const KEY: &str = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG4";
const OTHER_KEY: &str = "aWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG4";

async fn ca() -> Pebble {
    let external_accounts = [(KID.to_owned(), KEY.to_owned())].into();
    Pebble::start_with(PebbleOptions { external_accounts, ..PebbleOptions::default() }).await.unwrap()
}

fn bound(ca: &Pebble, external: Option<(&str, &str)>) -> CaRequest {
    let roots = fs::read_to_string(ca.ca_file()).unwrap();
    let external = external.map(|(kid, key)| ExternalAccount {
        kid: kid.parse().unwrap(),
        hmac_key: Arc::new(hmac_key(&key.into()).unwrap()),
    });
    CaRequest { external, ..request(ca.directory_url(), Some(&roots)) }
}

#[tokio::test]
async fn an_account_is_bound_and_found_again() {
    let ca = ca().await;
    let request = bound(&ca, Some((KID, KEY)));
    let (one, two) = (acme().0, acme().0);
    let url = one.register(&request).await.unwrap();
    assert_eq!(two.register(&request).await.unwrap(), url);
    // The key is stored, so whoever has lost the binding finds the account all the same.
    assert_eq!(one.register(&CaRequest { external: None, ..request }).await.unwrap(), url);
}

#[tokio::test]
async fn a_binding_that_is_wanting_or_wrong_says_what_to_set() {
    let ca = ca().await;
    let refused = async |external| -> Problem {
        match acme().0.register(&bound(&ca, external)).await {
            Err(CaError::Refused(problem)) => problem,
            other => panic!("{other:?}"),
        }
    };
    let wanting = refused(None).await;
    assert_eq!(wanting.kind, "urn:ietf:params:acme:error:externalAccountRequired");
    assert!(wanting.detail.contains("set eab_kid and eab_hmac_key to what it handed out"), "{wanting}");
    for wrong in [(KID, OTHER_KEY), ("another", KEY)] {
        let problem = refused(Some(wrong)).await;
        assert_eq!(problem.class, Class::Configuration, "{problem}");
        assert!(problem.detail.starts_with("binding the account to the external one failed: "), "{problem}");
        assert!(problem.detail.contains("set eab_kid and eab_hmac_key anew"), "{problem}");
        assert!(!problem.detail.contains(OTHER_KEY) && !problem.detail.contains(KEY), "{problem}");
    }
    assert_eq!(wanting.class, Class::Configuration);
}
