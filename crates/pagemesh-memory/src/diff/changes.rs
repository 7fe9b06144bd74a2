//! What a scan found.

use crate::{PAGE_BYTES, PageBytes};
use std::ops::Range;

/// Bytes that one word of a [`Changes`] speaks of.
pub(super) const WORD_BITS: usize = u64::BITS as usize;

/// Words with a bit for each byte of a page.
pub(super) type Mask = [u64; PAGE_BYTES / WORD_BITS];

/// A page as it was read, and which of its bytes differ from the twin.
pub(super) struct Changes {
    pub(super) bytes: PageBytes,
    pub(super) mask: Mask,
}

impl Changes {
    /// The runs of changed bytes, in order. There is an unchanged byte between any two.
    pub(super) fn runs(&self) -> impl Iterator<Item = Range<usize>> {
        let mut position = 0;
        std::iter::from_fn(move || {
            let start = self.next(position, 0);
            if start == PAGE_BYTES {
                return None;
            }
            position = self.next(start, u64::MAX);
            Some(start..position)
        })
    }

    /// How many runs there are.
    pub(super) fn run_count(&self) -> usize {
        let (mut count, mut before) = (0, 0);
        for word in self.mask {
            // A run begins at each bit that has none below it.
            let starts = word & !(word << 1 | before);
            if starts != 0 {
                count += starts.count_ones() as usize;
            }
            before = word >> (WORD_BITS - 1);
        }
        count
    }

    /// The first byte from `position` on that is changed (`flip` all zeros) or unchanged (all ones), else [`PAGE_BYTES`].
    fn next(&self, position: usize, flip: u64) -> usize {
        let mut index = position / WORD_BITS;
        let mut above = u64::MAX << (position % WORD_BITS);
        while let Some(word) = self.mask.get(index) {
            let bits = (word ^ flip) & above;
            if bits != 0 {
                return index * WORD_BITS + bits.trailing_zeros() as usize;
            }
            above = u64::MAX;
            index += 1;
        }
        PAGE_BYTES
    }
}
