// SPDX-License-Identifier: Apache-2.0
//! Time-driven work: pure planners that look at a page of the world and say what to queue.

use std::time::Duration;

use jiff::Timestamp;

use crate::drift::DriftSettings;
use crate::id::{CertificateId, IssuerId, ProjectId, VersionId};
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
    /// Whether that is what its CA suggests (RFC 9773).
    pub is_suggested: bool,
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

/// A certificate as the planner of drift scans sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriftCandidate {
    /// Which certificate.
    pub certificate: CertificateId,
    /// Whose.
    pub project: ProjectId,
    /// When it is due.
    pub drift_at: Timestamp,
    /// The fence to start the job from.
    pub fence: i64,
}

/// The drift scan that is due for `candidate`, if one is, and how long after it the next one shall be; `settings` are its
/// project's.
#[must_use]
pub fn drift_scan(
    candidate: &DriftCandidate,
    settings: &DriftSettings,
    now: Timestamp,
) -> Option<(Work, Duration)> {
    let due = settings.enabled && candidate.drift_at <= now;
    due.then_some((Work::DriftScan { certificate: candidate.certificate }, settings.interval))
}

/// An issuer as the planner of looks at renewal information sees it: its certificate whose look has been due the longest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LookCandidate {
    /// Which issuer.
    pub issuer: IssuerId,
    /// Whose.
    pub project: ProjectId,
    /// When that look is due.
    pub due_at: Timestamp,
}

/// The looks that are due at `candidate`, if any are: one piece of work for all of an issuer's certificates.
#[must_use]
pub fn renewal_look(candidate: &LookCandidate, now: Timestamp) -> Option<Work> {
    (candidate.due_at <= now).then_some(Work::RenewalLook { issuer: candidate.issuer })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::later;

    #[test]
    fn what_is_due_is_renewed_and_nothing_else() {
        let now = Timestamp::from_second(1_790_000_000).unwrap();
        let candidate = Candidate {
            certificate: format!("crt_{}", "0".repeat(32)).parse().unwrap(),
            project: format!("prj_{}", "0".repeat(32)).parse().unwrap(),
            current: format!("ver_{}", "0".repeat(32)).parse().ok(),
            expires: Some(later(now, Duration::from_secs(86_400))),
            renew_at: now,
            is_suggested: false,
            auto_renew: true,
            fence: 3,
        };
        assert!(renewal(&candidate, now).is_some());
        let early = Candidate { renew_at: later(now, Duration::from_secs(1)), ..candidate.clone() };
        assert_eq!(renewal(&early, now), None);
        assert_eq!(renewal(&Candidate { auto_renew: false, ..candidate }, now), None);
    }

    #[test]
    fn what_is_due_is_scanned_where_the_project_wants_it() {
        let now = Timestamp::from_second(1_790_000_000).unwrap();
        let candidate = DriftCandidate {
            certificate: format!("crt_{}", "0".repeat(32)).parse().unwrap(),
            project: format!("prj_{}", "0".repeat(32)).parse().unwrap(),
            drift_at: now,
            fence: 3,
        };
        let (off, on) = (DriftSettings::default(), DriftSettings { enabled: true, ..Default::default() });
        let (work, next) = drift_scan(&candidate, &on, now).unwrap();
        assert_eq!((work.kind(), next), ("drift-scan", on.interval));
        assert_eq!(drift_scan(&candidate, &off, now), None);
        let early = DriftCandidate { drift_at: later(now, Duration::from_secs(1)), ..candidate };
        assert_eq!(drift_scan(&early, &on, now), None);
    }

    #[test]
    fn an_issuer_is_asked_when_a_look_at_it_is_due() {
        let now = Timestamp::from_second(1_790_000_000).unwrap();
        let candidate = LookCandidate {
            issuer: format!("iss_{}", "0".repeat(32)).parse().unwrap(),
            project: format!("prj_{}", "0".repeat(32)).parse().unwrap(),
            due_at: now,
        };
        assert_eq!(renewal_look(&candidate, now).unwrap().kind(), "renewal-look");
        let early = LookCandidate { due_at: later(now, Duration::from_secs(1)), ..candidate };
        assert_eq!(renewal_look(&early, now), None);
    }
}
