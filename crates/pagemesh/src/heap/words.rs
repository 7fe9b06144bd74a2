//! What the words of a heap's tables mean.

use super::geometry::BLOCKS_A_WORD;

/// What a span holds. It stands in the first word of the span's page, and counts: what the [`Hint`] says does not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Header {
    pub(super) kind: Kind,
    /// How often the span was given a use, modulo 2^16. Words of the map that carry another number are of a former use.
    pub(super) generation: u16,
    /// Small: blocks that are allocated or about to be. Large: pages of the block. Part: 1 where a block
    /// began that is being freed.
    pub(super) count: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// Nothing.
    None,
    /// Blocks of a class.
    Small(u8),
    /// A block of whole spans begins here.
    Large,
    /// Inside such a block, or becoming so, or ceasing to be.
    Part,
    /// Somebody has written here who should not.
    Unknown(u8),
}

impl Header {
    pub(super) fn read(word: u64) -> Header {
        let kind = match word as u8 {
            0 => Kind::None,
            254 => Kind::Large,
            255 => Kind::Part,
            class @ 1..=200 => Kind::Small(class - 1),
            other => Kind::Unknown(other),
        };
        Header { kind, generation: (word >> 8) as u16, count: word >> 24 }
    }

    pub(super) fn word(self) -> u64 {
        let kind = match self.kind {
            Kind::None => 0,
            Kind::Small(class) => class + 1,
            Kind::Large => 254,
            Kind::Part => 255,
            Kind::Unknown(other) => other,
        };
        self.count << 24 | u64::from(self.generation) << 8 | u64::from(kind)
    }

    /// Whether it can be given another use.
    pub(super) fn is_free(self) -> bool {
        match self.kind {
            Kind::None => true,
            Kind::Small(_) => self.count == 0,
            _ => false,
        }
    }

    /// The next use.
    pub(super) fn renewed(self, kind: Kind, count: u64) -> Header {
        Header { kind, generation: self.generation.wrapping_add(1), count }
    }
}

/// Which of 48 blocks are allocated, with the generation that the word is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Map {
    generation: u16,
    bits: u64,
}

impl Map {
    /// Of a span in this generation; what is left of another is none allocated.
    pub(super) fn read(word: u64, generation: u16) -> Map {
        let (found, bits) = ((word >> BLOCKS_A_WORD) as u16, word & ((1 << BLOCKS_A_WORD) - 1));
        Map { generation, bits: if found == generation { bits } else { 0 } }
    }

    pub(super) fn word(self) -> u64 {
        u64::from(self.generation) << BLOCKS_A_WORD | self.bits
    }

    pub(super) fn first_free(self, blocks: usize) -> Option<usize> {
        let first = self.bits.trailing_ones() as usize;
        (first < blocks.min(BLOCKS_A_WORD)).then_some(first)
    }

    pub(super) fn has(self, block: usize) -> bool {
        self.bits >> block & 1 == 1
    }

    pub(super) fn toggled(self, block: usize) -> Map {
        Map { bits: self.bits ^ 1 << block, ..self }
    }
}

/// Where room may be found. Says what is likely: whoever follows it asks the [`Header`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Hint {
    /// Nothing is in it.
    Free,
    /// A node allocates from it.
    Claimed(Use),
    /// It has room, and no node allocates from it.
    Room(Use),
    /// No room. Of a large block too.
    Busy(Use),
    /// The hint is lost.
    Unknown,
}

/// Whose blocks of which class.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Use {
    pub(super) node: u16,
    pub(super) class: u8,
}

impl Hint {
    pub(super) fn read(word: u64) -> Hint {
        let of = Use { node: (word >> 16) as u16, class: (word >> 8) as u8 };
        match word as u8 {
            0 => Hint::Free,
            1 => Hint::Claimed(of),
            2 => Hint::Room(of),
            3 => Hint::Busy(of),
            _ => Hint::Unknown,
        }
    }

    pub(super) fn word(self) -> u64 {
        let (state, of) = match self {
            Hint::Free => return 0,
            Hint::Claimed(of) => (1, of),
            Hint::Room(of) => (2, of),
            Hint::Busy(of) => (3, of),
            Hint::Unknown => return 4,
        };
        u64::from(of.node) << 16 | u64::from(of.class) << 8 | state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_hold_what_was_put_in() {
        for kind in
            [Kind::None, Kind::Small(0), Kind::Small(199), Kind::Large, Kind::Part, Kind::Unknown(230)]
        {
            for (generation, count) in [(0, 0), (u16::MAX, (1 << 32) - 1), (7, 9)] {
                let header = Header { kind, generation, count };
                assert_eq!(Header::read(header.word()), header);
            }
        }
        let of = Use { node: 1023, class: 77 };
        for hint in [Hint::Free, Hint::Claimed(of), Hint::Room(of), Hint::Busy(of), Hint::Unknown] {
            assert_eq!(Hint::read(hint.word()), hint);
        }
        assert_eq!(Header::read(0).kind, Kind::None, "untouched tables say that everything is free");
    }

    #[test]
    fn a_map_of_a_former_use_is_empty() {
        let map = Map::read(0, 5).toggled(3).toggled(47);
        assert_eq!(Map::read(map.word(), 5), map);
        assert!(map.has(3) && map.has(47) && !map.has(4));
        assert_eq!(Map::read(map.word(), 6).word(), 6 << 48);
        assert_eq!(map.toggled(3).toggled(0).first_free(48), Some(1));
        let full = Map::read(5 << 48 | ((1 << 48) - 1), 5);
        assert_eq!(full.first_free(48), None);
        assert_eq!(Map::read(0b111, 0).first_free(3), None);
    }
}
