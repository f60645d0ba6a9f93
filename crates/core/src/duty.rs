// SPDX-License-Identifier: Apache-2.0
//! Time-driven work: pure planners that look at a page of the world and say what to queue.

use jiff::Timestamp;

use crate::id::{CertificateId, ProjectId, VersionId};
use crate::job::Work;

/// A certificate as the renewal planner sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Which certificate.
    pub certificate: CertificateId,
    /// Whose.
    pub project: ProjectId,
    /// Its current version; none where the first issuance needs a person and is looked at again.
    pub current: Option<VersionId>,
    /// When that expires.
    pub expires: Option<Timestamp>,
    /// When it is due.
    pub renew_at: Timestamp,
    /// Whether it is renewed without being asked.
    pub auto_renew: bool,
    /// The fence to start the job from.
    pub fence: i64,
}

/// The renewal that is due for `candidate`, if one is.
#[must_use]
pub fn renewal(candidate: &Candidate, now: Timestamp) -> Option<Work> {
    let due = candidate.auto_renew && candidate.renew_at <= now;
    due.then_some(Work::Issue { certificate: candidate.certificate, made_for: candidate.current })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::later;
    use std::time::Duration;

    #[test]
    fn what_is_due_is_renewed_and_nothing_else() {
        let now = Timestamp::from_second(1_790_000_000).unwrap();
        let candidate = Candidate {
            certificate: format!("crt_{}", "0".repeat(32)).parse().unwrap(),
            project: format!("prj_{}", "0".repeat(32)).parse().unwrap(),
            current: format!("ver_{}", "0".repeat(32)).parse().ok(),
            expires: Some(later(now, Duration::from_secs(86_400))),
            renew_at: now,
            auto_renew: true,
            fence: 3,
        };
        assert!(renewal(&candidate, now).is_some());
        let early = Candidate { renew_at: later(now, Duration::from_secs(1)), ..candidate.clone() };
        assert_eq!(renewal(&early, now), None);
        assert_eq!(renewal(&Candidate { auto_renew: false, ..candidate }, now), None);
    }
}
