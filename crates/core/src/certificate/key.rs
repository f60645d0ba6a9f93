// SPDX-License-Identifier: Apache-2.0
//! Leaf keys and their certificate signing requests (RFC 2986).

use std::net::IpAddr;

use rcgen::{CertificateParams, DistinguishedName, KeyPair, PublicKeyData, SanType};
use secrecy::SecretSlice;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::name::Identifier;

/// The algorithm of a leaf key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
pub enum KeyType {
    /// ECDSA on P-256.
    #[default]
    #[serde(rename = "ecdsa-p256")]
    EcdsaP256,
    /// ECDSA on P-384.
    #[serde(rename = "ecdsa-p384")]
    EcdsaP384,
}

/// The cryptographic library could not make a key or a request.
#[derive(Debug, thiserror::Error)]
#[error("a key and its signing request could not be made: {0}")]
pub struct CannotMakeKey(String);

/// A fresh leaf key, and what goes to the CA.
pub struct KeyMaterial {
    /// The private key, PKCS #8 DER.
    pub pkcs8: SecretSlice<u8>,
    /// The certificate signing request, DER.
    pub csr: Vec<u8>,
    /// SHA-256 of the SubjectPublicKeyInfo.
    pub spki_sha256: [u8; 32],
}

impl KeyMaterial {
    /// Makes a key and a request for `names`.
    ///
    /// # Errors
    /// When the cryptographic library refuses.
    pub fn generate(key_type: KeyType, names: &[Identifier]) -> Result<Self, CannotMakeKey> {
        let refused = |error: rcgen::Error| CannotMakeKey(error.to_string());
        let algorithm = match key_type {
            KeyType::EcdsaP256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            KeyType::EcdsaP384 => &rcgen::PKCS_ECDSA_P384_SHA384,
        };
        let key = KeyPair::generate_for(algorithm).map_err(refused)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names =
            names.iter().map(alternative_name).collect::<Result<_, _>>().map_err(refused)?;
        let csr = params.serialize_request(&key).map_err(refused)?;
        Ok(Self {
            spki_sha256: Sha256::digest(key.subject_public_key_info()).into(),
            pkcs8: SecretSlice::from(key.serialize_der()),
            csr: csr.der().to_vec(),
        })
    }
}

/// Makes a key for an ACME account: ECDSA on P-256 (ES256, RFC 8555, 6.2), PKCS #8 DER. It is stored before the account
/// is registered, so that a registration whose answer was lost finds the same account.
///
/// # Errors
/// When the cryptographic library refuses.
pub fn account_key() -> Result<SecretSlice<u8>, CannotMakeKey> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256);
    key.map(|key| SecretSlice::from(key.serialize_der())).map_err(|error| CannotMakeKey(error.to_string()))
}

fn alternative_name(name: &Identifier) -> Result<SanType, rcgen::Error> {
    Ok(match name {
        Identifier::Dns(name) => SanType::DnsName(name.as_str().try_into()?),
        Identifier::Ip(IpAddr::V4(v4)) => SanType::IpAddress((*v4).into()),
        Identifier::Ip(IpAddr::V6(v6)) => SanType::IpAddress((*v6).into()),
    })
}
