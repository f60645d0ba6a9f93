// SPDX-License-Identifier: Apache-2.0
//! The port against a real CA.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

mod bench;
mod external;
mod issuance;
mod renewal;
mod revocation;
mod rollover;
mod stub;
mod trouble;
mod words;
