// SPDX-License-Identifier: Apache-2.0
//! Making the next key.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use cap_core::entropy::Entropy;
use cap_core::envelope::KekVersion;
use zeroize::Zeroizing;

use super::{KEY_OCTETS, KekFolderError, folder};

/// Writes a new random key as the next version, 0600, into `dir`, which is made (0700) when it is not there. The
/// file appears whole or not at all, survives a loss of power once this returns, and never takes another's place.
///
/// # Errors
/// When the folder cannot be read or written, has a misnamed key, or somebody else made the same version meanwhile.
pub fn generate(dir: &Path, entropy: &dyn Entropy) -> Result<(KekVersion, PathBuf), KekFolderError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|source| KekFolderError::Folder { dir: dir.to_owned(), source })?;
    let version = folder::versions(dir)?.last().map_or(1, |last| last.saturating_add(1));
    let path = folder::path_of(dir, version);
    let mut key = Zeroizing::new([0; KEY_OCTETS]);
    entropy.fill(key.as_mut_slice());
    match write(dir, &path, key.as_slice()) {
        Ok(()) => Ok((version, path)),
        Err(source) => Err(KekFolderError::Write { path, source }),
    }
}

fn write(dir: &Path, path: &Path, key: &[u8]) -> io::Result<()> {
    let mut hidden = path.file_name().unwrap_or_default().to_owned();
    hidden.push(format!(".{}.new", std::process::id()));
    let hidden = dir.join(format!(".{}", hidden.to_string_lossy()));
    let written = fill(&hidden, key).and_then(|()| {
        // A link, unlike a rename, fails when the name is taken.
        fs::hard_link(&hidden, path)?;
        File::open(dir)?.sync_all()
    });
    let removed = fs::remove_file(&hidden);
    written.and(removed)
}

fn fill(path: &Path, key: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(key)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::kek::contract::Counting;

    #[test]
    fn versions_follow_each_other_and_the_files_are_ours_alone() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("not").join("there yet");
        let luck = Counting::default();
        for expected in 1..=3 {
            let (version, path) = generate(&dir, &luck).unwrap();
            assert_eq!((version, &path), (expected, &dir.join(format!("v{expected}.key"))));
            let metadata = fs::metadata(&path).unwrap();
            assert_eq!(metadata.len(), 32);
            assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 3, "nothing else is left behind");
        assert_eq!(folder::read(&dir).unwrap().len(), 3);
    }

    #[test]
    fn a_key_that_is_there_is_never_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("v1.key");
        fs::write(&path, b"the old key").unwrap();
        let error = write(dir.path(), &path, &[1; 32]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"the old key");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_last_version_has_no_successor() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("v4294967295.key"), [0; 32]).unwrap();
        let error = generate(dir.path(), &Counting::default()).unwrap_err();
        assert!(matches!(error, KekFolderError::Write { .. }), "{error}");
    }

    #[test]
    fn a_misnamed_key_stops_the_making_of_another() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("v01.key"), [0; 32]).unwrap();
        let error = generate(dir.path(), &Counting::default()).unwrap_err();
        assert!(matches!(error, KekFolderError::Name { .. }), "{error}");
    }
}
