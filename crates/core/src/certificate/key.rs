// SPDX-License-Identifier: Apache-2.0
//! Leaf keys and their certificate signing requests (RFC 2986).

use std::net::IpAddr;

use rcgen::{CertificateParams, DistinguishedName, KeyPair, PublicKeyData, RsaKeySize, SanType};
use rustls_pki_types::PrivatePkcs8KeyDer;
use secrecy::{ExposeSecret, SecretSlice};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

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
    /// RSA with a modulus of 2048 bits.
    #[serde(rename = "rsa-2048")]
    Rsa2048,
    /// RSA with a modulus of 3072 bits.
    #[serde(rename = "rsa-3072")]
    Rsa3072,
    /// RSA with a modulus of 4096 bits.
    #[serde(rename = "rsa-4096")]
    Rsa4096,
}

/// The curves' object identifiers (RFC 5480, 2.1.1.1).
const P256: &str = "1.2.840.10045.3.1.7";
const P384: &str = "1.3.132.0.34";

impl KeyType {
    /// Every type.
    pub const ALL: [Self; 5] =
        [Self::EcdsaP256, Self::EcdsaP384, Self::Rsa2048, Self::Rsa3072, Self::Rsa4096];

    /// The word used in the API and in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EcdsaP256 => "ecdsa-p256",
            Self::EcdsaP384 => "ecdsa-p384",
            Self::Rsa2048 => "rsa-2048",
            Self::Rsa3072 => "rsa-3072",
            Self::Rsa4096 => "rsa-4096",
        }
    }

    /// Whether one takes a processor so long to make, up to seconds, that nobody may wait behind it.
    #[must_use]
    pub fn is_slow(self) -> bool {
        match self {
            Self::EcdsaP256 | Self::EcdsaP384 => false,
            Self::Rsa2048 | Self::Rsa3072 | Self::Rsa4096 => true,
        }
    }

    /// The type of the key with this SubjectPublicKeyInfo, DER; nothing where it is none of these.
    #[must_use]
    pub fn of(spki: &[u8]) -> Option<Self> {
        let (_, key) = SubjectPublicKeyInfo::from_der(spki).ok()?;
        match key.parsed().ok()? {
            PublicKey::EC(_) => {
                let curve = key.algorithm.parameters.as_ref()?.as_oid().ok()?.to_id_string();
                match curve.as_str() {
                    P256 => Some(Self::EcdsaP256),
                    P384 => Some(Self::EcdsaP384),
                    _ => None,
                }
            }
            PublicKey::RSA(key) => match key.key_size() {
                2048 => Some(Self::Rsa2048),
                3072 => Some(Self::Rsa3072),
                4096 => Some(Self::Rsa4096),
                _ => None,
            },
            _ => None,
        }
    }

    fn pair(self) -> Result<KeyPair, rcgen::Error> {
        let rsa = |size| KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size);
        match self {
            Self::EcdsaP256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
            Self::EcdsaP384 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
            Self::Rsa2048 => rsa(RsaKeySize::_2048),
            Self::Rsa3072 => rsa(RsaKeySize::_3072),
            Self::Rsa4096 => rsa(RsaKeySize::_4096),
        }
    }
}

/// The cryptographic library could not make a key or a request.
#[derive(Debug, thiserror::Error)]
#[error("a key and its signing request could not be made: {0}")]
pub struct CannotMakeKey(String);

/// A leaf key, and what goes to the CA.
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
        Self::of(&key_type.pair().map_err(refused)?, names)
    }

    /// A request for `names` with the key of an earlier version, PKCS #8 DER; nothing where that is of another type.
    ///
    /// # Errors
    /// When the cryptographic library refuses.
    pub fn keeping(
        pkcs8: &SecretSlice<u8>,
        key_type: KeyType,
        names: &[Identifier],
    ) -> Result<Option<Self>, CannotMakeKey> {
        let der = PrivatePkcs8KeyDer::from(pkcs8.expose_secret());
        let key = KeyPair::try_from(&der).map_err(refused)?;
        if KeyType::of(&key.subject_public_key_info()) != Some(key_type) {
            return Ok(None);
        }
        Self::of(&key, names).map(Some)
    }

    fn of(key: &KeyPair, names: &[Identifier]) -> Result<Self, CannotMakeKey> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names =
            names.iter().map(alternative_name).collect::<Result<_, _>>().map_err(refused)?;
        let csr = params.serialize_request(key).map_err(refused)?;
        Ok(Self {
            spki_sha256: Sha256::digest(key.subject_public_key_info()).into(),
            pkcs8: SecretSlice::from(key.serialize_der()),
            csr: csr.der().to_vec(),
        })
    }
}

fn refused(error: rcgen::Error) -> CannotMakeKey {
    CannotMakeKey(error.to_string())
}

/// Makes a key for an ACME account: ECDSA on P-256 (ES256, RFC 8555, 6.2), PKCS #8 DER. It is stored before the account
/// is registered, so that a registration whose answer was lost finds the same account.
///
/// # Errors
/// When the cryptographic library refuses.
pub fn account_key() -> Result<SecretSlice<u8>, CannotMakeKey> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256);
    key.map(|key| SecretSlice::from(key.serialize_der())).map_err(refused)
}

fn alternative_name(name: &Identifier) -> Result<SanType, rcgen::Error> {
    Ok(match name {
        Identifier::Dns(name) => SanType::DnsName(name.as_str().try_into()?),
        Identifier::Ip(IpAddr::V4(v4)) => SanType::IpAddress((*v4).into()),
        Identifier::Ip(IpAddr::V6(v6)) => SanType::IpAddress((*v6).into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::CertificateSigningRequestParams;
    use rustls_pki_types::CertificateSigningRequestDer;

    fn names() -> Vec<Identifier> {
        vec!["a.example.test".parse().unwrap()]
    }

    fn spki(csr: &[u8]) -> Vec<u8> {
        let csr = CertificateSigningRequestDer::from(csr.to_vec());
        let csr = CertificateSigningRequestParams::from_der(&csr).unwrap();
        csr.public_key.subject_public_key_info()
    }

    #[test]
    fn a_key_of_each_type_is_made_and_recognised_and_kept_where_the_type_is_the_same() {
        for made in KeyType::ALL {
            let first = KeyMaterial::generate(made, &names()).unwrap();
            let public = spki(&first.csr);
            assert_eq!(KeyType::of(&public), Some(made));
            assert_eq!(Sha256::digest(&public).as_slice(), first.spki_sha256);
            for wanted in KeyType::ALL {
                let kept = KeyMaterial::keeping(&first.pkcs8, wanted, &names()).unwrap();
                let kept = kept.map(|kept| kept.spki_sha256);
                assert_eq!(kept, (made == wanted).then_some(first.spki_sha256), "{made:?} for {wanted:?}");
            }
        }
    }

    #[test]
    fn no_two_keys_are_the_same_and_what_is_no_key_is_refused() {
        let made = |_| KeyMaterial::generate(KeyType::EcdsaP256, &names()).unwrap().spki_sha256;
        assert_ne!(made(1), made(2));
        let broken = SecretSlice::from(b"no key".to_vec());
        assert!(KeyMaterial::keeping(&broken, KeyType::EcdsaP256, &names()).is_err());
        assert_eq!(KeyType::of(b"no key"), None);
    }

    #[test]
    fn a_type_is_spelled_as_it_is_stored() {
        for one in KeyType::ALL {
            assert_eq!(serde_json::to_value(one).unwrap(), one.as_str());
        }
    }
}
