// SPDX-License-Identifier: Apache-2.0
//! Debian packages: shared libraries that a server lacks, and servers that only come as a package.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::command::run;
use super::find_in_path;
use crate::progress::say;

/// An update or an install over a slow mirror.
const APT_LIMIT_SECONDS: u64 = 300;
const LDD_LIMIT_SECONDS: u64 = 30;

/// The package (of Debian 12 and Ubuntu 22.04) of each library that `mongod` 6.0 links.
const PACKAGE_OF: &[(&str, &str)] = &[
    ("libcurl.so.4", "libcurl4"),
    ("libcrypto.so.3", "libssl3"),
    ("libssl.so.3", "libssl3"),
    ("liblzma.so.5", "liblzma5"),
    ("libgcc_s.so.1", "libgcc-s1"),
];

/// Makes sure that every shared library of this binary is there.
///
/// # Errors
/// When one is missing and cannot be installed; the error names the package and the command.
pub(super) fn provide_libraries(binary: &Path) -> anyhow::Result<()> {
    if find_in_path("ldd").is_none() {
        return Ok(());
    }
    let listing = run(Command::new("ldd").arg(binary), Duration::from_secs(LDD_LIMIT_SECONDS))?;
    let missing = missing_libraries(&listing);
    if missing.is_empty() {
        return Ok(());
    }
    let packages: BTreeSet<&str> = missing.iter().filter_map(|library| package_of(library)).collect();
    if packages.is_empty() {
        bail!("{} needs {missing:?}; install the packages that hold them", binary.display());
    }
    let packages: Vec<&str> = packages.into_iter().collect();
    install(&packages).with_context(|| format!("{} needs {missing:?}", binary.display()))
}

/// The library that gives a process another time of day (`LD_PRELOAD`), from Debian's package `faketime`.
///
/// # Errors
/// When it is not there and cannot be installed; the error names the command.
pub fn faketime() -> anyhow::Result<PathBuf> {
    let found = || {
        let folders = std::fs::read_dir("/usr/lib").ok()?.filter_map(Result::ok);
        let mut paths = folders.map(|folder| folder.path().join("faketime/libfaketime.so.1"));
        paths.find(|path| path.is_file())
    };
    if let Some(path) = found() {
        return Ok(path);
    }
    install(&["faketime"])?;
    found().context("the package faketime holds no libfaketime.so.1")
}

/// Makes sure that `ip` is there, of Debian's package `iproute2`.
///
/// # Errors
/// When it is not there and cannot be installed; the error names the command.
pub fn iproute2() -> anyhow::Result<()> {
    if find_in_path("ip").is_none() {
        install(&["iproute2"])?;
    }
    Ok(())
}

/// Installs packages, as root on Debian and its like.
///
/// # Errors
/// When this is not root, there is no apt-get, or it fails.
pub(super) fn install(packages: &[&str]) -> anyhow::Result<()> {
    let by_hand = format!("apt-get update && apt-get install -y {}", packages.join(" "));
    if !rustix::process::geteuid().is_root() || find_in_path("apt-get").is_none() {
        bail!("not root, or no apt-get here; run as root: {by_hand}");
    }
    // Tests that run at once may want the same; dpkg lets one in at a time.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    say(format_args!("installing {} by apt-get", packages.join(", ")));
    let limit = Duration::from_secs(APT_LIMIT_SECONDS);
    let apt = || {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    run(apt().arg("update"), limit).with_context(|| format!("run as root: {by_hand}"))?;
    run(
        apt()
            .args(["install", "-y", "-o", "DPkg::Lock::Timeout=300", "--no-install-recommends"])
            .args(packages),
        limit,
    )
    .with_context(|| format!("run as root: {by_hand}"))?;
    Ok(())
}

fn missing_libraries(ldd: &str) -> Vec<&str> {
    ldd.lines()
        .filter(|line| line.contains("not found"))
        .filter_map(|line| line.split_whitespace().next())
        .collect()
}

fn package_of(library: &str) -> Option<&'static str> {
    PACKAGE_OF.iter().find(|(name, _)| *name == library).map(|(_, package)| *package)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_libraries_are_named_with_their_package() {
        let ldd = "\tlinux-vdso.so.1 (0x00007f)\n\tlibcurl.so.4 => not found\n\tlibm.so.6 => /lib/libm.so.6 (0x00007f)\n";
        assert_eq!(missing_libraries(ldd), ["libcurl.so.4"]);
        assert_eq!(package_of("libcurl.so.4"), Some("libcurl4"));
        assert_eq!(package_of("libunheard-of.so.1"), None);
    }
}
