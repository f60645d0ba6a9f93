// SPDX-License-Identifier: Apache-2.0
//! The host that this process runs on.

/// Its name, as the kernel has it.
#[must_use]
pub fn name() -> String {
    gethostname::gethostname().to_string_lossy().into_owned()
}
