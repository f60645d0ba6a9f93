// SPDX-License-Identifier: Apache-2.0
//! Real replica sets whose members can be killed, paused and restarted.

mod admin;
mod database;
mod member;
mod replica_set;
mod shared;

pub use database::TestDatabase;
pub use member::MemberState;
pub use replica_set::{ReplicaSet, ReplicaSetOptions};
