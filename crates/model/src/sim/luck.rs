// SPDX-License-Identifier: Apache-2.0
//! Luck out of a seed.

use std::sync::Mutex;
use std::time::Duration;

use cap_core::entropy::Entropy;

use super::world::lock;

/// A small seeded generator (splitmix64).
#[derive(Debug, Clone)]
pub(super) struct Luck(u64);

impl Luck {
    pub(super) fn new(seed: u64) -> Self {
        let mut luck = Self(seed);
        luck.next();
        luck
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number in `0..bound`; zero when `bound` is zero.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() >> 1).unwrap_or(0).checked_rem(bound).unwrap_or(0)
    }

    /// True so often in a thousand.
    pub(super) fn permille(&mut self, of_a_thousand: usize) -> bool {
        self.below(1_000) < of_a_thousand
    }

    /// A time uniform in `from..to`, to the millisecond.
    pub(super) fn between(&mut self, from: Duration, to: Duration) -> Duration {
        let span = usize::try_from(to.saturating_sub(from).as_millis()).unwrap_or(usize::MAX);
        from + Duration::from_millis(u64::try_from(self.below(span)).unwrap_or(0))
    }

    /// One of them.
    pub(super) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

/// The luck of the code under test, apart from that of the world around it.
#[derive(Debug)]
pub(super) struct Dice(Mutex<Luck>);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(Mutex::new(Luck::new(seed)))
    }
}

impl Entropy for Dice {
    fn fill(&self, bytes: &mut [u8]) {
        let mut luck = lock(&self.0);
        for chunk in bytes.chunks_mut(8) {
            let drawn = luck.next().to_le_bytes();
            chunk.copy_from_slice(&drawn[..chunk.len()]);
        }
    }
}
