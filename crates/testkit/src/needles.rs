// SPDX-License-Identifier: Apache-2.0
//! Looking for octets in files: for secrets, which must be nowhere, and for what must be found lest the search prove nothing.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use aho_corasick::AhoCorasick;
use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};

/// Octets of a needle at least; shorter ones are found by chance.
const NEEDLE_OCTETS: usize = 8;
/// The beginning of every P-256 key in PKCS #8 (RFC 5208, RFC 5915), up to the scalar.
const P256_PKCS8: &[u8] = b"\x30\x81\x87\x02\x01\x00\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x04\x6d\x30\x6b\x02\x01\x01\x04\x20";
/// Octets of a P-256 scalar.
const SCALAR_OCTETS: usize = 32;
/// Octets in a line of PEM (RFC 7468, 2).
const LINE_OCTETS: usize = 48;
/// Beginnings of private keys in PKCS #8, as far as they are the same for all keys of a kind. Where the length of the whole
/// differs, what is ahead of it is left out.
const PKCS8: [(&str, &[u8]); 3] = [
    ("a P-256 key", b"\x30\x81\x87\x02\x01\x00\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06"),
    ("a P-384 key", b"\x30\x81\xb6\x02\x01\x00\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06"),
    ("an RSA key", b"\x02\x01\x00\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00\x04\x82"),
];
/// What the base64 of an RSA key in PKCS #8 has behind its length.
const RSA_BASE64: &str = "IBADANBgkqhkiG9w0BAQEFAASC";

/// What is looked for, by what it is.
#[derive(Clone, Debug, Default)]
pub struct Needles(Vec<(String, Vec<u8>)>);

impl Needles {
    /// Whatever looks like a private key, whosever it is.
    ///
    /// # Errors
    /// Never: all of it is long enough.
    pub fn private_keys() -> anyhow::Result<Self> {
        let mut needles = Self::default();
        needles.add("a PEM private key", "PRIVATE KEY-----")?;
        needles.add("an RSA key as base64", RSA_BASE64)?;
        for (what, beginning) in PKCS8 {
            needles.add_encoded(what, beginning)?;
        }
        Ok(needles)
    }

    /// These octets.
    ///
    /// # Errors
    /// When there are too few.
    pub fn add(&mut self, what: &str, octets: impl AsRef<[u8]>) -> anyhow::Result<()> {
        let octets = octets.as_ref();
        ensure!(octets.len() >= NEEDLE_OCTETS, "{what} is too short to look for");
        self.0.push((what.to_owned(), octets.to_vec()));
        Ok(())
    }

    /// These octets, and how they may be written.
    ///
    /// # Errors
    /// When there are too few.
    pub fn add_encoded(&mut self, what: &str, octets: &[u8]) -> anyhow::Result<()> {
        self.add(what, octets)?;
        self.add(&format!("{what} as hex"), hex::encode(octets))?;
        self.add(&format!("{what} as HEX"), hex::encode_upper(octets))?;
        self.add(&format!("{what} as base64"), BASE64_STANDARD.encode(octets).trim_end_matches('='))?;
        self.add(&format!("{what} as base64url"), BASE64_URL_SAFE_NO_PAD.encode(octets))
    }

    /// A P-256 key in PEM: the whole of it, each line with something of its scalar, and the scalar alone. What follows is the
    /// public key.
    ///
    /// # Errors
    /// When it is another kind of key.
    pub fn add_key(&mut self, what: &str, pem: &str) -> anyhow::Result<()> {
        let lines: Vec<&str> =
            pem.lines().filter(|line| line.len() >= NEEDLE_OCTETS && !line.starts_with('-')).collect();
        let der = BASE64_STANDARD.decode(lines.concat()).with_context(|| format!("{what} is no PEM"))?;
        ensure!(der.starts_with(P256_PKCS8), "{what} is no P-256 key in PKCS #8");
        let scalar = der.get(P256_PKCS8.len()..P256_PKCS8.len() + SCALAR_OCTETS);
        self.add_encoded(&format!("the scalar of {what}"), scalar.context("a key that is cut off")?)?;
        self.add_encoded(what, &der)?;
        let secret = (P256_PKCS8.len() + SCALAR_OCTETS).div_ceil(LINE_OCTETS);
        for (number, line) in lines.iter().take(secret).enumerate() {
            self.add(&format!("line {number} of {what}"), line)?;
        }
        Ok(())
    }

