// SPDX-License-Identifier: Apache-2.0
//! The operating system's random bytes.

use cap_core::entropy::Entropy;
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

/// `getrandom(2)`, which waits for the kernel's pool once after boot and never runs dry later.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsEntropy;

impl Entropy for OsEntropy {
    /// # Panics
    /// When the kernel has no random bytes: to go on would mean guessable keys.
    fn fill(&self, bytes: &mut [u8]) {
        let mut filled = 0;
        while filled < bytes.len() {
            match getrandom(&mut bytes[filled..], GetRandomFlags::empty()) {
                Ok(count) => filled += count,
                // A signal came first; the kernel says so instead of filling.
                Err(Errno::INTR) => {}
                Err(error) => panic!("getrandom(2) failed: {error}; without random bytes no key is safe"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_filled_whatever_the_length() {
        for length in [0, 1, 32, 256, 100_000] {
            // A byte that four fills leave at zero was not written (chance: 2^-32 each).
            let mut seen = vec![0_u8; length];
            for _ in 0..8 {
                let mut bytes = vec![0; length];
                OsEntropy.fill(&mut bytes);
                for (seen, byte) in seen.iter_mut().zip(bytes) {
                    *seen |= byte;
                }
            }
            assert!(seen.iter().all(|byte| *byte != 0));
        }
    }
}
