// SPDX-License-Identifier: Apache-2.0
//! Keys and certificates that were made before: making them is not what is simulated. And a KEK that wraps nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};

use async_trait::async_trait;
use cap_core::certificate::{KeyMaterial, KeyType, Names};
use cap_core::envelope::{Canary, Kek, KekError, KekVersion, KeyStore, KeyStoreError, Keyring, WrappedKey};
use cap_core::id::ClusterId;
use cap_core::secret::{SecretKey, secret_key};
use rcgen::{CertificateParams, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256, date_time_ymd};
use rustls_pki_types::PrivatePkcs8KeyDer;
use secrecy::ExposeSecret;

use super::luck::Dice;
use super::world::{Hands, lock};

/// Keys in stock: more than any seed needs, even where every run makes another and fetches a wrong certificate for an hour.
const STOCK: usize = 4_096;
/// What every certificate of the simulation is for.
const NAME: &str = "a.example.test";

/// A key, its signing request and the certificate that it would get.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) pkcs8: Vec<u8>,
    pub(super) csr: Vec<u8>,
    pub(super) spki_sha256: [u8; 32],
    chain: String,
}

/// All keys.
#[derive(Debug)]
pub(super) struct Keys {
    keys: Vec<Key>,
    by_request: HashMap<Vec<u8>, usize>,
}

pub(super) fn names() -> Names {
    #[expect(clippy::expect_used, reason = "the name is a constant")]
    Names::parse(vec![NAME.into()]).expect("a name")
}

impl Keys {
    /// The stock, made at the first use.
    pub(super) fn stock() -> &'static Self {
        static STOCKED: OnceLock<Keys> = OnceLock::new();
        STOCKED.get_or_init(Self::make)
    }

    #[expect(clippy::expect_used, reason = "a simulation without keys ends here")]
    fn make() -> Self {
        let ca_key = KeyPair::generate().expect("a key for the CA");
        let ca = Issuer::new(CertificateParams::default(), ca_key);
        let keys: Vec<Key> = (0..STOCK)
            .map(|_| {
                let material =
                    KeyMaterial::generate(KeyType::EcdsaP256, names().identifiers()).expect("a leaf key");
                let pkcs8 = material.pkcs8.expose_secret().to_vec();
                let der = PrivatePkcs8KeyDer::from(pkcs8.clone());
                let pair = KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ECDSA_P256_SHA256);
                let mut params = CertificateParams::new(vec![NAME.to_owned()]).expect("parameters");
                params.use_authority_key_identifier_extension = true;
                (params.not_before, params.not_after) =
                    (date_time_ymd(2026, 9, 1), date_time_ymd(2026, 12, 1));
                let certificate = params.signed_by(&pair.expect("the leaf key"), &ca).expect("a certificate");
                let (csr, spki_sha256) = (material.csr, material.spki_sha256);
                Key { pkcs8, csr, spki_sha256, chain: certificate.pem() }
            })
            .collect();
        let by_request = keys.iter().enumerate().map(|(index, key)| (key.csr.clone(), index)).collect();
        Self { keys, by_request }
    }

    /// The `nth` key that a seed makes. Where the stock runs out, what was bought for whom cannot be told any more.
    pub(super) fn nth(&self, nth: usize) -> &Key {
        assert!(nth < self.keys.len(), "a seed needs more than {STOCK} keys");
        &self.keys[nth]
    }

    /// The key of this signing request.
    pub(super) fn of_request(&self, csr: &[u8]) -> Option<usize> {
        self.by_request.get(csr).copied()
    }

    /// The key with these bytes.
    pub(super) fn of_bytes(&self, pkcs8: &[u8]) -> Option<usize> {
        self.keys.iter().position(|key| key.pkcs8 == pkcs8)
    }

    /// The key that this chain is for.
    pub(super) fn of_chain(&self, chain: &str) -> Option<usize> {
        self.keys.iter().position(|key| key.chain == chain)
    }

    pub(super) fn chain(&self, key: usize) -> String {
        self.keys[key].chain.clone()
    }

    /// Another key than this one.
    pub(super) fn other(&self, key: usize) -> usize {
        (key + self.keys.len() / 2) % self.keys.len()
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

/// The project keys, as the database has them.
#[derive(Debug, Default)]
pub(super) struct Wrapped(Mutex<HashMap<String, WrappedKey>>);

#[async_trait]
impl KeyStore for Wrapped {
    async fn find(&self, key: &str, _: Option<u32>) -> Result<Option<WrappedKey>, KeyStoreError> {
        Ok(lock(&self.0).get(key).cloned())
    }

    async fn insert(&self, wrapped: WrappedKey) -> Result<WrappedKey, KeyStoreError> {
        Ok(lock(&self.0).entry(wrapped.key.clone()).or_insert(wrapped).clone())
    }
}

/// The keyring of one process.
pub(super) fn keyring(
    cluster: ClusterId,
    wrapped: Arc<Wrapped>,
    clock: Arc<Hands>,
    dice: Arc<Dice>,
) -> Arc<Keyring> {
    let canary = Canary { cluster, kek_version: 1, wrapped: vec![] };
    Arc::new(Keyring::new(&canary, Arc::new(OpenKek), wrapped, clock, dice))
}
