//! Pages: their size, ranges of them, and what an access asks of one.

use std::fmt;

/// Bytes of a page, the unit of coherence: the smallest that the processor can protect.
pub const PAGE_BYTES: usize = 4096;

/// The content of one page.
pub type PageBytes = [u8; PAGE_BYTES];

/// What an access needs of a page, and what a grant gives.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Access {
    /// To load from it.
    Read,
    /// To store to it, which includes loading from it.
    Write,
}

/// Neighbouring pages of one region, counted from the region's start. May be empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct PageRange {
    first: u64,
    count: u64,
}

impl PageRange {
    /// `count` pages from page `first` on.
    ///
    /// # Panics
    /// When the end does not fit into 64 bits.
    pub const fn new(first: u64, count: u64) -> PageRange {
        assert!(first.checked_add(count).is_some(), "a range of pages ends beyond 64 bits");
        PageRange { first, count }
    }

    /// Just `page`.
    pub const fn one(page: u64) -> PageRange {
        PageRange::new(page, 1)
    }

    /// Index of the first page.
    pub const fn first(self) -> u64 {
        self.first
    }

    /// How many pages.
    pub const fn count(self) -> u64 {
        self.count
    }

    /// Index of the page after the last.
    pub const fn end(self) -> u64 {
        self.first + self.count
    }

    /// Whether there is no page in it.
    pub const fn is_empty(self) -> bool {
        self.count == 0
    }

    /// The indices, in order.
    pub fn iter(self) -> std::ops::Range<u64> {
        self.first..self.end()
    }
}

impl fmt::Display for PageRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.count {
            0 => write!(f, "no page"),
            1 => write!(f, "page {}", self.first),
            _ => write!(f, "pages {} to {}", self.first, self.end() - 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_says_which_pages_it_holds() {
        assert_eq!(PageRange::new(3, 4).iter().collect::<Vec<_>>(), [3, 4, 5, 6]);
        assert_eq!(PageRange::one(7).to_string(), "page 7");
        assert_eq!(PageRange::new(3, 4).to_string(), "pages 3 to 6");
        assert!(PageRange::new(3, 0).is_empty());
    }

    #[test]
    #[should_panic(expected = "beyond 64 bits")]
    fn a_range_that_wraps_is_refused() {
        let _ = PageRange::new(u64::MAX, 2);
    }
}
