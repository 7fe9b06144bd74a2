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
    /// A bit for each word of the mask that is not zero: in most pages few are.
    pub(super) touched: u64,
}

impl Changes {
    /// The runs of changed bytes, in order. There is an unchanged byte between any two.
    pub(super) fn runs(&self) -> Runs<'_> {
        Runs { mask: &self.mask, touched: self.touched, index: 0, bits: 0 }
    }

    /// How many runs there are.
    pub(super) fn run_count(&self) -> usize {
        let (mut count, mut touched) = (0, self.touched);
        while touched != 0 {
            let index = touched.trailing_zeros() as usize;
            touched &= touched - 1;
            let word = self.mask[index];
            let before = if index == 0 { 0 } else { self.mask[index - 1] >> (WORD_BITS - 1) };
            // A run begins at each bit that has none below it.
            count += (word & !(word << 1 | before)).count_ones() as usize;
        }
        count
    }
}

/// The runs of a [`Changes`].
pub(super) struct Runs<'a> {
    mask: &'a Mask,
    /// The words of which nothing was looked at, except those that are zero.
    touched: u64,
    /// The word that is looked at.
    index: usize,
    /// What is left of it.
    bits: u64,
}

impl Runs<'_> {
    /// Goes on to the next word that is not zero.
    fn advance(&mut self) -> bool {
        if self.touched == 0 {
            return false;
        }
        self.index = self.touched.trailing_zeros() as usize;
        self.bits = self.mask[self.index];
        self.touched &= self.touched - 1;
        true
    }
}

impl Iterator for Runs<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        if self.bits == 0 && !self.advance() {
            return None;
        }
        let first = self.bits.trailing_zeros();
        let start = self.index * WORD_BITS + first as usize;
        let (without, beyond) = self.bits.overflowing_add(1 << first);
        if !beyond {
            // The carry has gone to the bit behind the run: what is set in both is the rest.
            self.bits &= without;
            return Some(start..self.index * WORD_BITS + without.trailing_zeros() as usize);
        }
        // The run reaches the end of the word, and may go on in the next.
        loop {
            let word_end = (self.index + 1) * WORD_BITS;
            self.bits = 0;
            if self.mask.get(self.index + 1).is_none_or(|next| next & 1 == 0) {
                return Some(start..word_end);
            }
            self.advance();
            let more = self.bits.trailing_ones() as usize;
            if more < WORD_BITS {
                self.bits &= u64::MAX << more;
                return Some(start..word_end + more);
            }
        }
    }
}
