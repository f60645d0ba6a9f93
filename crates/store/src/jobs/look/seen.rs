// SPDX-License-Identifier: Apache-2.0
//! What a look by lanes leaves to the next ones.

use std::collections::BTreeMap;
use std::time::Duration;

use bson::DateTime;
use cap_core::job::ProjectLane;
use jiff::Timestamp;

use crate::document::date;
use crate::jobs::JobDocument;

/// How much later than it says a job may come into sight; as for a quick look that goes by no lanes.
const LATE: Duration = Duration::from_secs(10);

/// What a look saw that went by lanes all the way back: where the next ones go on. The index is full of traces of what was
/// claimed from these lanes, at their heads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LanesSeen {
    /// All lanes in which something was due.
    lanes: Vec<ProjectLane>,
    /// Since when the oldest job that it saw has been due, by lane and rank.
    oldest: BTreeMap<(ProjectLane, i32), DateTime>,
    /// When it was made, by the clock that queues are stamped with.
    at: Timestamp,
}

impl LanesSeen {
    /// What was seen of these lanes at `at`: these jobs, at their heads.
    pub(super) fn of<'a>(
        lanes: &[ProjectLane],
        heads: impl Iterator<Item = &'a JobDocument>,
        at: Timestamp,
    ) -> Self {
        let mut seen = Self { lanes: lanes.to_vec(), oldest: BTreeMap::new(), at };
        for job in heads {
            if let Some(claim_at) = job.claim_at {
                let oldest = seen.oldest.entry((job.lane(), job.rank)).or_insert(claim_at);
                *oldest = claim_at.min(*oldest);
            }
        }
        seen
    }

    /// From when on a quick look goes through this rank of a lane. What is older is for the next look that goes all the way.
    pub(super) fn since(&self, lane: ProjectLane, rank: i32) -> DateTime {
        let unseen = || date(cap_core::clock::earlier(self.at, LATE));
        self.oldest.get(&(lane, rank)).copied().unwrap_or_else(unseen)
    }

    /// The lanes behind `after`, and then the others.
    pub(super) fn behind(&self, after: Option<ProjectLane>) -> Vec<ProjectLane> {
        let mut lanes = self.lanes.clone();
        lanes.sort_unstable();
        let first = lanes.partition_point(|lane| Some(*lane) <= after);
        lanes.rotate_left(first);
        lanes
    }
}
