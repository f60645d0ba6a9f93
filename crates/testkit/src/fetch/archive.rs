// SPDX-License-Identifier: Apache-2.0
//! One file out of a zip archive whose SHA-256 is known beforehand.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, ensure};
use sha2::{Digest as _, Sha256};

/// An unpacked server is some 140 MB; anything far larger is not what was pinned.
const MAX_UNPACKED_BYTES: u64 = 512 * 1024 * 1024;
const READ_BUFFER_BYTES: usize = 64 * 1024;
/// Anybody may run it, only its owner may change it.
const EXECUTABLE_MODE: u32 = 0o755;

/// Compares the file with its pinned digest.
pub(super) fn verify(path: &Path, pinned_sha256: &str) -> anyhow::Result<()> {
    let mut file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; READ_BUFFER_BYTES];
    loop {
        let read = file.read(&mut buffer).with_context(|| format!("reading {}", path.display()))?;
        if read == 0 {
            break;
        }
        digest.update(&buffer[..read]);
    }
    let found = hex::encode(digest.finalize());
    ensure!(
        found == pinned_sha256,
        "{} has SHA-256 {found}, pinned is {pinned_sha256}: it is not the file that was reviewed, and is not used",
        path.display()
    );
    Ok(())
}

/// Unpacks the entry whose path ends with `suffix` to `target`, executable, in one rename.
pub(super) fn unpack_executable(archive: &Path, suffix: &str, target: &Path) -> anyhow::Result<()> {
    let file = File::open(archive).with_context(|| format!("opening {}", archive.display()))?;
    let mut zip = zip::ZipArchive::new(file).with_context(|| format!("reading {}", archive.display()))?;
    let name = zip.file_names().flatten().find(|name| name.ends_with(suffix)).map(Cow::into_owned);
    let name = name.with_context(|| format!("{} holds no {suffix}", archive.display()))?;
    let entry = zip.by_name(&name).with_context(|| format!("finding {name}"))?;
    ensure!(entry.size() <= MAX_UNPACKED_BYTES, "{name} says that it unpacks to {} bytes", entry.size());
    let folder = target.parent().context("the target lies in no folder")?;
    let mut unpacked = tempfile::NamedTempFile::new_in(folder).context("making a file in the cache")?;
    let copied = io::copy(&mut entry.take(MAX_UNPACKED_BYTES + 1), &mut unpacked)
        .with_context(|| format!("unpacking {name}"))?;
    ensure!(copied <= MAX_UNPACKED_BYTES, "{name} unpacks to more than {MAX_UNPACKED_BYTES} bytes");
    fs::set_permissions(unpacked.path(), fs::Permissions::from_mode(EXECUTABLE_MODE))?;
    unpacked.as_file().sync_all()?;
    unpacked.persist(target).with_context(|| format!("writing {}", target.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_file_that_is_not_the_pinned_one_is_refused() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"abc").unwrap();
        // FIPS 180-2, appendix B.1.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        verify(file.path(), abc).unwrap();
        file.write_all(b"d").unwrap();
        assert!(verify(file.path(), abc).unwrap_err().to_string().contains("not used"));
    }
}
