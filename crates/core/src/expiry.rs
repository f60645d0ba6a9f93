// SPDX-License-Identifier: Apache-2.0
//! Notices that a certificate runs out although it should have been renewed: when one is due, and why it came to that.
//!
//! The thresholds lie behind every time at which a renewal is planned, so a certificate that is renewed in time makes none.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::clock::{later, until};
use crate::id::{CertificateId, VersionId};
use crate::problem::Problem;

/// How far a certificate has run out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Threshold {
    /// A quarter of its life is left.
    QuarterLeft,
    /// An eighth of its life is left.
    EighthLeft,
    /// It is over.
    Expired,
}

/// Why a certificate was not renewed in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Attempts fail; the problem says why.
    Failing,
    /// It is not renewed without being asked.
    AutoRenewOff,
    /// Its issuer's account is not ready; the problem says why.
    IssuerFailing,
    /// Nothing is known to be in the way: its renewal waits, or runs.
    Late,
}

/// What names a notice: at most one is ever made of the same three.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoticeId {
    /// The certificate.
    pub certificate: CertificateId,
    /// Its version that runs out.
    pub version: VersionId,
    /// How far it has.
    pub threshold: Threshold,
}

/// A text that does not name a notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it does not name a notice")]
pub struct NotANotice;

/// What a look at a version says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// The gravest threshold that was reached; the ones before it need no notice any more.
    pub reached: Option<Threshold>,
    /// When the next one will be.
    pub next: Option<Timestamp>,
}

impl Threshold {
    /// Every threshold, in the order in which they are reached.
    pub const ALL: [Self; 3] = [Self::QuarterLeft, Self::EighthLeft, Self::Expired];

    /// The word used in the API, in the database and in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::QuarterLeft => "quarter_left",
            Self::EighthLeft => "eighth_left",
            Self::Expired => "expired",
        }
    }

    /// When a version with this validity reaches it.
    #[must_use]
    pub fn at(self, not_before: Timestamp, not_after: Timestamp) -> Timestamp {
        let life = until(not_before, not_after);
        let left = match self {
            Self::QuarterLeft => life / 4,
            Self::EighthLeft => life / 8,
            Self::Expired => std::time::Duration::ZERO,
        };
        later(not_before, life.saturating_sub(left))
    }
}

/// How far a version with this validity has run out at `now`.
#[must_use]
pub fn look(not_before: Timestamp, not_after: Timestamp, now: Timestamp) -> Look {
    let at = |threshold: &Threshold| threshold.at(not_before, not_after);
    Look {
        reached: Threshold::ALL.into_iter().rev().find(|threshold| at(threshold) <= now),
        next: Threshold::ALL.iter().map(at).find(|at| *at > now),
    }
}

/// Why a certificate was not renewed in time, with the problem that is in the way: its own, or its issuer's.
#[must_use]
pub fn reason(
    auto_renew: bool,
    own: Option<&Problem>,
    issuer: Option<&Problem>,
) -> (Reason, Option<Problem>) {
    match (own, issuer) {
        (Some(problem), _) => (Reason::Failing, Some(problem.clone())),
        (None, _) if !auto_renew => (Reason::AutoRenewOff, None),
        (None, Some(problem)) => (Reason::IssuerFailing, Some(problem.clone())),
        (None, None) => (Reason::Late, None),
    }
}

impl Reason {
    /// The word used in the API, in the database and in the audit.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failing => "failing",
            Self::AutoRenewOff => "auto_renew_off",
            Self::IssuerFailing => "issuer_failing",
            Self::Late => "late",
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Failing => "its attempts fail: see its problem, mend that, and renew it",
            Self::AutoRenewOff => "it is not renewed by itself: renew it, or resume it",
            Self::IssuerFailing => {
                "its issuer's account is not ready: see the issuer's problem, and update it"
            }
            Self::Late => {
                "its renewal waits or runs: see its job, and whether workers keep up with the queue"
            }
        }
    }
}

impl fmt::Display for NoticeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.certificate, self.version, self.threshold.as_str())
    }
}

impl FromStr for NoticeId {
    type Err = NotANotice;

    fn from_str(text: &str) -> Result<Self, NotANotice> {
        let mut parts = text.split('/');
        let mut next = || parts.next().ok_or(NotANotice);
        let (certificate, version, word) = (next()?, next()?, next()?);
        let threshold = Threshold::ALL.into_iter().find(|threshold| threshold.as_str() == word);
        if parts.next().is_some() {
            return Err(NotANotice);
        }
        Ok(Self {
            certificate: certificate.parse().map_err(|_| NotANotice)?,
            version: version.parse().map_err(|_| NotANotice)?,
            threshold: threshold.ok_or(NotANotice)?,
        })
    }
}

#[cfg(test)]
mod tests;
