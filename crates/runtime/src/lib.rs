// SPDX-License-Identifier: Apache-2.0
//! How every process starts, shows itself and stops: configuration, telemetry, metrics, health, drain.
//!
//! This crate knows no driver, no provider and no rule of the domain. It opens one socket, the admin listener, and
//! only after every fault of the configuration has been ruled out. It never prints a secret, and it never decides
//! whether the database or the KEK is well: the process hands in probes, this crate asks them and keeps the score.

pub mod admin;
pub mod args;
pub mod clock;
pub mod config;
pub mod drain;
#[cfg(feature = "drill")]
pub mod drill;
pub mod entropy;
pub mod exit;
pub mod harden;
pub mod health;
pub mod host;
pub mod metrics;
pub mod role;
pub mod run;
pub mod serve;
pub mod telemetry;

pub use args::CommonArgs;
pub use config::Config;
pub use exit::{Exit, Failure, OrExit};
pub use role::Role;
pub use run::{Process, run, run_with};
