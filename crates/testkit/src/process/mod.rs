// SPDX-License-Identifier: Apache-2.0
//! Processes: who they are, how they start, how they end; and the ports they listen at.

mod identity;
mod launch;
mod launcher;
mod ports;
mod service;
mod spawner;
mod state;

pub use identity::{ProcessId, Signal, boot_id};
pub use launch::{Launch, Process, log_tail};
pub use launcher::{Launcher, Lifetime};
pub use ports::{PortLease, reserve, reserve_one};
pub use service::{Binaries, Service, series, wait_ready};
pub(crate) use spawner::start as start_spawner;
pub use state::{Record, StateFile};
