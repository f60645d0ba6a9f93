// SPDX-License-Identifier: Apache-2.0
//! The scheduler as a process among others: who leads, who takes over and when, and what is renewed how often.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the answer")]

mod bench;
mod boot;
mod clocks;
mod duties;
mod gauge;
mod handover;
mod lead;
mod members;
mod renewals;
mod world;
