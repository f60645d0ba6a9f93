// SPDX-License-Identifier: Apache-2.0
//! Providers of key encryption keys. Every one passes the same suite, at the foot of this folder.

mod env;
mod error;
mod file;
mod folder;
mod generate;
mod held;

pub use env::EnvKek;
pub use error::KekFolderError;
pub use file::FileKek;
pub use generate::generate;

/// 256 bits, as AES-256 takes them.
const KEY_OCTETS: usize = 32;

#[cfg(test)]
mod contract;
