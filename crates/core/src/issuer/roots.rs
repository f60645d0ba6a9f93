// SPDX-License-Identifier: Apache-2.0
//! Trust roots: certificates and nothing else. Whatever else was pasted with them is refused or dropped, never kept.

use std::fmt;
use std::str::FromStr;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};

use super::BadIssuer;
use crate::limits;
use crate::name::excerpt;

const LABEL: &str = "CERTIFICATE";

/// The certificates that the CA's HTTPS server is trusted by, as PEM: written anew from the certificates read, so that
/// no other text is stored or shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct TrustRoots(String);

impl TrustRoots {
    /// The certificates, DER.
    pub fn certificates(&self) -> impl Iterator<Item = CertificateDer<'static>> + '_ {
        CertificateDer::pem_slice_iter(self.0.as_bytes()).filter_map(Result::ok)
    }
}

impl FromStr for TrustRoots {
    type Err = BadIssuer;

    /// Reads what a client sends. Text between the blocks is allowed, and dropped: `openssl x509 -text` prints some.
    fn from_str(text: &str) -> Result<Self, BadIssuer> {
        if text.len() > limits::TRUST_ROOTS_OCTETS {
            return Err(bad("it is longer than 64 KiB"));
        }
        if let Some(label) = labels(text).find(|label| label.contains("PRIVATE KEY")) {
            return Err(bad(format!(
                "it holds a private key ({}); send the CA's root certificates only",
                excerpt(label)
            )));
        }
        if let Some(label) = labels(text).find(|label| *label != LABEL) {
            return Err(bad(format!(
                "it holds a block {:?}; send the CA's root certificates only, as -----BEGIN CERTIFICATE----- blocks",
                excerpt(label)
            )));
        }
        let certificates = read(text)?;
        if certificates.iter().any(|der| whole(der).is_none_or(|rest| rest > 0)) {
            return Err(bad("a block is not an X.509 certificate"));
        }
        let roots = write(&certificates);
        if roots.len() > limits::TRUST_ROOTS_OCTETS {
            return Err(bad("it is longer than 64 KiB"));
        }
        Ok(Self(roots))
    }
}

impl TryFrom<String> for TrustRoots {
    type Error = BadIssuer;

    /// Reads what is stored. Earlier versions kept the text as it was sent; here, too, only its certificates are taken.
    fn try_from(text: String) -> Result<Self, BadIssuer> {
        let certificates = read(&text)?;
        let clean = certificates.iter().map(|der| match whole(der) {
            Some(rest) => Ok(der[..der.len() - rest].to_vec().into()),
            None => Err(bad("a block is not an X.509 certificate")),
        });
        Ok(Self(write(&clean.collect::<Result<Vec<_>, _>>()?)))
    }
}

impl From<TrustRoots> for String {
    fn from(roots: TrustRoots) -> Self {
        roots.0
    }
}

impl fmt::Display for TrustRoots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn bad(reason: impl Into<String>) -> BadIssuer {
    BadIssuer::TrustRoots(reason.into())
}

/// What the blocks say they are.
fn labels(text: &str) -> impl Iterator<Item = &str> {
    let starts = text.split("-----BEGIN ").skip(1);
    starts.map(|rest| rest.split(['-', '\r', '\n']).next().unwrap_or(rest))
}

fn read(text: &str) -> Result<Vec<CertificateDer<'static>>, BadIssuer> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    let found = found.map_err(|_| bad("it is not PEM; paste whole -----BEGIN CERTIFICATE----- blocks"))?;
    if found.is_empty() {
        return Err(bad("it contains no -----BEGIN CERTIFICATE----- block"));
    }
    if found.len() > limits::TRUST_ROOTS {
        return Err(bad("it contains more than 16 certificates"));
    }
    Ok(found)
}

/// How many octets stand behind the certificate; nothing when it is none.
fn whole(der: &CertificateDer<'_>) -> Option<usize> {
    x509_parser::parse_x509_certificate(der).ok().map(|(rest, _)| rest.len())
}

fn write(certificates: &[CertificateDer<'_>]) -> String {
    let lines = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    let blocks =
        certificates.iter().map(|der| pem::encode_config(&pem::Pem::new(LABEL, der.to_vec()), lines));
    blocks.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A root's certificate and key.
    fn root() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["root.example.test".to_owned()]).unwrap();
        (made.cert.pem().replace("\r\n", "\n"), made.signing_key.serialize_pem())
    }

    #[test]
    fn a_private_key_among_the_roots_is_refused_and_not_repeated() {
        let (root, key) = root();
        let octets = key.lines().nth(1).unwrap().to_owned();
        for kind in ["PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "OPENSSH PRIVATE KEY"] {
            let key = key.replace("PRIVATE KEY", kind);
            for both in [format!("{root}{key}"), format!("{key}{root}"), format!("{root} {key}"), key.clone()]
            {
                let refused = both.parse::<TrustRoots>().unwrap_err().to_string();
                assert!(refused.contains(&format!("it holds a private key ({kind})")), "{refused}");
                assert!(!refused.contains(&octets), "{refused}");
            }
        }
    }

    #[test]
    fn a_block_of_another_kind_is_refused_by_its_label() {
        let (root, _) = root();
        for kind in ["TRUSTED CERTIFICATE", "X509 CRL", "CERTIFICATE REQUEST", "PUBLIC KEY", "anything"] {
            let both = format!("{root}-----BEGIN {kind}-----\nAAAA\n-----END {kind}-----\n");
            let refused = both.parse::<TrustRoots>().unwrap_err().to_string();
            assert!(refused.contains(&format!("{kind:?}")), "{refused}");
        }
    }

    #[test]
    fn only_the_certificates_are_kept() {
        let ((one, _), (other, _)) = (root(), root());
        let roots: TrustRoots =
            format!("Certificate:\n    Data: x\n{one}# hunter2\n{other}bye").parse().unwrap();
        assert_eq!(roots.to_string(), format!("{one}{other}"));
        assert_eq!(roots.certificates().count(), 2);
        assert_eq!(roots.to_string().parse::<TrustRoots>().unwrap(), roots, "what is shown can be sent");
    }

    #[test]
    fn octets_behind_a_certificate_are_refused() {
        let (root, key) = root();
        let mut der = pem::parse(&root).unwrap().into_contents();
        der.extend(pem::parse(&key).unwrap().contents());
        let refused = pem::encode(&pem::Pem::new(LABEL, der)).parse::<TrustRoots>();
        assert!(refused.is_err(), "{refused:?}");
    }

    #[test]
    fn what_an_earlier_version_stored_is_read_without_what_is_no_certificate() {
        let (root, key) = root();
        let stored = serde_json::json!(format!("by hand\n{key}{root}"));
        let read: TrustRoots = serde_json::from_value(stored).unwrap();
        assert_eq!(read.to_string(), root);
    }
}
