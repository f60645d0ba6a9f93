// SPDX-License-Identifier: Apache-2.0
//! The promise of issuance, on real processes: kill any of them at any moment, and no job is lost, no certificate is
//! issued twice, and every certificate has its key.
//!
//! Duplicates are counted at the CA, per name set. The drills need binaries with failpoints: `cargo build --workspace
//! --bins --all-features`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

mod bench;
mod crashes;
mod drain;
mod drift;
mod failpoints;
mod full;
mod issuance;
mod load;
mod once;
mod outages;
mod passwords;
mod pem;
mod renewal;
mod trouble;
