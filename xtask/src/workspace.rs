// SPDX-License-Identifier: Apache-2.0
//! Where things are.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use cargo_metadata::{Metadata, MetadataCommand};

/// The checkout that this binary was built from.
pub(crate) fn root() -> anyhow::Result<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(manifest.parent().context("xtask lies in the workspace")?.to_owned())
}

/// Names another folder for the local stack: for the tests of these commands.
const HOME_VARIABLE: &str = "CAP_TEST_LOCAL_HOME";

/// The local stack's folder: in the checkout, so that two checkouts never share one.
pub(crate) fn local_home() -> anyhow::Result<PathBuf> {
    if let Some(home) = std::env::var_os(HOME_VARIABLE) {
        return Ok(home.into());
    }
    Ok(root()?.join("target").join("local"))
}

/// What cargo says about the workspace, without its dependencies' dependencies.
pub(crate) fn metadata() -> anyhow::Result<Metadata> {
    let mut command = MetadataCommand::new();
    command.manifest_path(root()?.join("Cargo.toml")).no_deps();
    command.exec().context("asking cargo for the workspace's metadata")
}

/// Where cargo puts the binaries of this profile.
pub(crate) fn bin_dir(release: bool) -> anyhow::Result<PathBuf> {
    let target = metadata()?.target_directory.into_std_path_buf();
    Ok(target.join(if release { "release" } else { "debug" }))
}
