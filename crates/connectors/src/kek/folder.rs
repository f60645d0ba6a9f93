// SPDX-License-Identifier: Apache-2.0
//! Reading a folder of `v<N>.key` files.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use cap_core::envelope::KekVersion;
use cap_core::secret::{SecretKey, secret_key};
use rustix::fs::StatVfsMountFlags;
use zeroize::Zeroizing;

use super::held::Keys;
use super::{KEY_OCTETS, KekFolderError};

/// Mode bits that no key may have: others read, others write, group writes. The group may read: Kubernetes mounts
/// keys 0440 for the group of the pod.
const EXPOSED: u32 = 0o026;

/// Mode bits that a folder of keys may not have: who may write it may put another key in a key's place.
const OPEN: u32 = 0o022;

/// The file of a version.
pub(super) fn path_of(dir: &Path, version: KekVersion) -> PathBuf {
    dir.join(format!("v{version}.key"))
}

/// Every key of the folder.
pub(super) fn read(dir: &Path) -> Result<Keys, KekFolderError> {
    let versions = versions(dir)?;
    let keys = versions.into_iter().map(|version| Ok((version, read_key(&path_of(dir, version))?)));
    keys.collect()
}

/// Every version that has a file. What is not named like a key at all is passed over; what nearly is, is refused.
///
/// # Errors
/// When the folder cannot be listed, or others or the group may write it.
pub(super) fn versions(dir: &Path) -> Result<Vec<KekVersion>, KekFolderError> {
    let refuse = |source| KekFolderError::Folder { dir: dir.to_owned(), source };
    let mode = fs::metadata(dir).map_err(refuse)?.permissions().mode() & 0o7777;
    let mount = rustix::fs::statvfs(dir).map_err(|error| refuse(error.into()))?;
    if is_open(mode, mount.f_flag.contains(StatVfsMountFlags::RDONLY)) {
        return Err(KekFolderError::FolderExposed { dir: dir.to_owned(), mode });
    }
    let mut versions = Vec::new();
    for entry in fs::read_dir(dir).map_err(refuse)? {
        let name = entry.map_err(refuse)?.file_name();
        let name = name.to_string_lossy();
        match parse(&name) {
            Named::Key(version) => versions.push(version),
            Named::Nearly => {
                let path = dir.join(name.as_ref());
                return Err(KekFolderError::Name { path });
            }
            Named::Otherwise => {}
        }
    }
    versions.sort_unstable();
    Ok(versions)
}

/// Whether somebody else may write a folder. On a file system that is mounted read-only nobody may, whatever the mode
/// says: Kubernetes mounts secrets that way, and their folder is 1777.
fn is_open(mode: u32, is_read_only: bool) -> bool {
    !is_read_only && mode & OPEN != 0
}

#[derive(Debug, PartialEq, Eq)]
enum Named {
    Key(KekVersion),
    Nearly,
    Otherwise,
}

fn parse(name: &str) -> Named {
    let lower = name.to_ascii_lowercase();
    let Some(middle) = lower.strip_prefix('v').and_then(|rest| rest.strip_suffix(".key")) else {
        return Named::Otherwise;
    };
    match middle.parse::<KekVersion>() {
        Ok(version) if version > 0 && name == format!("v{version}.key") => Named::Key(version),
        Ok(_) | Err(_) => Named::Nearly,
    }
}

fn read_key(path: &Path) -> Result<SecretKey, KekFolderError> {
    let refuse = |source| KekFolderError::Key { path: path.to_owned(), source };
    // The mode is asked of what was opened, so that what is read is what was checked.
    let mut file = File::open(path).map_err(refuse)?;
    let metadata = file.metadata().map_err(refuse)?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & EXPOSED != 0 {
        let path = path.to_owned();
        return Err(KekFolderError::Exposed { path, mode });
    }
    let mut key = Zeroizing::new([0; KEY_OCTETS]);
    let is_whole = fill(&mut file, key.as_mut_slice()).map_err(refuse)?;
    let rest = file.read(&mut [0]).map_err(refuse)?;
    if !is_whole || rest != 0 {
        return Err(KekFolderError::Length { path: path.to_owned() });
    }
    Ok(secret_key(*key))
}

/// Fills `bytes`; says whether the file had as many.
fn fill(file: &mut File, bytes: &mut [u8]) -> io::Result<bool> {
    match file.read_exact(bytes) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_the_group_or_others_may_write_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for (mode, refused) in
            [(0o770, true), (0o702, true), (0o1777, true), (0o755, false), (0o700, false), (0o500, false)]
        {
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
            let listed = versions(dir.path());
            assert_eq!(matches!(listed, Err(KekFolderError::FolderExposed { .. })), refused, "{mode:o}");
            if let Err(error) = listed {
                assert!(error.to_string().contains("chmod go-w"), "{error}");
            }
        }
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
    }

    #[test]
    fn a_folder_that_is_mounted_read_only_is_nobodys_to_write() {
        assert!(is_open(0o1777, false) && !is_open(0o1777, true));
    }

    #[test]
    fn names_are_keys_nearly_keys_or_none_of_ours() {
        assert_eq!(parse("v1.key"), Named::Key(1));
        assert_eq!(parse("v4294967295.key"), Named::Key(u32::MAX));
        for name in [
            "v01.key",
            "v0.key",
            "V1.key",
            "v1.KEY",
            "vX.key",
            "v+1.key",
            "v.key",
            "v4294967296.key",
            "v1.5.key",
        ] {
            assert_eq!(parse(name), Named::Nearly, "{name}");
        }
        for name in ["..data", "README", ".v2.key.new", "v1.key.bak", "other.key"] {
            assert_eq!(parse(name), Named::Otherwise, "{name}");
        }
    }
}
