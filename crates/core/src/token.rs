// SPDX-License-Identifier: Apache-2.0
//! API tokens: `cap_<kind>_<id>_<secret>_<crc32>`. The id finds the record, the secret proves it, the checksum lets
//! a mistyped token be told from a revoked one, and scanners recognise a leaked one.

use secrecy::{ExposeSecret, SecretString};

use crate::entropy::{self, Entropy};
use crate::id::TokenId;
use crate::secret::{self, SecretKey};

/// The kind of every token that speaks for a person or a program.
const KIND: &str = "api";

/// A text that cannot be a token of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the token is malformed: it was cut, mistyped, or is not a CertAutoPilot API token")]
pub struct BadToken;

/// A token as its bearer shows it.
#[derive(Debug)]
pub struct Token {
    id: TokenId,
    text: SecretString,
}

impl Token {
    /// A new token: 256 bits that nobody can guess.
    #[must_use]
    pub fn generate(id: TokenId, entropy: &dyn Entropy) -> Self {
        let secret = hex::encode(entropy::bytes::<32>(entropy));
        let id_hex = id.to_string().replace("tok_", "");
        let body = format!("cap_{KIND}_{id_hex}_{secret}");
        let text = format!("{body}_{:08x}", crc32fast::hash(body.as_bytes()));
        Self { id, text: text.into() }
    }

    /// Reads a token.
    ///
    /// # Errors
    /// When the text does not have the form, or its checksum is wrong.
    pub fn parse(text: &str) -> Result<Self, BadToken> {
        let (body, crc) = text.rsplit_once('_').ok_or(BadToken)?;
        let (head, secret) = body.rsplit_once('_').ok_or(BadToken)?;
        let id = head.strip_prefix("cap_").and_then(|rest| rest.strip_prefix(KIND)).ok_or(BadToken)?;
        let well_formed = secret.len() == 64
            && secret.bytes().all(|b| b.is_ascii_hexdigit())
            && crc == format!("{:08x}", crc32fast::hash(body.as_bytes()));
        if !well_formed {
            return Err(BadToken);
        }
        let id = format!("{}{id}", TokenId::PREFIX).parse().map_err(|_| BadToken)?;
        Ok(Self { id, text: text.to_owned().into() })
    }

    /// Which record to look up.
    #[must_use]
    pub fn id(&self) -> TokenId {
        self.id
    }

    /// What is stored instead of the token: HMAC-SHA-256 under the pepper.
    #[must_use]
    pub fn digest(&self, pepper: &SecretKey) -> [u8; 32] {
        secret::authenticate(pepper, self.text.expose_secret().as_bytes())
    }

    /// The text, to be shown once.
    #[must_use]
    pub fn into_text(self) -> SecretString {
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::tests::Seeded;
    use crate::secret::secret_key;
    use proptest::prelude::*;

    fn token(seed: u64) -> Token {
        let id = "tok_0192f0c1a3d27b4e8f6a5c4d3e2f1a0b".parse().unwrap();
        Token::generate(id, &Seeded::new(seed))
    }

    #[test]
    fn a_token_reads_back_and_one_changed_digit_does_not() {
        let text = token(1).into_text();
        let text = text.expose_secret();
        assert_eq!(Token::parse(text).unwrap().id(), token(1).id());
        for at in 0..text.len() {
            let mut other = text.to_owned().into_bytes();
            other[at] = if other[at] == b'0' { b'1' } else { b'0' };
            assert!(Token::parse(&String::from_utf8(other).unwrap()).is_err(), "digit {at}");
        }
    }

    #[test]
    fn a_digest_depends_on_the_secret_and_on_the_pepper() {
        let (pepper, other) = (secret_key([1; 32]), secret_key([2; 32]));
        assert_eq!(token(1).digest(&pepper), token(1).digest(&pepper));
        assert_ne!(token(1).digest(&pepper), token(2).digest(&pepper));
        assert_ne!(token(1).digest(&pepper), token(1).digest(&other));
    }

    proptest! {
        #[test]
        fn any_text_is_a_token_or_a_clear_error(text in "\\PC{0,200}|cap_api_[0-9a-f]{0,40}_[0-9a-f]{0,70}_[0-9a-f]{0,9}") {
            let _ = Token::parse(&text);
        }
    }
}
