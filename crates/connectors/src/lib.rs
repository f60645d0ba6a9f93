// SPDX-License-Identifier: Apache-2.0
//! The outside world, one provider a file: KEK providers, and a look at what other hosts serve.
//!
//! This crate reads no configuration and no environment: it is told where to look. It decides nothing about
//! rotation, never hands a KEK out, never writes over a key, and never talks to the database.

pub mod kek;
pub mod lookout;
mod outbound;
