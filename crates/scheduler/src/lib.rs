// SPDX-License-Identifier: Apache-2.0
//! Competes for the lease; the leader enqueues time-driven work and says how deep the queue is.
//!
//! It runs no job and speaks to no CA. What it writes carries its epoch, so that a leader who was replaced without
//! noticing changes nothing.

mod census;
mod drift;
mod duties;
mod election;
mod metrics;
mod planner;
mod sampler;

pub use election::Scheduler;
pub use metrics::Metrics;
