// SPDX-License-Identifier: Apache-2.0
//! The store against a real replica set: what may be written, and what is refused.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where it stopped")]

mod access;
mod accounts;
mod apart;
mod aside;
mod budgets;
mod changes;
mod cleanup;
mod crowd;
mod dead;
mod drift;
mod enrolment;
mod epochs;
mod explain;
mod explain_duties;
mod fuse;
mod hangs;
mod instances;
mod jobs;
mod keys;
mod lanes;
mod leases;
mod lists;
mod looks;
mod notices;
mod orders;
mod plans;
mod queue;
mod ranks;
mod reader;
mod recorder;
mod renewal_info;
mod requests;
mod revocations;
mod scan_pace;
mod scan_requests;
mod schema;
mod takeover;
mod tokens;
mod totals;
mod unread;
mod wishes;
mod world;
