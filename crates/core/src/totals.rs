// SPDX-License-Identifier: Apache-2.0
//! Totals of finished jobs, an hour, a kind and an outcome each: what is left of jobs when they are gone.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;

use crate::id::ProjectId;
use crate::job::JobState;

const HOUR_S: i64 = 3_600;
/// Characters of an hour as it is written, `2026-11-21T18`.
const HOUR_CHARS: usize = 13;
/// Characters of a kind of work, many times what ours have.
const KIND_CHARS: usize = 64;
/// How a job can end.
const OUTCOMES: [JobState; 3] = [JobState::Succeeded, JobState::Dead, JobState::Cancelled];

/// An hour in UTC, by its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hour(Timestamp);

/// What a total counts; written so that the totals of a project sort by time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TotalId {
    /// Whose jobs.
    pub project: ProjectId,
    /// When they ended.
    pub hour: Hour,
    /// What kind of work it was.
    pub kind: String,
    /// How they ended, as the word of a [`JobState`].
    pub outcome: &'static str,
}

/// A text that does not name a total.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it does not name a total of jobs")]
pub struct NotATotal;

impl Hour {
    /// The hour that `at` is in.
    #[must_use]
    pub fn of(at: Timestamp) -> Self {
        let start = at.as_second().div_euclid(HOUR_S).saturating_mul(HOUR_S);
        Self(Timestamp::from_second(start).unwrap_or(Timestamp::MIN))
    }

    /// When it begins.
    #[must_use]
    pub fn start(self) -> Timestamp {
        self.0
    }
}

impl fmt::Display for Hour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.strftime("%Y-%m-%dT%H"))
    }
}

impl FromStr for Hour {
    type Err = NotATotal;

    fn from_str(text: &str) -> Result<Self, NotATotal> {
        let start: Timestamp = format!("{text}:00:00Z").parse().map_err(|_| NotATotal)?;
        let hour = Self::of(start);
        (text.len() == HOUR_CHARS && hour.to_string() == text).then_some(hour).ok_or(NotATotal)
    }
}

impl TotalId {
    /// What a job that ended counts towards; nothing when it did not end.
    #[must_use]
    pub fn of(project: ProjectId, kind: &str, state: JobState, finished_at: Timestamp) -> Option<Self> {
        let outcome = OUTCOMES.contains(&state).then(|| state.as_str())?;
        Some(Self { project, hour: Hour::of(finished_at), kind: kind.to_owned(), outcome })
    }
}

impl fmt::Display for TotalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}/{}", self.project, self.hour, self.kind, self.outcome)
    }
}

impl FromStr for TotalId {
    type Err = NotATotal;

    fn from_str(text: &str) -> Result<Self, NotATotal> {
        let mut parts = text.split('/');
        let mut next = || parts.next().ok_or(NotATotal);
        let (project, hour, kind, word) = (next()?, next()?, next()?, next()?);
        let is_kind = (1..=KIND_CHARS).contains(&kind.len())
            && kind.bytes().all(|octet| octet.is_ascii_lowercase() || octet == b'-');
        let outcome = OUTCOMES.into_iter().map(JobState::as_str).find(|outcome| *outcome == word);
        if parts.next().is_some() || !is_kind {
            return Err(NotATotal);
        }
        Ok(Self {
            project: project.parse().map_err(|_| NotATotal)?,
            hour: hour.parse()?,
            kind: kind.to_owned(),
            outcome: outcome.ok_or(NotATotal)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Work;
    use proptest::prelude::*;

    fn project() -> ProjectId {
        format!("prj_{}", "0".repeat(32)).parse().unwrap()
    }

    #[test]
    fn only_a_job_that_ended_counts() {
        let at = Timestamp::from_second(1_790_000_000).unwrap();
        let counts = |state| TotalId::of(project(), "issue", state, at).is_some();
        assert!(counts(JobState::Succeeded) && counts(JobState::Dead) && counts(JobState::Cancelled));
        assert!(!counts(JobState::Queued) && !counts(JobState::Running));
    }

    proptest! {
        #[test]
        fn a_total_reads_back_and_sorts_by_its_hour(a in 0_i64..4_000_000_000, b in 0_i64..4_000_000_000) {
            let id = |second, kind| {
                let at = Timestamp::from_second(second).unwrap();
                TotalId::of(project(), kind, JobState::Succeeded, at).unwrap()
            };
            for kind in Work::KINDS {
                let id = id(a, kind);
                prop_assert_eq!(id.to_string().parse::<TotalId>(), Ok(id.clone()));
                let into = a - id.hour.start().as_second();
                prop_assert!((0..HOUR_S).contains(&into), "{}", into);
            }
            let (first, second) = (id(a, "issue"), id(b, "issue"));
            prop_assert_eq!(first.hour.cmp(&second.hour), first.to_string().cmp(&second.to_string()));
        }

        #[test]
        fn no_other_text_is_a_total(text in "\\PC{0,100}") {
            prop_assert!(text.parse::<TotalId>().is_err());
            let wrong = format!("{}/2026-11-21T18/{text}/queued", project());
            prop_assert!(wrong.parse::<TotalId>().is_err());
        }
    }
}
