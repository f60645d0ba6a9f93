// SPDX-License-Identifier: Apache-2.0
//! HTTP-01 challenges (RFC 8555, 8.3): what the CA fetches, and what we answer.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::{OrderId, ProjectId};

/// Characters of a challenge token at most: the base64url alphabet, and room beyond the 22 that RFC 8555 asks for.
const TOKEN_CHARS: usize = 256;

/// A challenge token in the alphabet that RFC 8555 prescribes; anything else is not looked up.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ChallengeToken(String);

/// A text that is not a challenge token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a challenge token is 1 to {TOKEN_CHARS} characters of the base64url alphabet (RFC 8555, 8.3)")]
pub struct BadToken;

/// What to answer when the CA asks for a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChallengeAnswer {
    /// The token in the URL.
    pub token: ChallengeToken,
    /// The key authorization: the whole body of the answer.
    pub key_authorization: String,
    /// Whose.
    pub project: ProjectId,
    /// For which order.
    pub order: OrderId,
    /// When it may be forgotten.
    pub expires_at: Timestamp,
}

impl TryFrom<String> for ChallengeToken {
    type Error = BadToken;

    fn try_from(text: String) -> Result<Self, BadToken> {
        let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if plain && (1..=TOKEN_CHARS).contains(&text.len()) { Ok(Self(text)) } else { Err(BadToken) }
    }
}

impl From<ChallengeToken> for String {
    fn from(token: ChallengeToken) -> Self {
        token.0
    }
}

impl fmt::Display for ChallengeToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_base64url_and_nothing_else() {
        assert!(ChallengeToken::try_from("evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA".to_owned()).is_ok());
        for wrong in ["", "a/b", "../x", "a.b", "$ne", "a b", "é", &"a".repeat(257)] {
            assert!(ChallengeToken::try_from(wrong.to_owned()).is_err(), "{wrong:?} was accepted");
        }
    }
}
