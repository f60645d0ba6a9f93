// SPDX-License-Identifier: Apache-2.0
//! What a certificate shall be: parsed once, valid from then on.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::certificate::KeyType;
use crate::limits;
use crate::name::{BadName, Identifier, excerpt};

/// Why a certificate cannot be asked for like this.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSpec {
    /// No names.
    #[error("names is empty; give at least one DNS name or IP address")]
    NoNames,
    /// Too many names.
    #[error("there are {0} names; one certificate takes at most {max}", max = limits::CERTIFICATE_NAMES)]
    TooManyNames(usize),
    /// A name stands there twice.
    #[error("{0} is named twice; name it once")]
    Duplicate(Identifier),
    /// One name is bad.
    #[error(transparent)]
    Name(#[from] BadName),
    /// A wildcard over HTTP-01.
    #[error("{0} is a wildcard, which HTTP-01 cannot validate (RFC 8555, 8.3); name each host instead")]
    WildcardOverHttp(Identifier),
    /// A profile that cannot be one.
    #[error("{0:?} is not a usable profile name: use 1 to {max} printable ASCII characters without spaces", max = limits::PROFILE_CHARS)]
    Profile(String),
    /// A chain's name that cannot be one.
    #[error(
        "{0:?} is not a usable name of a chain: give the common name of the issuer of its topmost certificate, 1 to {max} \
         characters in one line", max = limits::CHAIN_NAME_CHARS
    )]
    ChainName(String),
}

/// How control of a name is proved to the CA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
pub enum ChallengeType {
    /// A file on port 80 (RFC 8555, 8.3).
    #[default]
    #[serde(rename = "http-01")]
    Http01,
}

/// The names of one certificate: 1 to 100 different ones, as typed and as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    identifiers: Vec<Identifier>,
    typed: Vec<String>,
}

/// A CA's certificate profile, by its name in the directory.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Profile(String);

/// A chain, by the common name of the issuer of its topmost certificate.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ChainName(String);

/// Everything that is wanted of a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// What it speaks for.
    pub names: Names,
    /// The algorithm of its key.
    pub key_type: KeyType,
    /// Whether a renewal keeps the key of the version before, as long as that is of the same type.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub key_reuse: bool,
    /// How the names are validated.
    pub challenge: ChallengeType,
    /// The CA's profile, or the CA's default.
    pub profile: Option<Profile>,
    /// The chain that is taken if the CA offers it, or the CA's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_chain: Option<ChainName>,
    /// Whether it is renewed without being asked.
    pub auto_renew: bool,
}

impl Names {
    /// Reads names as typed.
    ///
    /// # Errors
    /// When there are none or too many, when one is bad, or when two are the same.
    pub fn parse(typed: Vec<String>) -> Result<Self, BadSpec> {
        match typed.len() {
            0 => return Err(BadSpec::NoNames),
            many if many > limits::CERTIFICATE_NAMES => return Err(BadSpec::TooManyNames(many)),
            _ => {}
        }
        let identifiers: Vec<Identifier> = typed.iter().map(|name| name.parse()).collect::<Result<_, _>>()?;
        let mut seen = BTreeSet::new();
        if let Some(twice) = identifiers.iter().find(|name| !seen.insert(*name)) {
            return Err(BadSpec::Duplicate(twice.clone()));
        }
        Ok(Self { identifiers, typed })
    }

    /// The names as stored and sent to the CA.
    #[must_use]
    pub fn identifiers(&self) -> &[Identifier] {
        &self.identifiers
    }

    /// The names as somebody typed them.
    #[must_use]
    pub fn typed(&self) -> &[String] {
        &self.typed
    }

    /// SHA-256 of the sorted names: the same for the same set, in whatever order it was given.
    #[must_use]
    pub fn set_sha256(&self) -> [u8; 32] {
        let sorted: BTreeSet<String> = self.identifiers.iter().map(ToString::to_string).collect();
        let joined: Vec<String> = sorted.into_iter().collect();
        Sha256::digest(joined.join("\n")).into()
    }
}

impl TryFrom<String> for Profile {
    type Error = BadSpec;

    fn try_from(text: String) -> Result<Self, BadSpec> {
        let fits = (1..=limits::PROFILE_CHARS).contains(&text.len());
        if fits && text.bytes().all(|b| b.is_ascii_graphic()) && !text.starts_with('$') {
            Ok(Self(text))
        } else {
            Err(BadSpec::Profile(excerpt(&text)))
        }
    }
}

impl From<Profile> for String {
    fn from(profile: Profile) -> Self {
        profile.0
    }
}

impl TryFrom<String> for ChainName {
    type Error = BadSpec;

    fn try_from(text: String) -> Result<Self, BadSpec> {
        let fits = (1..=limits::CHAIN_NAME_CHARS).contains(&text.chars().count());
        if fits && text.trim() == text && !text.chars().any(char::is_control) {
            Ok(Self(text))
        } else {
            Err(BadSpec::ChainName(excerpt(&text)))
        }
    }
}

impl From<ChainName> for String {
    fn from(name: ChainName) -> Self {
        name.0
    }
}

impl ChainName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Profile {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Spec {
    /// Checks what only the whole shows: whether each name can be validated by the chosen challenge.
    ///
    /// # Errors
    /// When one cannot.
    pub fn check(self) -> Result<Self, BadSpec> {
        match self.challenge {
            ChallengeType::Http01 => match self.names.identifiers().iter().find(|name| name.is_wildcard()) {
                Some(name) => Err(BadSpec::WildcardOverHttp(name.clone())),
                None => Ok(self),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Result<Names, BadSpec> {
        Names::parse(names.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_set_of_names_has_one_hash_whatever_its_order_and_spelling() {
        let one = names(&["a.example", "Bücher.example"]).unwrap();
        let two = names(&["xn--bcher-kva.example", "A.example."]).unwrap();
        assert_eq!(one.set_sha256(), two.set_sha256());
        assert_eq!(one.typed()[1], "Bücher.example");
        assert_ne!(one.set_sha256(), names(&["a.example"]).unwrap().set_sha256());
    }

    #[test]
    fn empty_too_many_and_doubled_names_are_refused() {
        assert_eq!(names(&[]), Err(BadSpec::NoNames));
        let many: Vec<String> = (0..101).map(|n| format!("h{n}.example")).collect();
        assert_eq!(Names::parse(many), Err(BadSpec::TooManyNames(101)));
        assert!(matches!(names(&["a.example", "A.EXAMPLE"]), Err(BadSpec::Duplicate(_))));
    }

    #[test]
    fn wildcards_need_another_challenge_than_http() {
        let spec = |name| Spec {
            names: names(&[name]).unwrap(),
            key_type: KeyType::default(),
            key_reuse: false,
            challenge: ChallengeType::Http01,
            profile: None,
            preferred_chain: None,
            auto_renew: true,
        };
        assert!(matches!(spec("*.a.example").check(), Err(BadSpec::WildcardOverHttp(_))));
        assert!(spec("a.example").check().is_ok());
    }

    #[test]
    fn a_chain_is_named_in_one_line() {
        let name = |text: &str| ChainName::try_from(text.to_owned());
        for good in ["ISRG Root X1", "Pebble Root CA 0a1b2c", "Ü"] {
            assert_eq!(name(good).unwrap().as_str(), good);
        }
        for wrong in ["", " ", "a ", "a\nb", "a\u{0}", &"x".repeat(limits::CHAIN_NAME_CHARS + 1)] {
            assert!(matches!(name(wrong), Err(BadSpec::ChainName(_))), "{wrong:?}");
        }
    }
}
