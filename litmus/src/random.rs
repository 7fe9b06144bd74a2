//! Numbers that look random and are the same for the same seed.

/// SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): one word of state, every seed is a good one.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// A sequence of its own for each seed.
    pub const fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// A sequence for a part of what `seed` decides: the parts do not repeat each other.
    pub fn part(seed: u64, parts: &[u64]) -> Random {
        let mut state = Random(seed);
        for part in parts {
            state = Random(state.word() ^ part.wrapping_mul(0xd6e8_feb8_6659_fd93));
        }
        state
    }

    /// 64 bits.
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// A number below `bound`, which is not 0. Not exactly even, which does not matter for small bounds.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.word() % bound as u64) as usize
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// Any order of `items`.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.below(last + 1);
            items.swap(last, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_one_sequence_and_parts_differ() {
        let words = |mut random: Random| [random.word(), random.word(), random.word()];
        assert_eq!(words(Random::new(7)), words(Random::new(7)));
        assert_ne!(words(Random::part(7, &[1, 2])), words(Random::part(7, &[2, 1])));
        let mut order: Vec<u32> = (0..100).collect();
        Random::new(1).shuffle(&mut order);
        assert!(order.iter().enumerate().any(|(index, item)| index as u32 != *item));
        order.sort_unstable();
        assert_eq!(order, (0..100).collect::<Vec<_>>());
    }
}
