// SPDX-License-Identifier: Apache-2.0
//! Lanes and ranks: beside whom a job waits, and before whom it goes.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::clock::{earlier, until};
use crate::id::ProjectId;

/// The lanes of a project. Where more waits than workers have room for, places are dealt out among the lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lane {
    /// Work that somebody counts on.
    Main,
    /// Work that keeps failing: it goes on, but never takes the places of what could succeed.
    Quarantine,
}

impl Lane {
    /// The word used in the API and in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Quarantine => "quarantine",
        }
    }

    /// Whether its jobs together may take a part of a worker's places only.
    #[must_use]
    pub fn is_side(self) -> bool {
        match self {
            Self::Main => false,
            Self::Quarantine => true,
        }
    }
}

/// Failed attempts in a row after which a job waits in quarantine.
pub const QUARANTINE_FAILURES: u32 = 2;

/// A lane of a project, written `prj_…/main`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ProjectLane {
    /// Whose.
    pub project: ProjectId,
    /// Which of its lanes.
    pub lane: Lane,
}

/// A text that names no lane of a project.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no lane; one looks like prj_…/main")]
pub struct BadLane(String);

impl fmt::Display for ProjectLane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.project, self.lane.as_str())
    }
}

impl FromStr for ProjectLane {
    type Err = BadLane;

    fn from_str(text: &str) -> Result<Self, BadLane> {
        let bad = || BadLane(text.to_owned());
        let (project, lane) = text.split_once('/').ok_or_else(bad)?;
        let lane = [Lane::Main, Lane::Quarantine].into_iter().find(|known| known.as_str() == lane);
        Ok(Self { project: project.parse().map_err(|_| bad())?, lane: lane.ok_or_else(bad)? })
    }
}

impl From<ProjectLane> for String {
    fn from(lane: ProjectLane) -> Self {
        lane.to_string()
    }
}

impl TryFrom<String> for ProjectLane {
    type Error = BadLane;

    fn try_from(text: String) -> Result<Self, BadLane> {
        text.parse()
    }
}

/// Within a lane the lowest rank goes first, and of one rank the longest due: the ranks of what expires in less than
/// this, the nearest first.
pub const EXPIRY_RANKS: [(Duration, i32); 3] = [
    (Duration::from_secs(6 * 3_600), 0),
    (Duration::from_secs(2 * 86_400), 1),
    (Duration::from_secs(7 * 86_400), 3),
];
/// The rank of what expires later than that.
pub const RANK_LATER: i32 = 4;
/// The rank of what somebody waits for.
const RANK_AWAITED: i32 = 2;
/// The rank of what nobody waits for and nothing hangs on.
const RANK_WHENEVER: i32 = 5;
/// All ranks, in their order.
pub const RANKS: std::ops::RangeInclusive<i32> = 0..=RANK_WHENEVER;

/// A project's weight, where places are dealt out: how many it gets to one of a project of weight 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "u32", try_from = "u32")]
pub struct Weight(u32);

/// The most that a project can weigh.
const WEIGHT_MAX: u32 = 100;

/// A number that is no weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("weight: {0} is not a weight; write a whole number from 1 to {max}", max = WEIGHT_MAX)]
pub struct BadWeight(u32);

impl Default for Weight {
    fn default() -> Self {
        Self(1)
    }
}

impl From<Weight> for u32 {
    fn from(weight: Weight) -> Self {
        weight.0
    }
}

impl TryFrom<u32> for Weight {
    type Error = BadWeight;

    fn try_from(weight: u32) -> Result<Self, BadWeight> {
        if (1..=WEIGHT_MAX).contains(&weight) { Ok(Self(weight)) } else { Err(BadWeight(weight)) }
    }
}

/// How much hangs on a job being done soon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Need {
    /// Whether somebody waits for it.
    pub is_awaited: bool,
    /// When what is in use expires, if anything is and does.
    pub before: Option<Timestamp>,
}

impl Need {
    /// The rank that it has however far away its time is.
    #[must_use]
    pub fn floor(self) -> i32 {
        if self.is_awaited { RANK_AWAITED } else { RANK_WHENEVER }
    }

