// SPDX-License-Identifier: Apache-2.0
//! The domain of CertAutoPilot: words, states, rules, sealing, and the ports through which the world is reached.
//!
//! This crate opens no socket, names no driver, reads no wall clock, no environment and no file. Time and luck
//! come in as [`clock::Clock`] and [`entropy::Entropy`]; everything else that can fail because of the world is
//! a trait here and an implementation in a crate named after that piece of the world.

pub mod access;
pub mod actor;
pub mod audit;
pub mod certificate;
pub mod challenge;
pub mod clock;
pub mod drift;
pub mod duty;
pub mod entropy;
pub mod envelope;
pub mod expiry;
pub mod fault;
pub mod health;
pub mod id;
pub mod instance;
pub mod issuer;
pub mod job;
pub mod lease;
pub mod limits;
pub mod name;
pub mod order;
pub mod outbound;
pub mod page;
pub mod problem;
pub mod queue;
pub mod renewal_info;
pub mod retention;
pub mod secret;
pub mod token;
pub mod totals;
