// SPDX-License-Identifier: Apache-2.0
//! Pebble and its challenge test server: from `CAP_TEST_PEBBLE`, from `PATH`, built by Go, or Debian's package.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::{cache, debian, find_in_path, go, is_executable};
use crate::progress::say;

const VERSION: &str = "v2.10.1";
const CACHE_NAME: &str = "pebble-2.10.1";
const PEBBLE: &str = "pebble";
const CHALLTESTSRV: &str = "pebble-challtestsrv";
/// Where Debian's package puts its own, which is 2.4.0 in Debian 12: no ARI, no profiles.
const DEBIAN_BIN: &str = "/usr/bin";

/// The two programs.
#[derive(Clone, Debug)]
pub struct PebbleBinaries {
    /// The ACME server.
    pub pebble: PathBuf,
    /// The DNS server that Pebble asks, with its management interface.
    pub challtestsrv: PathBuf,
}

/// The paths of both.
///
/// # Errors
/// When they are not there and cannot be obtained; says what was tried and what to do.
pub fn pebble() -> anyhow::Result<PebbleBinaries> {
    if let Some(folder) = std::env::var_os("CAP_TEST_PEBBLE").map(PathBuf::from) {
        return in_folder(&folder).with_context(|| {
            format!(
                "CAP_TEST_PEBBLE is {}, which does not hold both {PEBBLE} and {CHALLTESTSRV}",
                folder.display()
            )
        });
    }
    let in_path = (find_in_path(PEBBLE), find_in_path(CHALLTESTSRV));
    if let (Some(pebble), Some(challtestsrv)) = in_path
        && !is_debians(&pebble)
    {
        return Ok(PebbleBinaries { pebble, challtestsrv });
    }
    let folder = cache::folder(CACHE_NAME)?;
    let _lock = cache::lock(&folder)?;
    if let Some(cached) = in_folder(&folder) {
        return Ok(cached);
    }
    match find_in_path("go") {
        Some(go) => build(&go, &folder),
        None => package(),
    }
}

/// Debian's is the last choice: a newer one in the cache comes before it, and where Go is, it is worth its half minute.
fn is_debians(pebble: &Path) -> bool {
    // `/bin` is a link to `/usr/bin` there.
    let folder = pebble.parent().and_then(|folder| folder.canonicalize().ok());
    folder.is_some_and(|folder| folder == Path::new(DEBIAN_BIN))
}

fn in_folder(folder: &Path) -> Option<PebbleBinaries> {
    let found = PebbleBinaries { pebble: folder.join(PEBBLE), challtestsrv: folder.join(CHALLTESTSRV) };
    (is_executable(&found.pebble) && is_executable(&found.challtestsrv)).then_some(found)
}

fn build(with: &Path, folder: &Path) -> anyhow::Result<PebbleBinaries> {
    say(format_args!("building Pebble {VERSION} with Go (about half a minute)"));
    go::install(with, folder, "github.com/letsencrypt/pebble/v2/cmd", VERSION, &[PEBBLE, CHALLTESTSRV]).context(
        "Pebble could not be built; check Go's module proxy, or set CAP_TEST_PEBBLE to a folder that holds \
         pebble and pebble-challtestsrv",
    )?;
    in_folder(folder).context("go install succeeded, yet left no binaries")
}

fn package() -> anyhow::Result<PebbleBinaries> {
    let advice = "install Go 1.25 or later, or set CAP_TEST_PEBBLE to a folder that holds pebble and pebble-challtestsrv";
    let installed = || in_folder(Path::new(DEBIAN_BIN));
    if installed().is_none() {
        debian::install(&[PEBBLE])
            .with_context(|| format!("there is no Go and no package of Pebble: {advice}"))?;
    }
    let Some(found) = installed() else {
        bail!("the package `pebble` holds no {CHALLTESTSRV}: {advice}");
    };
    say("using Debian's Pebble, which knows neither ARI nor profiles; tests that need them are skipped");
    Ok(found)
}
