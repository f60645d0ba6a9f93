// SPDX-License-Identifier: Apache-2.0
//! A certificate as the CA issued it: read, and accepted only when it is what was asked for.

use std::collections::BTreeSet;
use std::net::IpAddr;

use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use sha2::{Digest, Sha256};
use x509_parser::asn1_rs::{Any, FromDer as _, Tag};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};

use crate::limits;
use crate::name::Identifier;
use crate::renewal_info::AriId;

/// Why an issued chain was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadChain {
    /// Not a chain of certificates.
    #[error("the CA's answer is not a PEM chain of X.509 certificates")]
    Unreadable,
    /// Longer than anything real.
    #[error("the CA's chain is longer than {limit} octets", limit = limits::CHAIN_OCTETS)]
    TooLong,
    /// Not for our key.
    #[error("the CA issued for another public key than the one in the signing request")]
    OtherKey,
    /// Not for our names.
    #[error("the CA issued for other names than the ones in the order")]
    OtherNames,
}

/// What a chain says about its leaf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// The chain, leaf first, PEM: its certificates, and nothing else that came with them.
    pub chain_pem: String,
    /// The serial number, lower-case hex.
    pub serial: String,
    /// SHA-256 of the leaf, lower-case hex.
    pub fingerprint_sha256: String,
    /// From when it is valid.
    pub not_before: Timestamp,
    /// Until when it is valid.
    pub not_after: Timestamp,
    /// What its CA calls it in renewal information (RFC 9773, 4.1); nothing when it names no issuer's key.
    pub ari_id: Option<AriId>,
    /// The common name of the issuer of the topmost certificate of the chain, by which chains are told apart.
    pub chain_issuer: Option<String>,
}

/// What a leaf is that was not accepted: for the record of why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presented {
    /// SHA-256 of the leaf, lower-case hex.
    pub fingerprint_sha256: String,
    /// SHA-256 of its SubjectPublicKeyInfo, lower-case hex.
    pub spki_sha256: String,
    /// Its names, as far as they are names that a certificate of ours could have.
    pub names: BTreeSet<Identifier>,
    /// How many names it has.
    pub names_count: usize,
}

impl Issued {
    /// Reads `chain_pem` and accepts it for the key and the names of an order.
    ///
    /// # Errors
    /// When it is not readable, or is not for this key and exactly these names.
    pub fn accept(chain_pem: String, spki: &[u8; 32], names: &[Identifier]) -> Result<Self, BadChain> {
        if chain_pem.len() > limits::CHAIN_OCTETS {
            return Err(BadChain::TooLong);
        }
        let chain = certificates(&chain_pem)?;
        let der = chain.first().ok_or(BadChain::Unreadable)?;
        let (_, leaf) = x509_parser::parse_x509_certificate(der).map_err(|_| BadChain::Unreadable)?;
        if !chain.iter().all(|der| is_one_sequence(der)) {
            return Err(BadChain::Unreadable);
        }
        if Sha256::digest(leaf.public_key().raw).as_slice() != spki {
            return Err(BadChain::OtherKey);
        }
        let wanted: BTreeSet<Identifier> = names.iter().cloned().collect();
        if alternative_names(&leaf)? != wanted {
            return Err(BadChain::OtherNames);
        }
        let time = |seconds| Timestamp::from_second(seconds).map_err(|_| BadChain::Unreadable);
        Ok(Self {
            serial: hex::encode(leaf.raw_serial()),
            fingerprint_sha256: hex::encode(Sha256::digest(der)),
            not_before: time(leaf.validity().not_before.timestamp())?,
            not_after: time(leaf.validity().not_after.timestamp())?,
            ari_id: ari_id(&leaf),
            chain_issuer: chain.last().and_then(issuer_name),
            chain_pem: encoded(&chain),
        })
    }
}

/// Whether these octets are one sequence and nothing behind it, as each certificate is. What is in those of the CA's own is for
/// whoever verifies the chain: our reader may not know all that theirs do.
fn is_one_sequence(der: &[u8]) -> bool {
    matches!(Any::from_der(der), Ok(([], any)) if any.tag() == Tag::Sequence)
}

