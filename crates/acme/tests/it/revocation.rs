// SPDX-License-Identifier: Apache-2.0
//! Revocation by the account and by the certificate's own key (RFC 8555, 7.6).

use cap_core::certificate::{Issued, KeyMaterial, KeyType, RevocationReason, account_key, leaf_der};
use cap_core::order::{CaError, CertificateAuthority, Seen};
use cap_testkit::ca::Pebble;

use crate::bench::{Bench, until_not};

/// Has a certificate issued for this key; answers its leaf, DER, and its serial number.
async fn issue(bench: &Bench, ca: &Pebble, name: &str, key: &KeyMaterial) -> (Vec<u8>, String) {
    let (_, _, mut order) = bench.place(ca, name).await;
    bench.answer(&mut order).await;
    order.submit().await.unwrap();
    assert_eq!(until_not(&mut order, &[Seen::Pending]).await, Seen::Ready);
    order.finalize(&key.csr).await.unwrap();
    assert_eq!(until_not(&mut order, &[Seen::Processing]).await, Seen::Valid);
    let chain = order.certificate().await.unwrap().pem;
    let issued = Issued::accept(chain.clone(), &key.spki_sha256, &[name.parse().unwrap()]).unwrap();
    (leaf_der(&chain).unwrap(), issued.serial)
}

#[tokio::test]
async fn a_certificate_is_revoked_by_its_own_key_of_any_type_and_without_an_account() {
    let ca = Pebble::shared().await.unwrap();
    let bench = Bench::of(&ca).await;
    let mut issued = Vec::new();
    for key_type in [KeyType::EcdsaP256, KeyType::EcdsaP384, KeyType::Rsa2048] {
        let name = format!("{key_type:?}.revoked.acme.test").to_lowercase();
        let key = KeyMaterial::generate(key_type, &[name.parse().unwrap()]).unwrap();
        let (leaf, serial) = issue(&bench, &ca, &name, &key).await;
        issued.push((key_type, key, leaf, serial));
    }
    bench.acme.deactivate(&bench.request, &bench.account_url).await.unwrap();
    for (key_type, key, leaf, serial) in &issued {
        let reason = RevocationReason::KeyCompromise;
        for again in [false, true] {
            let by_key = bench.acme.revoke_by_key(&bench.request, leaf, &key.pkcs8, reason).await;
            assert!(by_key.is_ok(), "{key_type:?}, again: {again}: {by_key:?}");
            assert_eq!(ca.certificate_status(serial).await.unwrap()["Status"], "Revoked", "{key_type:?}");
        }
    }
}

#[tokio::test]
async fn no_other_key_revokes_a_certificate() {
    let ca = Pebble::shared().await.unwrap();
    let bench = Bench::of(&ca).await;
    let name = "kept.revoked.acme.test";
    let key = KeyMaterial::generate(KeyType::EcdsaP256, &[name.parse().unwrap()]).unwrap();
    let (leaf, serial) = issue(&bench, &ca, name, &key).await;
    let (other, reason) = (account_key().unwrap(), RevocationReason::Superseded);
    let refused = bench.acme.revoke_by_key(&bench.request, &leaf, &other, reason).await;
    assert!(matches!(refused, Err(CaError::Account(_) | CaError::Refused(_))), "{refused:?}");
    assert_eq!(ca.certificate_status(&serial).await.unwrap()["Status"], "Valid");
    bench.account.revoke(&leaf, reason).await.unwrap();
    assert_eq!(ca.certificate_status(&serial).await.unwrap()["Status"], "Revoked");
}
