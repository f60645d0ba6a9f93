// SPDX-License-Identifier: Apache-2.0
//! The wire types of the REST API and a typed HTTP client over them.
//!
//! This crate knows the API and nothing of how it is served: no store, no sealing, no order engine. Of `cap-core` it
//! uses ids, enums and pages only.

pub mod wire;
