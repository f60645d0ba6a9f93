// SPDX-License-Identifier: Apache-2.0
//! Reading certificates and keys.

use std::collections::BTreeSet;
use std::net::IpAddr;

use cap_core::certificate::KeyType;
use rcgen::{KeyPair, PublicKeyData};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::extensions::GeneralName;

/// What a test wants to know of a leaf.
pub(crate) struct Leaf {
    /// Names and addresses.
    pub(crate) names: BTreeSet<String>,
    /// The type of its key.
    pub(crate) key_type: Option<KeyType>,
    /// The SubjectPublicKeyInfo, DER.
    pub(crate) spki: Vec<u8>,
}

impl Leaf {
    /// The first certificate of a PEM text.
    pub(crate) fn read(pem: &str) -> Self {
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let (_, leaf) = x509_parser::parse_x509_certificate(&der).unwrap();
        let names = leaf.subject_alternative_name().unwrap().unwrap().value.general_names.iter();
        let names = names.map(|name| match name {
            GeneralName::DNSName(name) => (*name).to_owned(),
            GeneralName::IPAddress(v4) => IpAddr::from(<[u8; 4]>::try_from(*v4).unwrap()).to_string(),
            other => panic!("unexpected name {other}"),
        });
        let key = leaf.public_key();
        Self { names: names.collect(), key_type: KeyType::of(key.raw), spki: key.raw.to_vec() }
    }
}

/// How many certificates a PEM text has.
pub(crate) fn count(pem: &str) -> usize {
    pem.matches("-----BEGIN CERTIFICATE-----").count()
}

/// The SubjectPublicKeyInfo of a private key.
pub(crate) fn spki_of_key(pem: &str) -> Vec<u8> {
    KeyPair::from_pem(pem).unwrap().subject_public_key_info()
}
