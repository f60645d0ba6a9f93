// SPDX-License-Identifier: Apache-2.0
//! Instances: which processes there are, what each does, and which of them went without a word.
//!
//! All times are the database's, so that no host's clock decides who is lost.

mod roll;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::clock::until;
use crate::id::InstanceId;

pub use roll::Roll;

/// How often a process says that it is there, on average.
pub const BEAT: Duration = Duration::from_secs(10);
/// How far a beat may be from [`BEAT`], by jitter, either way.
pub const BEAT_JITTER: Duration = Duration::from_secs(1);
/// How long a process may be silent before it counts as lost: three beats at their longest, and a moment to write one.
pub const LOST_AFTER: Duration = Duration::from_secs(35);
/// Instances that are read at most, those seen last first.
pub const INSTANCES_MAX: u32 = 500;

/// What a process does, by the service that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "snake_case")]
pub enum Doing {
    /// Answers requests.
    Api,
    /// Does jobs.
    Worker {
        /// Jobs in hand.
        running: u32,
        /// Jobs that may be at the CA at once.
        concurrency: u32,
    },
    /// Leads, or waits to.
    Scheduler(Standing),
}

/// How a scheduler stands to the lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "standing", rename_all = "snake_case")]
pub enum Standing {
    /// It leads.
    Leads {
        /// In this epoch.
        epoch: i64,
    },
    /// It takes over when the leader goes.
    StandsBy,
    /// It left the lead, and is no candidate for the length of a lease.
    StandsBack,
}

/// How far a process is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// A check of its readiness has not passed yet.
    Starting,
    /// It takes work.
    Ready,
    /// It was ready, and a check fails now.
    Unready,
    /// It was asked to stop, and ends what is in hand.
    Draining,
    /// It said nothing for too long, and did not say goodbye. Never stored: time alone makes it so.
    Lost,
}

/// A process as it last told of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Its id: another one with each start.
    pub id: InstanceId,
    /// Its name: the same with each start.
    pub name: String,
    /// What it does.
    pub doing: Doing,
    /// How far it was when it was last seen.
    pub state: State,
    /// Its version.
    pub version: String,
    /// The commit that it was built from, where the build said so.
    pub commit: Option<String>,
    /// The host's name.
    pub host: String,
    /// Its process id on that host.
    pub pid: u32,
    /// When it was first seen.
    pub started_at: Timestamp,
    /// When it was last seen.
    pub seen_at: Timestamp,
    /// How far the database's clock was ahead of its host's when it was last seen, with the way there.
    pub skew: SignedDuration,
}

impl Doing {
    /// Every role.
    pub const ROLES: [&'static str; 3] = ["api", "worker", "scheduler"];

    /// The word for the service.
    #[must_use]
    pub fn role(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Worker { .. } => "worker",
            Self::Scheduler(_) => "scheduler",
        }
    }

    /// Whether `other` is worth telling before the next beat: how busy a worker is, is not.
    #[must_use]
    pub fn differs_in_kind(self, other: Self) -> bool {
        match (self, other) {
            (Self::Scheduler(one), Self::Scheduler(another)) => one != another,
            (one, another) => one.role() != another.role(),
        }
    }
}

impl State {
    /// Every state, in the order of a process's life.
    pub const ALL: [Self; 5] = [Self::Starting, Self::Ready, Self::Unready, Self::Draining, Self::Lost];

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Unready => "unready",
            Self::Draining => "draining",
            Self::Lost => "lost",
        }
    }

    /// The state of a process that is asked to stop or not, is ready or not, and was `ready_before` or not.
    #[must_use]
    pub fn of(stopping: bool, ready: bool, ready_before: bool) -> Self {
        match (stopping, ready, ready_before) {
            (true, _, _) => Self::Draining,
            (false, true, _) => Self::Ready,
            (false, false, true) => Self::Unready,
            (false, false, false) => Self::Starting,
        }
    }
}

impl Instance {
    /// Whether it has been silent for too long at `now`. A time that lies ahead was stamped by a clock that was wrong.
    #[must_use]
    pub fn is_lost(&self, now: Timestamp) -> bool {
        until(self.seen_at, now).max(until(now, self.seen_at)) > LOST_AFTER
    }

    /// Whether `other` is the same process started again: it has the name, came later, and this one was not seen since.
    /// One that is seen afterwards all the same lives beside it.
    #[must_use]
    pub fn is_replaced_by(&self, other: &Self) -> bool {
        self.has_name_of(other) && other.started_at > self.started_at && self.seen_at <= other.started_at
    }

    pub(crate) fn has_name_of(&self, other: &Self) -> bool {
        self.id != other.id && self.name == other.name && self.doing.role() == other.doing.role()
    }
}

#[cfg(test)]
pub(crate) mod tests;
