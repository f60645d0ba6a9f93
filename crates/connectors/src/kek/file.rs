// SPDX-License-Identifier: Apache-2.0
//! Keys in a folder of `v<N>.key` files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use cap_core::entropy::Entropy;
use cap_core::envelope::{Kek, KekError, KekVersion};
use cap_core::secret::SecretKey;

use super::held::Held;
use super::{KekFolderError, folder};

/// The provider `file`. Keys are read once; the folder is read again when a version is asked for that it did not
/// have, so that a rotation needs no restart. A version that we hold is never replaced.
#[derive(Debug)]
pub struct FileKek {
    dir: PathBuf,
    held: Held,
}

impl FileKek {
    /// Reads every key of a folder.
    ///
    /// # Errors
    /// When the folder cannot be read or has no key, and when a key is misnamed, open to others or of the wrong
    /// length, or the folder itself is open to others.
    pub fn open(dir: &Path, entropy: Arc<dyn Entropy>) -> Result<Self, KekFolderError> {
        let keys = folder::read(dir)?;
        if keys.is_empty() {
            let origin = format!("the KEK folder {}", dir.display());
            return Err(KekFolderError::Empty { origin });
        }
        Ok(Self { dir: dir.to_owned(), held: Held::new(keys, entropy) })
    }

    /// Reads the folder again and takes in what is new. A few small local files: not worth a thread.
    fn read_again(&self) -> Result<(), KekError> {
        let added = folder::read(&self.dir).and_then(|keys| {
            self.held
                .add(keys)
                .map_err(|version| KekFolderError::Replaced { path: folder::path_of(&self.dir, version) })
        });
        added.map_err(|error| {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
            KekError::Unavailable(format!("{error}{}", cause.unwrap_or_default()))
        })
    }

    fn ensure(&self, version: KekVersion) -> Result<(), KekError> {
        if self.held.has(version) { Ok(()) } else { self.read_again() }
    }
}

#[async_trait]
impl Kek for FileKek {
    fn provider(&self) -> &'static str {
        "file"
    }

    async fn versions(&self) -> Result<Vec<KekVersion>, KekError> {
        self.read_again()?;
        Ok(self.held.versions())
    }

    async fn wrap(
        &self,
        version: KekVersion,
        key: &SecretKey,
        associated_data: &[u8],
    ) -> Result<Vec<u8>, KekError> {
        self.ensure(version)?;
        self.held.wrap(version, key, associated_data)
    }

    async fn unwrap(
        &self,
        version: KekVersion,
        wrapped: &[u8],
        associated_data: &[u8],
    ) -> Result<SecretKey, KekError> {
        self.ensure(version)?;
        self.held.unwrap(version, wrapped, associated_data)
    }
}

#[cfg(test)]
mod tests;
