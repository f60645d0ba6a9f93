// SPDX-License-Identifier: Apache-2.0
//! The API as its clients meet it: real processes, a real database, a real CA.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the answer")]

mod access;
mod bad_input;
mod drift;
mod etag;
mod freshness;
mod health;
mod history;
mod http;
mod idempotency;
mod issuers;
mod jobs;
mod metrics;
mod overload;
mod paging;
mod pause;
mod renewal_info;
mod replicas;
mod revoke;
mod secrets;
mod shutdown;
mod startup;
mod step_down;
mod tokens;
mod world;
