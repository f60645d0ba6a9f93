// SPDX-License-Identifier: Apache-2.0
//! A failure that is kept and shown: on a certificate, a job, an issuer.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Who must act for a failure to go away, and so how it is retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// The network or the CA had a passing fault; the same step is tried again.
    Transient,
    /// The CA asked us to slow down; we wait as long as it said.
    RateLimited,
    /// The CA could not validate a name, or refuses it; the owner of the name must act.
    Validation,
    /// The issuer's settings or its account are wrong; whoever runs the issuer must act.
    Configuration,
    /// The CA did what the protocol does not allow, or we did.
    Protocol,
}

/// A failure in the words of whoever reported it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Who must act.
    pub class: Class,
    /// The CA's problem type (RFC 8555, 6.7), or one of ours.
    #[serde(rename = "type")]
    pub kind: String,
    /// What happened and what to do, for people.
    pub detail: String,
    /// Before when whoever reported it does not want to be asked again (`Retry-After`). What came of that is stored, it is not.
    #[serde(skip)]
    pub retry_at: Option<Timestamp>,
}

impl Problem {
    /// A problem in our own words.
    pub fn new(class: Class, kind: &str, detail: impl Into<String>) -> Self {
        let mut detail: String = detail.into();
        if let Some((cut, _)) = detail.char_indices().nth(DETAIL_CHARS) {
            detail.truncate(cut);
        }
        let kind = kind.chars().take(KIND_CHARS).collect();
        Self { class, kind, detail, retry_at: None }
    }

    /// The same, with what follows from it or is to be done behind it.
    #[must_use]
    pub fn advised(&self, advice: &str) -> Self {
        let detail = format!("{}; {advice}", self.detail);
        Self { retry_at: self.retry_at, ..Self::new(self.class, &self.kind, detail) }
    }

    /// Whether it reads as `other` does, whenever their reporters want to be asked again.
    #[must_use]
    pub fn reads_as(&self, other: &Self) -> bool {
        (self.class, &self.kind, &self.detail) == (other.class, &other.kind, &other.detail)
    }

    /// The same, whose reporter does not want to be asked again before `retry_at`.
    #[must_use]
    pub fn not_before(self, retry_at: Option<Timestamp>) -> Self {
        Self { retry_at: self.retry_at.max(retry_at), ..self }
    }
}

/// The type of what is shown while a CA is waited for.
const WAITING: &str = "waiting-for-ca";

impl Problem {
    /// That a CA is busy with an order, and is asked again `at` that time.
    #[must_use]
    pub fn waiting(at: Timestamp) -> Self {
        let detail = format!(
            "the CA has not finished with the order yet; it is asked again at {at}, and nothing needs to be done meanwhile"
        );
        Self::new(Class::Transient, WAITING, detail)
    }

    /// Whether nothing failed: what is told is only that a CA is waited for.
    #[must_use]
    pub fn is_a_wait(&self) -> bool {
        self.kind == WAITING
    }
}

/// Characters of a type: it stands in audit leaves, and a CA chooses it.
const KIND_CHARS: usize = 200;
/// Characters of a detail: CAs quote whole answers of web servers.
const DETAIL_CHARS: usize = 2000;

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.detail, self.kind)
    }
}
