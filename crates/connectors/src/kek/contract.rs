// SPDX-License-Identifier: Apache-2.0
//! What every provider must do, as one suite.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use cap_core::entropy::Entropy;
use cap_core::envelope::{Kek, KekError};
use cap_core::secret::{ExposeSecret, secret_key};

use super::{EnvKek, FileKek};

/// Luck that never gives the same byte string twice in a row.
#[derive(Debug, Default)]
pub(super) struct Counting(AtomicU8);

impl Entropy for Counting {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(self.0.fetch_add(1, Ordering::Relaxed));
    }
}

const PLACE: &[u8] = b"this key of this cluster";
const ABSENT: u32 = 77;

/// `kek` has the versions 1 and 2, which are different keys, and not [`ABSENT`].
async fn suite(kek: &dyn Kek) {
    assert_eq!(kek.versions().await, Ok(vec![1, 2]));
    round_trip(kek).await;
    wrong_place_or_version(kek).await;
    changed_bytes(kek).await;
    unknown_version(kek).await;
}

async fn round_trip(kek: &dyn Kek) {
    for version in [1, 2] {
        let first = kek.wrap(version, &secret_key([9; 32]), PLACE).await.unwrap();
        let second = kek.wrap(version, &secret_key([9; 32]), PLACE).await.unwrap();
        assert_ne!(first, second, "two wraps of one key share nothing");
        for wrapped in [first, second] {
            let unwrapped = kek.unwrap(version, &wrapped, PLACE).await.unwrap();
            assert_eq!(unwrapped.expose_secret(), &[9; 32]);
        }
    }
}

async fn wrong_place_or_version(kek: &dyn Kek) {
    let wrapped = kek.wrap(1, &secret_key([9; 32]), PLACE).await.unwrap();
    let elsewhere = kek.unwrap(1, &wrapped, b"elsewhere").await;
    assert_eq!(elsewhere.unwrap_err(), KekError::Wrong(1));
    assert_eq!(kek.unwrap(2, &wrapped, PLACE).await.unwrap_err(), KekError::Wrong(2));
}

async fn changed_bytes(kek: &dyn Kek) {
    let wrapped = kek.wrap(1, &secret_key([9; 32]), PLACE).await.unwrap();
    for cut in [0, 1, 32, 64, wrapped.len() - 1] {
        let answer = kek.unwrap(1, &wrapped[..cut], PLACE).await;
        assert_eq!(answer.unwrap_err(), KekError::Wrong(1), "cut to {cut}");
    }
    for at in 0..wrapped.len() {
        let mut changed = wrapped.clone();
        changed[at] ^= 1;
        assert_eq!(kek.unwrap(1, &changed, PLACE).await.unwrap_err(), KekError::Wrong(1));
    }
    let longer = [wrapped.as_slice(), &[0]].concat();
    assert_eq!(kek.unwrap(1, &longer, PLACE).await.unwrap_err(), KekError::Wrong(1));
    let garbage = kek.unwrap(1, &[0xA5; 112], PLACE).await;
    assert_eq!(garbage.unwrap_err(), KekError::Wrong(1));
}

async fn unknown_version(kek: &dyn Kek) {
    let wrapped = kek.wrap(1, &secret_key([9; 32]), PLACE).await.unwrap();
    let unknown = KekError::UnknownVersion(ABSENT);
    assert_eq!(kek.unwrap(ABSENT, &wrapped, PLACE).await.unwrap_err(), unknown);
    let answer = kek.wrap(ABSENT, &secret_key([9; 32]), PLACE).await;
    assert_eq!(answer.unwrap_err(), unknown);
}

#[tokio::test]
async fn the_environment_passes() {
    let keys = BTreeMap::from([(2, secret_key([2; 32])), (1, secret_key([1; 32]))]);
    suite(&EnvKek::new(keys, Arc::new(Counting::default())).unwrap()).await;
}

#[tokio::test]
async fn the_folder_passes() {
    let dir = tempfile::tempdir().unwrap();
    for version in [1_u8, 2] {
        let path = dir.path().join(format!("v{version}.key"));
        fs::write(&path, [version; 32]).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
    }
    suite(&FileKek::open(dir.path(), Arc::new(Counting::default())).unwrap()).await;
}

#[test]
fn an_environment_without_a_key_is_refused() {
    assert!(EnvKek::new(BTreeMap::new(), Arc::new(Counting::default())).is_err());
}
