// SPDX-License-Identifier: Apache-2.0
//! Real replica sets whose members can be killed, paused and restarted.

mod access;
mod admin;
mod database;
mod fail_point;
mod member;
mod replica_set;
mod scans;
mod shared;

/// The raw driver: for tests that look behind the store, or break what it keeps.
pub use mongodb as driver;

pub use access::MongoUser;
pub use database::TestDatabase;
pub use member::MemberState;
pub use replica_set::{ReplicaSet, ReplicaSetOptions};
pub use scans::{drop_database, note_scans, scans, scans_anywhere};
