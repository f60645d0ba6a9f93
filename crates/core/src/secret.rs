// SPDX-License-Identifier: Apache-2.0
//! Values that must not be printed, compared carelessly or serialised.
//!
//! They are the types of the `secrecy` crate: wiped when dropped, `Debug` shows `[REDACTED]`, no `Display`, no
//! `Serialize`, and every use is spelled `expose_secret`.

use hmac::{Hmac, KeyInit, Mac};
pub use secrecy::{ExposeSecret, SecretBox, SecretSlice, SecretString};
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// 32 secret bytes: a KEK, a project key, a pepper.
pub type SecretKey = SecretBox<[u8; 32]>;

/// Whether two byte strings are equal, in a time that does not depend on where they differ.
#[must_use]
pub fn equal(left: &[u8], right: &[u8]) -> bool {
    left.ct_eq(right).into()
}

/// 32 bytes as a secret key; the copy handed in is wiped.
#[must_use]
pub fn secret_key(mut bytes: [u8; 32]) -> SecretKey {
    let key = SecretBox::init_with_mut(|slot: &mut [u8; 32]| slot.copy_from_slice(&bytes));
    zeroize::Zeroize::zeroize(&mut bytes);
    key
}

/// HMAC-SHA-256 of `message` (RFC 2104).
#[must_use]
pub fn authenticate(key: &SecretKey, message: &[u8]) -> [u8; 32] {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key.expose_secret()).expect("any key will do");
    mac.update(message);
    mac.finalize().into_bytes().into()
}
