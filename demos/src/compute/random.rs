//! Numbers that look random and follow from a seed, the same on every node.

/// The generator SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    /// Step of the state: 2^64 divided by the golden ratio.
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

    /// The numbers of this seed.
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The numbers of this seed from number `first` on.
    pub(super) fn from_number(seed: u64, first: u64) -> Self {
        Self(seed.wrapping_add(first.wrapping_mul(Self::STEP)))
    }

    /// The next of 64 bits.
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(Self::STEP);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// The next from 0 up to `limit`, exclusive; even enough for a demo.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(limit)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_can_be_entered_anywhere() {
        let mut all = Random::new(7);
        for first in 0..20 {
            assert_eq!(Random::from_number(7, first).next(), all.next());
        }
    }

    #[test]
    fn limits_are_kept() {
        let mut random = Random::new(1);
        for limit in 1..200 {
            assert!(random.below(limit) < limit);
        }
    }
}
