// SPDX-License-Identifier: Apache-2.0
//! The store against a real replica set: what may be written, and what is refused.

mod jobs;
mod keys;
mod leases;
mod orders;
mod requests;
mod schema;
mod tokens;
mod world;
