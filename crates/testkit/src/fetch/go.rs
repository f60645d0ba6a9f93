// SPDX-License-Identifier: Apache-2.0
//! Programs that Go builds from a pinned version of their module; Go's checksum database vouches for the source.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;

use super::command::run;

/// The slowest of them takes two minutes on two idle cores, and its modules some 100 MB of downloads before.
const BUILD_LIMIT_SECONDS: u64 = 1_200;

/// Builds `package/PROGRAM@version` for each program and puts them into `folder`, all of them or none.
pub(super) fn install(
    go: &Path,
    folder: &Path,
    package: &str,
    version: &str,
    programs: &[&str],
) -> anyhow::Result<()> {
    let staging = tempfile::tempdir_in(folder).context("making a folder in the cache")?;
    let mut install = Command::new(go);
    install.env("GOBIN", staging.path()).env("CGO_ENABLED", "0").arg("install");
    for program in programs {
        install.arg(format!("{package}/{program}@{version}"));
    }
    run(&mut install, Duration::from_secs(BUILD_LIMIT_SECONDS))?;
    // The names appear only when all are whole: a reader looks for each of them.
    for program in programs {
        std::fs::rename(staging.path().join(program), folder.join(program))
            .with_context(|| format!("moving {program} to {}", folder.display()))?;
    }
    Ok(())
}
