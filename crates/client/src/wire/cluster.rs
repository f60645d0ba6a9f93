// SPDX-License-Identifier: Apache-2.0
//! The cluster: its processes, leases, queue, KEK and database; and what somebody should look at.

use cap_core::id::InstanceId;
use cap_core::instance::{Doing, State};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Certificate, Queue};

/// `GET /cluster`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Cluster {
    /// The processes, by role and name.
    pub instances: Vec<Instance>,
    /// Whether processes of several versions live.
    pub version_skew: bool,
    /// What somebody should look at, a sentence each.
    pub warnings: Vec<String>,
    /// The schedulers' lease; nothing before the first election.
    pub leader: Option<Leader>,
    /// Every lease.
    pub leases: Vec<Lease>,
    /// The queue; nothing when it was not measured lately.
    pub queue: Option<Queue>,
    /// Why there is nothing about the queue.
    pub queue_unavailable: Option<String>,
    /// The active KEK version.
    pub kek_version: u32,
    /// The KEK provider of the process that answered.
    pub kek_provider: String,
    /// The database.
    pub database: Database,
    /// When, by the clock of the process that answered.
    pub at: Timestamp,
}

/// A process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Instance {
    /// Its id: another one with each start.
    pub id: InstanceId,
    /// Its name: the same with each start.
    pub name: String,
    /// Its role, and what it does.
    #[serde(flatten)]
    pub doing: Doing,
    /// How far it is.
    pub state: State,
    /// Its version.
    pub version: String,
    /// The commit that it was built from, where the build said so.
    pub commit: Option<String>,
    /// The host's name.
    pub host: String,
    /// Its process id on that host.
    pub pid: u32,
    /// When it started, by the database's clock.
    pub started_at: Timestamp,
    /// When it was last seen, by the database's clock.
    pub seen_at: Timestamp,
    /// How far the database's clock was ahead of its host's when it was last seen, in seconds.
    pub clock_skew_seconds: f64,
}

/// The schedulers' lease.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Leader {
    /// Who has it.
    pub holder: String,
    /// How often it has changed hands.
    pub epoch: i64,
    /// Since when, by the database's clock.
    pub since: Option<Timestamp>,
    /// Until when, by the database's clock.
    pub expires_at: Timestamp,
    /// Whether it has run out.
    pub expired: bool,
    /// Whether it was asked to step down.
    pub stepping_down: bool,
    /// Schedulers that would take over at once.
    pub standbys: u32,
    /// The holder's version, where it is known.
    pub version: Option<String>,
}

/// A lease.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Lease {
    /// What it is for: `scheduler`, or `schema` while the schema is migrated.
    pub name: String,
    /// Who has it, or had it last.
    pub holder: String,
    /// How often it has changed hands.
    pub epoch: i64,
    /// Since when, by the database's clock.
    pub since: Option<Timestamp>,
    /// Until when, by the database's clock.
    pub expires_at: Timestamp,
    /// Whether it has run out.
    pub expired: bool,
}

/// The database, as far as any client may know it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Database {
    /// The replica set's name.
    pub replica_set: Option<String>,
    /// The primary.
    pub primary: Option<String>,
    /// Its members; hidden ones are told to nobody.
    pub members: Vec<DatabaseMember>,
    /// How far the majority is behind the primary's last write, in seconds.
    pub majority_lag_seconds: Option<f64>,
}

/// A member of the replica set.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DatabaseMember {
    /// Host and port.
    pub host: String,
    /// What it is.
    pub state: MemberState,
    /// How far it is behind the primary's last write, in seconds.
    pub lag_seconds: Option<f64>,
}

/// What a member of the replica set is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberState {
    /// It takes writes.
    Primary,
    /// It follows.
    Secondary,
    /// It votes, and has no data.
    Arbiter,
    /// It does not answer, or is starting or catching up.
    Unavailable,
}

/// `POST /cluster/step-down`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepDown {
    /// The epoch whose leader is meant; the present one when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<i64>,
    /// Whether it shall be so although no other scheduler stands by.
    #[serde(default)]
    pub force: bool,
}

/// The answer to `POST /cluster/step-down`: who was asked. Another leads when the epoch is a later one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SteppingDown {
    /// Who was asked.
    pub holder: String,
    /// The epoch that it leads in.
    pub epoch: i64,
}

/// `GET /projects/{p}/attention`: a few of each kind.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Attention {
    /// Certificates whose last attempt failed, those first that end soonest or never were.
    pub failing: Vec<Certificate>,
    /// Certificates that end soonest, failing ones aside.
    pub ending: Vec<Certificate>,
}
