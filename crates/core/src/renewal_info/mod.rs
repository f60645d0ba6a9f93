// SPDX-License-Identifier: Apache-2.0
//! Renewal information (ARI, RFC 9773): when the CA wants a certificate renewed, what is made of it, and when it is asked
//! again. All of it is decided here from plain values; whoever asks the CA and writes down the answer is elsewhere.

mod look;
#[cfg(test)]
mod tests;
mod window;

pub use look::{Judged, Watched, first_look, judge};
pub use window::{BadWindow, Suggestion, Window};

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::limits;

/// What a CA calls a certificate that it issued (RFC 9773, 4.1): its issuer's key identifier and its serial number.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct AriId(String);

/// A text that is no [`AriId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not two parts of base64url with a dot between them (RFC 9773, 4.1)")]
pub struct BadAriId(String);

impl AriId {
    /// Of the authority key identifier and the serial number, each as it stands in the certificate, without tag and length.
    /// Nothing when one of them is empty.
    #[must_use]
    pub fn new(authority_key_identifier: &[u8], serial: &[u8]) -> Option<Self> {
        let parts = [authority_key_identifier, serial];
        if parts.iter().any(|part| part.is_empty()) {
            return None;
        }
        let id = parts.map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
        (id.len() <= limits::ARI_ID_OCTETS).then_some(Self(id))
    }

    /// Its two parts, as they are sent.
    #[must_use]
    pub fn parts(&self) -> (&str, &str) {
        self.0.split_once('.').unwrap_or((&self.0, ""))
    }
}

impl TryFrom<String> for AriId {
    type Error = BadAriId;

    fn try_from(text: String) -> Result<Self, BadAriId> {
        let decoded = |part: &str| URL_SAFE_NO_PAD.decode(part).unwrap_or_default();
        let read = text.split_once('.').and_then(|(key, serial)| Self::new(&decoded(key), &decoded(serial)));
        match read {
            Some(id) if id.0 == text => Ok(id),
            _ => Err(BadAriId(text.chars().take(limits::ARI_ID_OCTETS).collect())),
        }
    }
}

impl From<AriId> for String {
    fn from(id: AriId) -> Self {
        id.0
    }
}

impl fmt::Display for AriId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a CA said of when to renew (RFC 9773, 4.2): as it came, not judged yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenewalInfo {
    /// Where the window begins.
    pub start: Timestamp,
    /// Where it ends.
    pub end: Timestamp,
    /// A page that tells people why.
    pub explanation_url: Option<String>,
    /// When it may be asked for again, if the CA said so.
    pub retry_after: Option<Timestamp>,
}