/// RFC 8555, 9.1.
fn encoded(chain: &[CertificateDer<'_>]) -> String {
    let lines = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    let block =
        |der: &CertificateDer<'_>| pem::encode_config(&pem::Pem::new("CERTIFICATE", der.to_vec()), lines);
    chain.iter().map(block).collect()
}

/// What the first certificate of a chain is, whether or not it is accepted; nothing where there is none to be read.
#[must_use]
pub fn presented(chain_pem: &str) -> Option<Presented> {
    let within = Some(chain_pem).filter(|chain| chain.len() <= limits::CHAIN_OCTETS)?;
    let chain = certificates(within).ok()?;
    let der = chain.first()?;
    let (_, leaf) = x509_parser::parse_x509_certificate(der).ok()?;
    let extension = leaf.subject_alternative_name().ok()?;
    let names = extension.map(|found| found.value.general_names.as_slice()).unwrap_or_default();
    Some(Presented {
        fingerprint_sha256: hex::encode(Sha256::digest(der)),
        spki_sha256: hex::encode(Sha256::digest(leaf.public_key().raw)),
        names: names.iter().filter_map(|name| identifier(name).ok()).collect(),
        names_count: names.len(),
    })
}

fn certificates(chain_pem: &str) -> Result<Vec<CertificateDer<'static>>, BadChain> {
    let read = CertificateDer::pem_slice_iter(chain_pem.as_bytes()).collect::<Result<_, _>>();
    read.map_err(|_| BadChain::Unreadable)
}

/// The common name of who issued a certificate; one that is longer than any that can be asked for is cut.
fn issuer_name(der: &CertificateDer<'static>) -> Option<String> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    let name = certificate.issuer().iter_common_name().next()?.as_str().ok()?.to_owned();
    Some(name.chars().take(limits::CHAIN_NAME_CHARS).collect())
}

/// The first certificate of a chain, DER.
///
/// # Errors
/// When there is none to be read.
pub fn leaf_der(chain_pem: &str) -> Result<Vec<u8>, BadChain> {
    let chain = certificates(chain_pem)?;
    Ok(chain.first().ok_or(BadChain::Unreadable)?.to_vec())
}

/// SHA-256 of the SubjectPublicKeyInfo of a certificate, DER.
///
/// # Errors
/// When it is not a certificate.
pub fn spki_sha256(der: &[u8]) -> Result<[u8; 32], BadChain> {
    let (_, leaf) = x509_parser::parse_x509_certificate(der).map_err(|_| BadChain::Unreadable)?;
    Ok(Sha256::digest(leaf.public_key().raw).into())
}

fn ari_id(leaf: &X509Certificate<'_>) -> Option<AriId> {
    let authority = leaf.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(authority) => authority.key_identifier.as_ref(),
        _ => None,
    })?;
    AriId::new(authority.0, leaf.raw_serial())
}

fn alternative_names(leaf: &X509Certificate<'_>) -> Result<BTreeSet<Identifier>, BadChain> {
    let extension = leaf.subject_alternative_name().map_err(|_| BadChain::Unreadable)?;
    let names = extension.map(|found| found.value.general_names.as_slice()).unwrap_or_default();
    names.iter().map(identifier).collect()
}

