// SPDX-License-Identifier: Apache-2.0
//! The promise of issuance, on real processes: kill any of them at any moment, and no job is lost, no certificate is
//! issued twice, and every certificate has its key.
//!
//! Duplicates are counted at the CA, per name set. What workers do that are killed or stopped in mid-issuance is a matter
//! of drills, in testkit.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

mod accounts;
mod aside;
mod bench;
mod chains;
mod drain;
mod drift;
mod external;
mod full;
mod house;
mod issuance;
mod keys;
mod limits;
mod load;
mod once;
mod outages;
mod passwords;
mod pem;
mod renewal;
mod revocation;
mod standing;
mod step_ca;
mod trouble;
mod writes;
