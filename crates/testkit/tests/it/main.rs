// SPDX-License-Identifier: Apache-2.0
//! testkit proves itself: what the tests of every other crate stand on.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the answer")]

mod bare;
mod ca;
mod faults;
mod mongo;
mod network;
mod stack;
mod step_ca;
