// SPDX-License-Identifier: Apache-2.0
//! Luck as a parameter.

use std::fmt::Debug;
use std::time::Duration;

/// Where random bytes come from: the operating system in real processes, a seed in tests.
///
/// Key pairs are the exception: the cryptographic library draws those itself.
pub trait Entropy: Debug + Send + Sync {
    /// Fills `bytes` with random bytes fit for keys.
    fn fill(&self, bytes: &mut [u8]);
}

/// An array of random bytes.
pub fn bytes<const N: usize>(entropy: &dyn Entropy) -> [u8; N] {
    let mut bytes = [0; N];
    entropy.fill(&mut bytes);
    bytes
}

/// A number in `0..bound`; the bias is at most `bound` / 2^64. Zero when `bound` is zero.
pub fn below(entropy: &dyn Entropy, bound: u64) -> u64 {
    u64::from_le_bytes(bytes(entropy)).checked_rem(bound).unwrap_or(0)
}

/// A duration uniform in `from..to`, to the millisecond; `from` when the range is empty.
pub fn between(entropy: &dyn Entropy, from: Duration, to: Duration) -> Duration {
    let span_ms = u64::try_from(to.saturating_sub(from).as_millis()).unwrap_or(u64::MAX);
    from + Duration::from_millis(below(entropy, span_ms))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::sync::Mutex;

    /// A small seeded generator (splitmix64), good enough to be repeatable.
    #[derive(Debug)]
    pub(crate) struct Seeded(pub(crate) Mutex<u64>);

    impl Seeded {
        pub(crate) fn new(seed: u64) -> Self {
            Self(Mutex::new(seed))
        }
    }

    impl Entropy for Seeded {
        fn fill(&self, bytes: &mut [u8]) {
            let mut state = self.0.lock().unwrap();
            for chunk in bytes.chunks_mut(8) {
                *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
                let mut z = *state;
                z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
                z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
                chunk.copy_from_slice(&(z ^ (z >> 31)).to_le_bytes()[..chunk.len()]);
            }
        }
    }

    #[test]
    fn drawn_durations_stay_inside_their_range() {
        let luck = Seeded::new(7);
        let (from, to) = (Duration::from_secs(1), Duration::from_secs(2));
        for _ in 0..1000 {
            let drawn = between(&luck, from, to);
            assert!(drawn >= from && drawn < to);
        }
        assert_eq!(between(&luck, to, from), to);
    }
}
