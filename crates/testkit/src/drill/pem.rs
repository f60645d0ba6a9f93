// SPDX-License-Identifier: Apache-2.0
//! Whether a certificate and a key belong together.

use anyhow::Context as _;
use rcgen::{KeyPair, PublicKeyData as _};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

/// Whether the first certificate of a PEM text certifies the public key of this private key.
pub(super) fn belong_together(certificate: &str, key: &str) -> anyhow::Result<bool> {
    let der = CertificateDer::from_pem_slice(certificate.as_bytes()).context("reading a certificate")?;
    let (_, leaf) = x509_parser::parse_x509_certificate(&der).context("parsing a certificate")?;
    let key = KeyPair::from_pem(key).context("reading a private key")?;
    Ok(leaf.public_key().raw == key.subject_public_key_info())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_belongs_to_its_own_key_alone() {
        let names = || vec!["a.example.test".to_owned()];
        let (own, other) =
            (rcgen::generate_simple_self_signed(names()), rcgen::generate_simple_self_signed(names()));
        let (own, other) = (own.unwrap(), other.unwrap());
        assert!(belong_together(&own.cert.pem(), &own.signing_key.serialize_pem()).unwrap());
        assert!(!belong_together(&own.cert.pem(), &other.signing_key.serialize_pem()).unwrap());
    }
}
