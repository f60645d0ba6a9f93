// SPDX-License-Identifier: Apache-2.0
//! Claims about folders of keys, beside the suite that every provider passes.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};

use cap_core::secret::{ExposeSecret, secret_key};
use tempfile::TempDir;

use super::*;
use crate::kek::contract::Counting;
use crate::kek::generate;

fn key(dir: &Path, name: &str, mode: u32, bytes: &[u8]) {
    let path = dir.join(name);
    fs::write(&path, bytes).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
}

fn open(dir: &Path) -> Result<FileKek, KekFolderError> {
    FileKek::open(dir, Arc::new(Counting::default()))
}

fn folder_with_one() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    key(dir.path(), "v1.key", 0o400, &[1; 32]);
    dir
}

#[test]
fn a_key_that_others_may_read_or_the_group_may_write_is_refused() {
    for (mode, is_good) in [
        (0o400, true),
        (0o600, true),
        (0o440, true),
        (0o640, true),
        (0o444, false),
        (0o644, false),
        (0o660, false),
        (0o602, false),
    ] {
        let dir = tempfile::tempdir().unwrap();
        key(dir.path(), "v1.key", mode, &[1; 32]);
        match open(dir.path()) {
            Ok(_) => assert!(is_good, "{mode:o}"),
            Err(KekFolderError::Exposed { mode: told, .. }) => assert!(!is_good && told == mode, "{mode:o}"),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_key_of_another_length_is_refused() {
    for length in [0, 31, 33, 64] {
        let dir = tempfile::tempdir().unwrap();
        key(dir.path(), "v1.key", 0o400, &vec![1; length]);
        assert!(matches!(open(dir.path()).unwrap_err(), KekFolderError::Length { .. }));
    }
}

#[test]
fn a_folder_that_is_missing_empty_or_has_a_misnamed_key_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let missing = open(&dir.path().join("none")).unwrap_err();
    assert!(matches!(missing, KekFolderError::Folder { .. }));
    key(dir.path(), "README", 0o644, b"not a key");
    assert!(matches!(open(dir.path()).unwrap_err(), KekFolderError::Empty { .. }));
    key(dir.path(), "v1.key", 0o400, &[1; 32]);
    assert!(open(dir.path()).is_ok());
    key(dir.path(), "v02.key", 0o400, &[2; 32]);
    assert!(matches!(open(dir.path()).unwrap_err(), KekFolderError::Name { .. }));
}

#[tokio::test]
async fn the_mounts_of_kubernetes_are_followed() {
    let dir = tempfile::tempdir().unwrap();
    let real = dir.path().join("..2026_01_01");
    fs::create_dir(&real).unwrap();
    key(&real, "v1.key", 0o440, &[1; 32]);
    symlink("..2026_01_01", dir.path().join("..data")).unwrap();
    symlink("..data/v1.key", dir.path().join("v1.key")).unwrap();
    assert_eq!(open(dir.path()).unwrap().versions().await, Ok(vec![1]));
}

#[tokio::test]
async fn a_version_that_is_added_is_found_without_a_restart() {
    let dir = folder_with_one();
    let kek = open(dir.path()).unwrap();
    let absent = kek.wrap(2, &secret_key([9; 32]), b"").await;
    assert_eq!(absent.unwrap_err(), KekError::UnknownVersion(2));
    generate(dir.path(), &Counting::default()).unwrap();
    let wrapped = kek.wrap(2, &secret_key([9; 32]), b"").await.unwrap();
    let unwrapped = kek.unwrap(2, &wrapped, b"").await.unwrap();
    assert_eq!(unwrapped.expose_secret(), &[9; 32]);
    assert_eq!(kek.versions().await, Ok(vec![1, 2]));
}

#[tokio::test]
async fn a_key_that_changes_under_us_is_told_and_not_taken() {
    let dir = folder_with_one();
    let kek = open(dir.path()).unwrap();
    let wrapped = kek.wrap(1, &secret_key([9; 32]), b"").await.unwrap();
    fs::remove_file(dir.path().join("v1.key")).unwrap();
    key(dir.path(), "v1.key", 0o400, &[7; 32]);
    assert!(matches!(kek.versions().await, Err(KekError::Unavailable(why)) if why.contains("v1.key")));
    assert!(kek.unwrap(1, &wrapped, b"").await.is_ok());
}

#[tokio::test]
async fn a_folder_that_goes_away_costs_only_what_is_not_held() {
    let dir = folder_with_one();
    let kek = open(dir.path()).unwrap();
    drop(dir);
    assert!(kek.wrap(1, &secret_key([9; 32]), b"").await.is_ok());
    let other = kek.wrap(2, &secret_key([9; 32]), b"").await;
    assert!(matches!(other, Err(KekError::Unavailable(_))));
}

#[test]
fn no_key_is_shown() {
    let dir = folder_with_one();
    let shown = format!("{:?}", open(dir.path()).unwrap());
    assert!(shown.contains("versions: [1]"), "{shown}");
}
