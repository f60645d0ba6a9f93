// SPDX-License-Identifier: Apache-2.0
//! Files that we write: never half, never over somebody else's, secrets for their owner alone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use cap_core::secret::{ExposeSecret, SecretString};

use crate::exit::Exit;
use crate::failure::Failure;

/// Who may read a file of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// The owner.
    Owner,
    /// Whoever the umask allows.
    Umask,
}

impl Access {
    fn mode(self) -> u32 {
        match self {
            Self::Owner => 0o600,
            Self::Umask => 0o666,
        }
    }
}

/// A new file that is removed again unless it is kept.
#[derive(Debug)]
pub(crate) struct NewFile {
    path: PathBuf,
    file: File,
    kept: bool,
}

impl NewFile {
    /// Creates `path`, which must not exist.
    pub(crate) fn create(path: &Path, access: Access) -> Result<Self, Failure> {
        let opened = OpenOptions::new().write(true).create_new(true).mode(access.mode()).open(path);
        let file = opened.map_err(|error| refused(path, &error))?;
        Ok(Self { path: path.to_owned(), file, kept: false })
    }

    /// Writes the content and makes it survive a loss of power.
    pub(crate) fn fill(&mut self, text: &SecretString) -> Result<(), Failure> {
        let written = self.file.write_all(text.expose_secret().as_bytes());
        let synced = written.and_then(|()| self.file.sync_all()).and_then(|()| sync_folder(&self.path));
        synced.map_err(|error| refused(&self.path, &error))
    }

    /// Leaves the file where it is.
    pub(crate) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.kept {
            // It is gone already, or the folder is: nothing is left behind either way.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Writes a file as a whole. What is there already stays, or with `overwrite` is replaced in one step.
pub(crate) fn write(
    path: &Path,
    text: &SecretString,
    access: Access,
    overwrite: bool,
) -> Result<(), Failure> {
    if !overwrite {
        let mut file = NewFile::create(path, access)?;
        file.fill(text)?;
        file.keep();
        return Ok(());
    }
    // A device, or a link that others follow, would be a file from then on.
    if let Ok(there) = fs::symlink_metadata(path)
        && !there.is_file()
    {
        let what = format!("{} cannot be written", path.display());
        let hint = "name a file; where it is a link, name what it leads to";
        return Err(Failure::new(Exit::Error, what, "what is there is no file of its own").hint(hint));
    }
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.new", std::process::id()));
    let mut file = NewFile::create(&path.with_file_name(name), access)?;
    file.fill(text)?;
    fs::rename(&file.path, path).and_then(|()| sync_folder(path)).map_err(|error| refused(path, &error))?;
    file.keep();
    Ok(())
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

fn refused(path: &Path, error: &io::Error) -> Failure {
    let what = format!("{} cannot be written", path.display());
    if error.kind() == io::ErrorKind::AlreadyExists {
        return Failure::new(Exit::Error, what, "there is a file of that name").hint("name another file");
    }
    Failure::new(Exit::Error, what, error.to_string()).hint("name a file in a folder that you may write to")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn what_is_no_file_of_its_own_is_not_replaced_by_one() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("key.pem"), dir.path().join("link.pem"));
        write(&file, &"one".into(), Access::Owner, false).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        for path in [link.as_path(), dir.path(), Path::new("/dev/null")] {
            assert!(write(path, &"two".into(), Access::Owner, true).is_err(), "{}", path.display());
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), "one");
        write(&file, &"two".into(), Access::Owner, true).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "two");
    }

    #[test]
    fn a_secret_is_its_owners_alone_and_nothing_is_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        write(&path, &"one".into(), Access::Owner, false).unwrap();
        assert_eq!(mode(&path), 0o600);
        assert!(write(&path, &"two".into(), Access::Owner, false).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "one");
    }

    #[test]
    fn with_leave_a_file_is_replaced_together_with_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        write(&path, &"new".into(), Access::Owner, true).unwrap();
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), mode(&path)), ("new", 0o600));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left behind");
    }

    #[test]
    fn a_file_that_is_not_kept_leaves_no_trace() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let mut file = NewFile::create(&path, Access::Owner).unwrap();
        file.fill(&"secret".into()).unwrap();
        drop(file);
        assert!(!path.exists());
    }
}
