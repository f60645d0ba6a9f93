// SPDX-License-Identifier: Apache-2.0
//! For tests and xtask only: real replica sets, real CAs, process and crash drivers.
//!
//! Nothing here is ever linked into a shipped binary, and nothing here decides anything about certificates.
//! Every wait looks for a condition and has a deadline; no process is ever ended by name.
//!
//! - [`fetch`] obtains `mongod`, `pebble` and `pebble-challtestsrv`.
//! - [`process`] starts, watches, signals and ends processes, and hands out ports.
//! - [`mongo`] runs replica sets whose members can be killed, paused and restarted.
//! - [`needles`] looks for secrets in files.
//! - [`network`] makes hosts of network namespaces, and cuts them from each other.
//! - [`ca`] runs Pebble behind the CA proxy, which keeps it from deadlocking and counts what it issued.
//! - [`stack`] runs the whole system: the same code for a test and for `cargo xtask up`.
//! - [`drill`] breaks it on purpose, again and again, and measures what was promised.

pub mod ca;
pub mod disk;
pub mod drill;
pub mod fetch;
pub mod luck;
pub mod mongo;
pub mod needles;
pub mod network;
pub mod process;
pub mod progress;
pub mod scratch;
pub mod site;
pub mod stack;
pub mod tls;
pub mod wait;
