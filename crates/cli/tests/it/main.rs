// SPDX-License-Identifier: Apache-2.0
//! The command line as people and scripts meet it: the real program, against a real system.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where it stopped")]

mod certificates;
mod cluster;
mod drift;
mod exits;
mod fake;
mod files;
mod forms;
mod history;
mod issuers;
mod jobs;
mod keks;
mod readme;
mod run;
mod schema;
mod streams;
mod tls;
mod waits;
mod world;