fn identifier(name: &GeneralName<'_>) -> Result<Identifier, BadChain> {
    match name {
        // As it stands there: an address written as a name speaks for no address, nor does a name that only our own
        // reading of what people type would make one of ours.
        GeneralName::DNSName(name) => match name.parse() {
            Ok(Identifier::Dns(parsed)) if name.eq_ignore_ascii_case(&parsed) => Ok(Identifier::Dns(parsed)),
            _ => Err(BadChain::OtherNames),
        },
        GeneralName::IPAddress(octets) => {
            let address = match <[u8; 4]>::try_from(*octets) {
                Ok(v4) => IpAddr::from(v4),
                Err(_) => IpAddr::from(<[u8; 16]>::try_from(*octets).map_err(|_| BadChain::OtherNames)?),
            };
            Ok(Identifier::Ip(address))
        }
        // A name of a kind that no order of ours asks for.
        _ => Err(BadChain::OtherNames),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::{KeyMaterial, KeyType};
    use rcgen::{CertificateSigningRequestParams, Issuer, KeyPair};
    use rustls_pki_types::CertificateSigningRequestDer;

    fn issue(csr: &[u8]) -> String {
        let key = KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec![]).unwrap();
        let ca = Issuer::new(params, key);
        let csr = CertificateSigningRequestDer::from(csr.to_vec());
        CertificateSigningRequestParams::from_der(&csr).unwrap().signed_by(&ca).unwrap().pem()
    }

    #[test]
    fn a_certificate_is_called_by_its_issuers_key_and_its_serial_number_as_they_stand_in_it() {
        let key = KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
        params.key_identifier_method = rcgen::KeyIdMethod::PreSpecified(vec![0x69, 0x88]);
        let ca = Issuer::new(params, key);
        let wanted = names(&["a.example.test"]);
        let own = KeyMaterial::generate(KeyType::EcdsaP256, &wanted).unwrap();
        let csr = CertificateSigningRequestDer::from(own.csr.clone());
        let mut request = CertificateSigningRequestParams::from_der(&csr).unwrap();
        request.params.use_authority_key_identifier_extension = true;
        // Its first bit is set, so that it begins with an octet of zero where it stands.
        request.params.serial_number = Some(vec![0x87, 0x65].into());
        let chain = request.signed_by(&ca).unwrap().pem();
        let issued = Issued::accept(chain, &own.spki_sha256, &wanted).unwrap();
        assert_eq!(issued.serial, "008765");
        assert_eq!(issued.ari_id, AriId::new(&[0x69, 0x88], &[0x00, 0x87, 0x65]));
    }

    fn names(names: &[&str]) -> Vec<Identifier> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn only_our_key_and_exactly_our_names_are_accepted() {
        let wanted = names(&["a.example.test", "192.0.2.7", "2001:db8::7"]);
        let key = KeyMaterial::generate(KeyType::EcdsaP256, &wanted).unwrap();
        let chain = issue(&key.csr);
        let issued = Issued::accept(chain.clone(), &key.spki_sha256, &wanted).unwrap();
        assert!(issued.not_before < issued.not_after);
        assert_eq!(issued.ari_id, None, "a CA that names no key of its own has no renewal information");

        let other = KeyMaterial::generate(KeyType::EcdsaP384, &wanted).unwrap();
        assert_eq!(Issued::accept(chain.clone(), &other.spki_sha256, &wanted), Err(BadChain::OtherKey));
        for other in [&wanted[..2], &names(&["b.example.test", "192.0.2.7", "2001:db8::7"])] {
            assert_eq!(Issued::accept(chain.clone(), &key.spki_sha256, other), Err(BadChain::OtherNames));
        }
        assert_eq!(Issued::accept("hello".into(), &key.spki_sha256, &wanted), Err(BadChain::Unreadable));
    }

    #[test]
    fn a_chain_is_kept_as_its_certificates_alone_and_each_must_be_one() {
        let wanted = names(&["a.example.test"]);
        let key = KeyMaterial::generate(KeyType::EcdsaP256, &wanted).unwrap();
        let (leaf, other) = (issue(&key.csr), issue(&key.csr));
        let accept = |chain: String| Issued::accept(chain, &key.spki_sha256, &wanted);
        let foreign = pem::encode(&pem::Pem::new("PRIVATE KEY", vec![1, 2, 3]));
        let kept = accept(format!("{foreign}said the CA\n{leaf}{foreign}{other}")).unwrap();
        let blocks = pem::parse_many(&kept.chain_pem).unwrap();
        assert_eq!(blocks, [pem::parse(&leaf).unwrap(), pem::parse(&other).unwrap()]);
        assert_eq!(kept.chain_pem.lines().filter(|line| line.contains("BEGIN")).count(), 2);
        let damaged = pem::encode(&pem::Pem::new("CERTIFICATE", vec![0x30, 0x09, 1, 2, 3]));
        assert_eq!(accept(format!("{leaf}{damaged}")), Err(BadChain::Unreadable));
        let mut longer = pem::parse(&other).unwrap().into_contents();
        longer.push(0);
        let longer = pem::encode(&pem::Pem::new("CERTIFICATE", longer));
        assert_eq!(accept(format!("{leaf}{longer}")), Err(BadChain::Unreadable));
    }

    /// A chain for `names` as they are put down, with the key of `own`.
    fn signed(own: &KeyMaterial, names: Vec<rcgen::SanType>) -> String {
        let csr = CertificateSigningRequestDer::from(own.csr.clone());
        let mut request = CertificateSigningRequestParams::from_der(&csr).unwrap();
        request.params.subject_alt_names = names;
        let ca = Issuer::new(rcgen::CertificateParams::new(vec![]).unwrap(), KeyPair::generate().unwrap());
        request.signed_by(&ca).unwrap().pem()
    }

    #[test]
    fn names_are_equal_as_a_set_and_each_is_of_the_kind_that_was_asked_for() {
        let dns = |name: &str| rcgen::SanType::DnsName(name.try_into().unwrap());
        let address = rcgen::SanType::IpAddress("192.0.2.7".parse().unwrap());
        let wanted = names(&["a.example.test", "192.0.2.7"]);
        let own = KeyMaterial::generate(KeyType::EcdsaP256, &wanted).unwrap();
        let accept = |names| Issued::accept(signed(&own, names), &own.spki_sha256, &wanted).map(drop);
        assert_eq!(
            accept(vec![address.clone(), dns("A.example.test")]),
            Ok(()),
            "another order is the same set"
        );
        for wrong in [
            vec![dns("a.example.test")],
            vec![dns("a.example.test"), address.clone(), dns("b.example.test")],
            vec![
                dns("a.example.test"),
                address.clone(),
                rcgen::SanType::URI("https://a.test".try_into().unwrap()),
            ],
            vec![dns("a.example.test"), dns("192.0.2.7")],
            vec![dns("a.example.test."), address],
            vec![],
        ] {
            assert_eq!(accept(wrong.clone()), Err(BadChain::OtherNames), "{wrong:?}");
        }
    }

    #[test]
    fn what_was_not_accepted_can_be_told() {
        let (wanted, other) = (names(&["a.example.test"]), names(&["b.example.test"]));
        let own = KeyMaterial::generate(KeyType::EcdsaP256, &wanted).unwrap();
        let foreign = KeyMaterial::generate(KeyType::EcdsaP256, &other).unwrap();
        let chain = issue(&foreign.csr);
        assert_eq!(Issued::accept(chain.clone(), &own.spki_sha256, &wanted), Err(BadChain::OtherKey));
        let told = presented(&chain).unwrap();
        assert_eq!(told.spki_sha256, hex::encode(foreign.spki_sha256));
        assert_eq!(told.names.into_iter().collect::<Vec<_>>(), other);
        assert_eq!((told.fingerprint_sha256.len(), told.names_count), (64, 1));
        assert_eq!(presented("hello"), None);
    }

    #[test]
    fn a_chain_is_called_by_the_issuer_of_its_topmost_certificate() {
        let named = |name: &str| {
            let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
            params
        };
        let root = Issuer::new(named("The Root"), KeyPair::generate().unwrap());
        let (middle, middle_key) = (named("The Middle"), KeyPair::generate().unwrap());
        let middle_pem = middle.signed_by(&middle_key, &root).unwrap().pem();
        let wanted = names(&["a.example.test"]);
        let own = KeyMaterial::generate(KeyType::EcdsaP256, &wanted).unwrap();
        let csr = CertificateSigningRequestDer::from(own.csr.clone());
        let request = CertificateSigningRequestParams::from_der(&csr).unwrap();
        let leaf_pem = request.signed_by(&Issuer::new(middle, middle_key)).unwrap().pem();
        let called = |chain| Issued::accept(chain, &own.spki_sha256, &wanted).unwrap().chain_issuer;
        assert_eq!(called(format!("{leaf_pem}{middle_pem}")).as_deref(), Some("The Root"));
        assert_eq!(called(leaf_pem).as_deref(), Some("The Middle"));
    }
}
