// SPDX-License-Identifier: Apache-2.0
//! External account bindings (RFC 8555, 7.3.4): what a CA hands out to whom has an account with it already.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use serde::{Deserialize, Serialize};

use super::BadIssuer;
use crate::limits;

/// What the CA calls the external account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ExternalKeyId(String);

/// Both parts of a binding, ready to sign with.
#[derive(Debug, Clone)]
pub struct ExternalAccount {
    /// What the CA calls the external account.
    pub kid: ExternalKeyId,
    /// The key that the CA handed out with it.
    pub hmac_key: Arc<SecretSlice<u8>>,
}

/// Reads an HMAC key as CAs hand it out: base64url (RFC 4648, 5), padded or not.
///
/// # Errors
/// When it is not base64url, or has fewer octets than HS256 takes (RFC 7518, 3.2); the key is not in the error.
pub fn hmac_key(text: &SecretString) -> Result<SecretSlice<u8>, BadIssuer> {
    let text = text.expose_secret().trim().trim_end_matches('=');
    if text.len() > limits::EAB_KEY_OCTETS * 2 {
        return Err(BadIssuer::HmacKeyLength(text.len() / 4 * 3));
    }
    let key = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| BadIssuer::HmacKey)?;
    if !(limits::EAB_KEY_OCTETS_MIN..=limits::EAB_KEY_OCTETS).contains(&key.len()) {
        return Err(BadIssuer::HmacKeyLength(key.len()));
    }
    Ok(key.into())
}

impl FromStr for ExternalKeyId {
    type Err = BadIssuer;

    fn from_str(text: &str) -> Result<Self, BadIssuer> {
        let plain = text.bytes().all(|octet| octet.is_ascii_graphic());
        if text.is_empty() || text.len() > limits::EAB_KID_OCTETS || !plain {
            return Err(BadIssuer::ExternalKeyId(crate::name::excerpt(text)));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for ExternalKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<String> for ExternalKeyId {
    type Error = BadIssuer;

    fn try_from(text: String) -> Result<Self, BadIssuer> {
        text.parse()
    }
}

impl From<ExternalKeyId> for String {
    fn from(kid: ExternalKeyId) -> Self {
        kid.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<Vec<u8>, BadIssuer> {
        hmac_key(&text.into()).map(|key| key.expose_secret().to_vec())
    }

    #[test]
    fn a_key_is_read_with_padding_and_without() {
        let key: Vec<u8> = (200..=233).collect();
        let text = BASE64_URL_SAFE_NO_PAD.encode(&key);
        assert!(text.contains(['-', '_']), "the alphabet is that of base64url");
        for text in [text.clone(), format!("{text}=="), format!(" {text}\n")] {
            assert_eq!(read(&text), Ok(key.clone()), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_key_is_refused_without_being_quoted() {
        for (wrong, error) in [
            ("", BadIssuer::HmacKeyLength(0)),
            ("c2hvcnQ", BadIssuer::HmacKeyLength(5)),
            ("not base64url at all, but long enough to be a key", BadIssuer::HmacKey),
            ("ab+/ab+/ab+/ab+/ab+/ab+/ab+/ab+/ab+/ab+/ab+/", BadIssuer::HmacKey),
        ] {
            assert_eq!(read(wrong), Err(error.clone()), "{wrong:?}");
            assert!(wrong.len() < 2 || !error.to_string().contains(wrong));
        }
        assert!(matches!(read(&"a".repeat(10_000)), Err(BadIssuer::HmacKeyLength(7_500))));
    }

    #[test]
    fn a_key_id_is_one_word() {
        assert!("kid-1_/+=.~".parse::<ExternalKeyId>().is_ok());
        let long = "x".repeat(limits::EAB_KID_OCTETS + 1);
        for wrong in ["", "two words", "line\n", "bücher", &long] {
            assert!(wrong.parse::<ExternalKeyId>().is_err(), "{wrong:?} was accepted");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_key_or_refused(text in "\\PC{0,80}|[A-Za-z0-9_-]{0,80}={0,3}") {
            let _ = (read(&text), text.parse::<ExternalKeyId>());
        }
    }
}