    /// The rank of a job that is due `at`.
    #[must_use]
    pub fn rank(self, at: Timestamp) -> i32 {
        let by_expiry = self.before.map(|before| {
            let left = until(at, before);
            EXPIRY_RANKS.iter().find(|(within, _)| left < *within).map_or(RANK_LATER, |(_, rank)| *rank)
        });
        by_expiry.map_or(self.floor(), |rank| rank.min(self.floor()))
    }

    /// From when on the rank of a job that is due `at` is a lower one, if it still waits then.
    #[must_use]
    pub fn rank_changes(self, at: Timestamp) -> Option<Timestamp> {
        let before = self.before?;
        let left = until(at, before);
        let mut bounds = EXPIRY_RANKS.iter().rev();
        let (within, _) = bounds.find(|(within, rank)| left >= *within && *rank < self.floor())?;
        Some(earlier(before, *within))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::later;

    const DAY: Duration = Duration::from_secs(86_400);

    fn rank(is_awaited: bool, left: Option<Duration>) -> i32 {
        let now = Timestamp::from_second(1_790_000_000).unwrap();
        Need { is_awaited, before: left.map(|left| later(now, left)) }.rank(now)
    }

    #[test]
    fn what_expires_first_goes_first_and_who_waits_does_not_wait_for_what_has_weeks() {
        let order = [
            rank(false, Some(Duration::ZERO)),
            rank(false, Some(DAY)),
            rank(true, None),
            rank(false, Some(DAY * 6)),
            rank(false, Some(DAY * 20)),
            rank(false, None),
        ];
        assert!(order.is_sorted_by(|earlier, later| earlier < later), "{order:?}");
        assert_eq!(rank(true, Some(DAY * 20)), rank(true, None));
        assert_eq!(rank(true, Some(Duration::ZERO)), rank(false, Some(Duration::ZERO)));
    }

    #[test]
    fn a_rank_falls_as_the_end_comes_nearer_and_only_below_what_it_is() {
        let now = Timestamp::from_second(1_790_000_000).unwrap();
        for is_awaited in [false, true] {
            let need = Need { is_awaited, before: Some(later(now, DAY * 20)) };
            let (mut at, mut ranks) = (now, vec![need.rank(now)]);
            while let Some(change) = need.rank_changes(at) {
                assert_eq!(need.rank(change), *ranks.last().unwrap(), "not a moment sooner");
                at = later(change, Duration::from_millis(1));
                ranks.push(need.rank(at));
            }
            assert_eq!(ranks, if is_awaited { vec![2, 1, 0] } else { vec![4, 3, 1, 0] });
        }
        assert_eq!(Need::default().rank_changes(now), None);
        let over = Need { is_awaited: false, before: Some(now) };
        assert_eq!(over.rank_changes(later(now, DAY)), None);
    }

    #[test]
    fn what_has_expired_goes_before_everything() {
        let now = Timestamp::from_second(1_790_000_000).unwrap();
        let need = Need { is_awaited: false, before: Some(now) };
        assert_eq!(need.rank(later(now, DAY * 400)), 0);
    }

    #[test]
    fn a_weight_is_from_one_to_a_hundred() {
        assert!([1, 100].into_iter().all(|weight| Weight::try_from(weight).map(u32::from) == Ok(weight)));
        assert!([0, 101, u32::MAX].into_iter().all(|weight| Weight::try_from(weight).is_err()));
    }

    #[test]
    fn a_lane_is_read_as_it_is_written() {
        let project: ProjectId = format!("prj_{}", "0".repeat(32)).parse().unwrap();
        for lane in [Lane::Main, Lane::Quarantine] {
            let lane = ProjectLane { project, lane };
            assert_eq!(lane.to_string().parse(), Ok(lane));
        }
        for bad in ["", "main", "prj_1/main", &format!("{project}/"), &format!("{project}/other")] {
            assert!(bad.parse::<ProjectLane>().is_err(), "{bad}");
        }
    }
}
