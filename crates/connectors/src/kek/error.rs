// SPDX-License-Identifier: Apache-2.0
//! What can be wrong with keys that we hold ourselves.

use std::io;
use std::path::PathBuf;

use super::KEY_OCTETS;

/// Why a folder of keys, or a set of keys, is not used.
#[derive(Debug, thiserror::Error)]
pub enum KekFolderError {
    /// The folder cannot be listed.
    #[error("the KEK folder {} cannot be listed; name a folder that this process may read", .dir.display())]
    Folder {
        /// The folder.
        dir: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The folder is open to others.
    #[error("others may write the KEK folder {} (mode {mode:04o}), and so put their own key in a key's place; chmod go-w it, and see that the keys are still yours", .dir.display())]
    FolderExposed {
        /// The folder.
        dir: PathBuf,
        /// Its mode bits.
        mode: u32,
    },
    /// There is no key.
    #[error("{origin} has no key; `certautopilot kek generate` makes the first one")]
    Empty {
        /// Where keys were looked for.
        origin: String,
    },
    /// A file that was meant to be a key and would be passed over.
    #[error("{} is not named like a key; rename it to v<N>.key, N from 1 on without leading zeros, or move it away", .path.display())]
    Name {
        /// The file.
        path: PathBuf,
    },
    /// A key cannot be read.
    #[error("the KEK {} cannot be read; let this process read it", .path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A key is open to others.
    #[error("others may read or change the KEK {} (mode {mode:04o}); chmod 0400 it, and consider the key known to whoever could read it", .path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode bits.
        mode: u32,
    },
    /// A key has the wrong length.
    #[error("the KEK {} is not {KEY_OCTETS} octets long; it holds the raw key, without a newline and not in hexadecimal", .path.display())]
    Length {
        /// The file.
        path: PathBuf,
    },
    /// A version that we hold is now another key.
    #[error("the KEK {} is no longer the key that it was when this process started; put the old key back and give the new one the next version", .path.display())]
    Replaced {
        /// The file.
        path: PathBuf,
    },
    /// A new key cannot be written.
    #[error("the new KEK {} cannot be written; nothing was changed", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}
