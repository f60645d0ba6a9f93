// SPDX-License-Identifier: Apache-2.0
//! Luck that is the same on every machine for the same seed (splitmix64).

/// A sequence of draws.
#[derive(Clone, Debug)]
pub struct Luck(u64);

impl Luck {
    /// The sequence of this seed.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// A number from 0 on, below `bound`; 0 where nothing is below it.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound.max(1)
    }

    /// Whether something happens that does so with this probability.
    pub fn strikes(&mut self, probability: f64) -> bool {
        /// As many bits as an f64 holds without loss.
        const BITS: u32 = 53;
        #[expect(clippy::cast_precision_loss, reason = "both are at most 2^53")]
        let drawn = (self.draw() >> (u64::BITS - BITS)) as f64 / (1_u64 << BITS) as f64;
        drawn < probability
    }

    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides_everything() {
        let drawn = |seed| {
            let mut luck = Luck::seeded(seed);
            (0..20).map(|_| luck.below(1_000)).collect::<Vec<_>>()
        };
        assert_eq!(drawn(7), drawn(7));
        assert_ne!(drawn(7), drawn(8));
        assert_eq!(Luck::seeded(7).below(0), 0);
    }

    #[test]
    fn what_is_likely_strikes_often() {
        let struck = |probability| {
            let mut luck = Luck::seeded(1);
            (0..10_000).filter(|_| luck.strikes(probability)).count()
        };
        assert_eq!((struck(0.0), struck(1.0)), (0, 10_000));
        assert!((1_800..2_200).contains(&struck(0.2)), "{}", struck(0.2));
    }
}
