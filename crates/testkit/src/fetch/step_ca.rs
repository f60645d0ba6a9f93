// SPDX-License-Identifier: Apache-2.0
//! step-ca: from `CAP_TEST_STEP_CA`, from the cache, or built by Go.

use std::path::PathBuf;

use anyhow::{Context as _, ensure};

use super::{cache, find_in_path, go, is_executable};
use crate::progress::say;

const VERSION: &str = "v0.30.2";
const CACHE_NAME: &str = "step-ca-0.30.2";
const STEP_CA: &str = "step-ca";

/// Whether it is there, or can be built here: where Go is missing it is not.
#[must_use]
pub fn can_have_step_ca() -> bool {
    let is_cached = || cache::folder(CACHE_NAME).is_ok_and(|folder| is_executable(&folder.join(STEP_CA)));
    std::env::var_os("CAP_TEST_STEP_CA").is_some() || is_cached() || find_in_path("go").is_some()
}

/// The path of the program. One in `PATH` is not taken: its version may be any.
///
/// # Errors
/// When it is not there and cannot be built; says what was tried and what to do.
pub fn step_ca() -> anyhow::Result<PathBuf> {
    if let Some(program) = std::env::var_os("CAP_TEST_STEP_CA").map(PathBuf::from) {
        ensure!(
            is_executable(&program),
            "CAP_TEST_STEP_CA is {}, which is no program: name step-ca itself",
            program.display()
        );
        return Ok(program);
    }
    let folder = cache::folder(CACHE_NAME)?;
    let _lock = cache::lock(&folder)?;
    let program = folder.join(STEP_CA);
    if !is_executable(&program) {
        let go = find_in_path("go");
        let go = go
            .context("there is no Go to build step-ca: install Go, or set CAP_TEST_STEP_CA to the program")?;
        say(format_args!("building step-ca {VERSION} with Go (two minutes)"));
        go::install(&go, &folder, "github.com/smallstep/certificates/cmd", VERSION, &[STEP_CA]).context(
            "step-ca could not be built; check Go's module proxy, or set CAP_TEST_STEP_CA to the program",
        )?;
    }
    Ok(program)
}
