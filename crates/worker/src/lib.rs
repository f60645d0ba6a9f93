// SPDX-License-Identifier: Apache-2.0
//! Claims jobs and drives them to their end.
//!
//! It decides nothing: `cap-core` says what to do next, `cap-store` what may still be written, `cap-acme` how the CA is
//! spoken to. A worker keeps nothing that another could not read: killed at any moment, a peer goes on from the record.

mod apart;
mod grace;
mod handlers;
mod heart;
mod metrics;
mod place;
mod runner;
mod sight;
mod turns;

pub use handlers::World;
pub use metrics::Metrics;
pub use runner::{Drained, Runner};
pub use sight::Sight;
