// SPDX-License-Identifier: Apache-2.0
//! What was seen at each name, and what it means for the certificate.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::drift::{DriftState, Look, Seen};
use crate::name::Identifier;

/// Characters of an issuer's name and of a reason that are kept: the server chooses them.
const TEXT_CHARS: usize = 300;

/// What one name showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SightingState {
    /// The current version.
    Served,
    /// Another certificate.
    Drifted,
    /// Nothing: it could not be looked at.
    Unreachable,
    /// It was not looked at: a wildcard without a configured host.
    LeftOut,
}

/// What was seen at one name: of several addresses the one that tells most.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sighting {
    /// The certificate's name.
    pub name: Identifier,
    /// What it showed.
    pub state: SightingState,
    /// The address that was connected to, with the port.
    pub address: Option<String>,
    /// The serial number of the leaf that was served, hex.
    pub serial: Option<String>,
    /// SHA-256 of that leaf, hex.
    pub fingerprint_sha256: Option<String>,
    /// Until when that leaf is valid.
    pub not_after: Option<Timestamp>,
    /// Who issued it, in its own words.
    pub issuer: Option<String>,
    /// Why nothing was seen.
    pub detail: Option<String>,
}

impl SightingState {
    /// The word used in the API and in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Served => "served",
            Self::Drifted => "drifted",
            Self::Unreachable => "unreachable",
            Self::LeftOut => "left_out",
        }
    }
}

impl Sighting {
    fn bare(name: Identifier, state: SightingState, detail: Option<&str>) -> Self {
        let detail = detail.map(told);
        Self {
            name,
            state,
            address: None,
            serial: None,
            fingerprint_sha256: None,
            not_after: None,
            issuer: None,
            detail,
        }
    }

    /// A wildcard without a configured host.
    #[must_use]
    pub fn left_out(name: Identifier) -> Self {
        let why = "a wildcard has no host of its own, so it is not looked at; set the certificate's drift.host to a host \
                   that serves it";
        Self::bare(name, SightingState::LeftOut, Some(why))
    }

    /// What a leaf says about itself. One that cannot be read is told by its hash alone.
    fn presented(name: Identifier, seen: &Seen, der: &[u8], current: &str) -> Self {
        let fingerprint = hex::encode(Sha256::digest(der));
        let is_current = fingerprint == current;
        let state = if is_current { SightingState::Served } else { SightingState::Drifted };
        let leaf = x509_parser::parse_x509_certificate(der).ok().map(|(_, leaf)| leaf);
        Self {
            address: seen.address.map(|address| address.to_string()),
            serial: leaf.as_ref().map(|leaf| told(&hex::encode(leaf.raw_serial()))),
            fingerprint_sha256: Some(fingerprint),
            not_after: leaf
                .as_ref()
                .and_then(|leaf| Timestamp::from_second(leaf.validity().not_after.timestamp()).ok()),
            issuer: leaf.as_ref().map(|leaf| told(&leaf.issuer().to_string())),
            ..Self::bare(name, state, None)
        }
    }
}

/// What the addresses of one name showed together, beside the SHA-256 (hex) of the current version's leaf: another
/// certificate at one of them is drift, and one that serves the current version makes up for one that does not answer.
#[must_use]
pub fn judge(look: &Look, seen: &[Seen], current: &str) -> Sighting {
    let sightings = seen.iter().map(|seen| match &seen.leaf {
        Ok(der) => Sighting::presented(look.name.clone(), seen, der, current),
        Err(why) => Sighting {
            address: seen.address.map(|address| address.to_string()),
            ..Sighting::bare(look.name.clone(), SightingState::Unreachable, Some(why))
        },
    });
    let weight = |sighting: &Sighting| match sighting.state {
        SightingState::Drifted => 0,
        SightingState::Served => 1,
        SightingState::Unreachable => 2,
        SightingState::LeftOut => 3,
    };
    let nothing = || Sighting::bare(look.name.clone(), SightingState::Unreachable, Some("it has no address"));
    sightings.min_by_key(weight).unwrap_or_else(nothing)
}

