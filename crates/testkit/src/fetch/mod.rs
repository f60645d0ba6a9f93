// SPDX-License-Identifier: Apache-2.0
//! Obtaining what tests run against: `mongod`, `pebble`, `pebble-challtestsrv`, `step-ca`, `libfaketime`.
//!
//! Each comes from a variable, from `PATH`, or from a pinned source into a cache folder of the user's. Nothing is
//! trusted by its name: a download is compared with its SHA-256 before it is unpacked.

mod archive;
mod cache;
mod command;
mod debian;
mod go;
mod mongod;
mod pebble;
mod step_ca;

use std::path::{Path, PathBuf};

pub(crate) use command::run;
pub use debian::{faketime, iproute2};
pub use mongod::mongod;
pub use pebble::{PebbleBinaries, pebble};
pub use step_ca::{can_have_step_ca, step_ca};

/// The first executable of this name in `PATH`.
#[must_use]
pub fn find_in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|candidate| is_executable(candidate))
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    /// Any of the three execute bits.
    const EXECUTE_BITS: u32 = 0o111;
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & EXECUTE_BITS != 0)
}
