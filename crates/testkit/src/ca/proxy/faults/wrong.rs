// SPDX-License-Identifier: Apache-2.0
//! Certificates that nobody asked for.

use anyhow::{Context as _, bail};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, IsCa, KeyPair,
    PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::X509Certificate;

use super::rule::Wrong;

/// The name in a certificate with other names.
const OTHER_NAME: &str = "somebody-else.example.test";
/// Octets of an uncompressed P-256 point.
const P256_POINT_OCTETS: usize = 65;

/// A chain in the place of this one, with an issuer of its own.
pub(super) fn instead_of(chain: &[u8], wrong: Wrong) -> anyhow::Result<String> {
    let der = CertificateDer::from_pem_slice(chain).context("the CA's answer holds no certificate")?;
    let (_, leaf) = x509_parser::parse_x509_certificate(&der).context("the CA's certificate")?;
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
    let made = match wrong {
        Wrong::Key => params(names_of(&leaf)?)?.signed_by(&KeyPair::generate()?, &issuer)?,
        Wrong::Names => params(vec![OTHER_NAME.to_owned()])?.signed_by(&Point::of(&leaf)?, &issuer)?,
    };
    Ok(format!("{}{}", made.pem(), issuer.pem()))
}

fn params(names: Vec<String>) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    Ok(params)
}

fn names_of(leaf: &X509Certificate<'_>) -> anyhow::Result<Vec<String>> {
    let names = leaf.subject_alternative_name()?.context("the CA's certificate has no names")?;
    let names = names.value.general_names.iter();
    Ok(names
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        })
        .collect())
}

/// The public key of somebody else.
struct Point(Vec<u8>);

impl Point {
    fn of(leaf: &X509Certificate<'_>) -> anyhow::Result<Self> {
        let point = &leaf.public_key().subject_public_key.data;
        if point.len() != P256_POINT_OCTETS {
            bail!("other names are only put to P-256 keys");
        }
        Ok(Self(point.to_vec()))
    }
}

impl PublicKeyData for Point {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key and the names of the first certificate of a chain.
    fn read(chain: &str) -> (Vec<u8>, Vec<String>) {
        let der = CertificateDer::from_pem_slice(chain.as_bytes()).unwrap();
        let (_, leaf) = x509_parser::parse_x509_certificate(&der).unwrap();
        (leaf.public_key().raw.to_vec(), names_of(&leaf).unwrap())
    }

    #[test]
    fn one_thing_is_wrong_and_the_other_right() {
        let right = rcgen::generate_simple_self_signed(vec!["a.example.test".to_owned()]).unwrap().cert.pem();
        let (key, names) = read(&right);
        let (other_key, same_names) = read(&instead_of(right.as_bytes(), Wrong::Key).unwrap());
        assert!(other_key != key && same_names == names);
        let (same_key, other_names) = read(&instead_of(right.as_bytes(), Wrong::Names).unwrap());
        assert!(same_key == key && other_names == [OTHER_NAME]);
    }

    #[test]
    fn what_is_no_chain_cannot_be_made_wrong() {
        assert!(instead_of(b"{}", Wrong::Key).is_err());
    }
}