    /// What is in `hay`.
    ///
    /// # Errors
    /// When there are too many needles.
    pub fn in_octets(&self, hay: &[u8]) -> anyhow::Result<BTreeSet<String>> {
        Ok(self.found(&self.search()?, hay))
    }

    /// What is in the files under `path`, as `needle in file`.
    ///
    /// # Errors
    /// When a folder cannot be listed, or a file that is there cannot be read.
    pub fn under(&self, path: &Path) -> anyhow::Result<BTreeSet<String>> {
        let (search, mut found) = (self.search()?, BTreeSet::new());
        for file in files(path)? {
            let hay = match fs::read(&file) {
                Ok(hay) => hay,
                // One that went away meanwhile holds nothing any more.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error).with_context(|| format!("reading {}", file.display())),
            };
            found.extend(
                self.found(&search, &hay).into_iter().map(|what| format!("{what} in {}", file.display())),
            );
        }
        Ok(found)
    }

    fn search(&self) -> anyhow::Result<AhoCorasick> {
        Ok(AhoCorasick::new(self.0.iter().map(|(_, octets)| octets))?)
    }

    fn found(&self, search: &AhoCorasick, hay: &[u8]) -> BTreeSet<String> {
        let found = search.find_overlapping_iter(hay).filter_map(|hit| self.0.get(hit.pattern().as_usize()));
        found.map(|(what, _)| what.clone()).collect()
    }
}

/// The files under a folder, or the file itself.
fn files(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(path).with_context(|| format!("listing {}", path.display()))? {
        found.extend(files(&entry?.path())?);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_needle_is_found_wherever_it_lies_and_another_is_not() {
        let mut needles = Needles::default();
        needles.add("word", b"needle-in-hay").unwrap();
        needles.add("part of it", b"needle-in").unwrap();
        needles.add("key", [&[0, 0, 7][..], &[9; 29]].concat()).unwrap();
        for at in [0, 1, 4_091, 4_096, 12_275] {
            let mut hay = vec![0; 12_288];
            hay[at..at + 13].copy_from_slice(b"needle-in-hay");
            let both = BTreeSet::from(["part of it".to_owned(), "word".to_owned()]);
            assert_eq!(needles.in_octets(&hay).unwrap(), both, "{at}");
            hay[at] = b'N';
            assert_eq!(needles.in_octets(&hay).unwrap(), BTreeSet::new(), "{at}");
        }
        assert!(needles.add("short", b"1234567").is_err());
    }

    #[test]
    fn keys_of_every_kind_are_known_by_their_beginnings() {
        let all = Needles::private_keys().unwrap();
        let kinds = [
            (&rcgen::PKCS_ECDSA_P256_SHA256, "a P-256 key"),
            (&rcgen::PKCS_ECDSA_P384_SHA384, "a P-384 key"),
            (&rcgen::PKCS_RSA_SHA256, "an RSA key"),
        ];
        for (kind, what) in kinds {
            let key = rcgen::KeyPair::generate_for(kind).unwrap();
            let der = key.serialize_der();
            assert!(all.in_octets(&der).unwrap().contains(what), "{what}");
            let (pem, other) = (key.serialize_pem().replace(['\r', '\n'], ""), key.public_key_pem());
            let as_base64 = format!("{what} as base64");
            assert!(all.in_octets(pem.as_bytes()).unwrap().contains(&as_base64), "{what}");
            assert_eq!(all.in_octets(other.as_bytes()).unwrap(), BTreeSet::new(), "{what}");
        }
    }

    #[test]
    fn a_key_is_found_by_its_scalar_alone() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut needles = Needles::default();
        needles.add_key("the key", &key.serialize_pem()).unwrap();
        let scalar = &key.serialize_der()[P256_PKCS8.len()..][..SCALAR_OCTETS];
        let found = needles.in_octets(&[b"x", scalar, b"x"].concat()).unwrap();
        assert_eq!(found, BTreeSet::from(["the scalar of the key".to_owned()]));
        let pem = key.serialize_pem();
        for (number, line) in pem.lines().filter(|line| !line.starts_with('-')).enumerate() {
            let found = needles.in_octets(line.as_bytes()).unwrap();
            assert_eq!(found.contains(&format!("line {number} of the key")), number < 2, "{found:?}");
        }
        let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        assert!(needles.add_key("another kind", &other.serialize_pem()).is_err());
    }
}
