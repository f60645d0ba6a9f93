// SPDX-License-Identifier: Apache-2.0
//! The order engine, proved twice. For tests only: nothing that is shipped uses this crate, and it talks to nobody.
//!
//! [`claims`] is a model: every interleaving of workers, CA and faults, each state looked at once. It decides with the
//! code's own `next_step` and imitates the rest. [`sim`] runs the code itself, the whole engine, over a ledger in memory,
//! a CA that behaves badly and clocks that stand still until they are moved, and ends workers between any two awaits; what
//! happens is a matter of one seed.

pub mod claims;
pub mod sim;