/// What the names mean for the certificate.
#[must_use]
pub fn state(sightings: &[Sighting]) -> DriftState {
    let any = |state| sightings.iter().any(|sighting| sighting.state == state);
    if any(SightingState::Drifted) {
        DriftState::Drifted
    } else if any(SightingState::Unreachable) || !any(SightingState::Served) {
        DriftState::Unreachable
    } else {
        DriftState::Served
    }
}

/// Words of others: one line, of a bounded length.
fn told(text: &str) -> String {
    text.chars().take(TEXT_CHARS).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn look() -> Look {
        let name: Identifier = "a.example.test".parse().unwrap();
        Look { host: name.to_string(), server_name: name.to_string(), name, port: 443 }
    }

    fn leaf(serial: u64) -> Vec<u8> {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["a.example.test".to_owned()]).unwrap();
        params.serial_number = Some(serial.into());
        params.self_signed(&key).unwrap().der().to_vec()
    }

    fn seen(leaf: Result<Vec<u8>, String>) -> Seen {
        Seen { address: Some("192.0.2.7:443".parse().unwrap()), leaf }
    }

    #[test]
    fn another_leaf_is_drift_with_all_that_it_says_about_itself() {
        let (ours, other) = (leaf(7), leaf(0x0a0b));
        let current = hex::encode(Sha256::digest(&ours));
        let served = judge(&look(), &[seen(Ok(ours.clone()))], &current);
        assert_eq!(served.state, SightingState::Served);
        let drifted = judge(&look(), &[seen(Ok(ours)), seen(Ok(other.clone()))], &current);
        assert_eq!(drifted.state, SightingState::Drifted);
        assert_eq!(drifted.serial.as_deref(), Some("0a0b"));
        assert_eq!(drifted.fingerprint_sha256, Some(hex::encode(Sha256::digest(&other))));
        assert_eq!(drifted.address.as_deref(), Some("192.0.2.7:443"));
        assert!(drifted.not_after.is_some() && drifted.issuer.is_some() && drifted.detail.is_none());
    }

    #[test]
    fn a_leaf_that_cannot_be_read_is_drift_all_the_same() {
        let sighting = judge(&look(), &[seen(Ok(b"not a certificate".to_vec()))], "00");
        assert_eq!((sighting.state, sighting.serial), (SightingState::Drifted, None));
    }

    #[test]
    fn an_address_that_does_not_answer_counts_only_where_no_other_does() {
        let ours = leaf(7);
        let current = hex::encode(Sha256::digest(&ours));
        let silent = || seen(Err("no answer\u{1b}[2J".to_owned()));
        let sighting = judge(&look(), &[silent()], &current);
        assert_eq!(sighting.state, SightingState::Unreachable);
        assert_eq!(sighting.detail.as_deref(), Some("no answer\u{fffd}[2J"));
        assert_eq!(judge(&look(), &[silent(), seen(Ok(ours))], &current).state, SightingState::Served);
        assert_eq!(judge(&look(), &[silent(), seen(Ok(leaf(8)))], &current).state, SightingState::Drifted);
        assert_eq!(judge(&look(), &[], &current).state, SightingState::Unreachable);
    }

    fn states() -> impl Strategy<Value = Vec<SightingState>> {
        use SightingState::{Drifted, LeftOut, Served, Unreachable};
        let one = prop_oneof![Just(Served), Just(Drifted), Just(Unreachable), Just(LeftOut)];
        proptest::collection::vec(one, 0..8)
    }

    proptest! {
        #[test]
        fn served_means_that_every_name_that_was_looked_at_serves_it(states in states()) {
            let name: Identifier = "a.example.test".parse().unwrap();
            let sightings: Vec<_> = states.iter().map(|s| Sighting::bare(name.clone(), *s, None)).collect();
            let looked: Vec<_> = states.iter().filter(|s| **s != SightingState::LeftOut).collect();
            let expected = if looked.contains(&&SightingState::Drifted) {
                DriftState::Drifted
            } else if !looked.is_empty() && looked.iter().all(|s| **s == SightingState::Served) {
                DriftState::Served
            } else {
                DriftState::Unreachable
            };
            prop_assert_eq!(state(&sightings), expected);
        }
    }
}
