//! Atomic operations on a word of shared memory that a node has another node do.

/// Words of 8 bytes in a page.
pub(crate) const WORDS_OF_PAGE: u16 = 512;

/// What becomes of a word.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum AtomicChange {
    /// This is added, wrapping around.
    Add(u64),
    /// It becomes this.
    Swap(u64),
    /// It becomes `desired` if it is `expected`.
    CompareSwap {
        /// What it must be.
        expected: u64,
        /// What it becomes then.
        desired: u64,
    },
}

/// An atomic operation on one word of a page. It returns what the word was before.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct AtomicOperation {
    /// Which of the page's words of 8 bytes: 0 to 511.
    pub word: u16,
    /// What becomes of it.
    pub change: AtomicChange,
}

impl AtomicOperation {
    /// The operation `change` on the aligned word at `offset` bytes of a page.
    ///
    /// # Panics
    /// When there is no such word: numbers from outside are checked before.
    pub fn at(offset: usize, change: AtomicChange) -> AtomicOperation {
        assert!(offset < 4096 && offset.is_multiple_of(8), "no word of a page begins at {offset}");
        AtomicOperation { word: (offset / 8) as u16, change }
    }

    /// Where the word begins in its page, bytes.
    pub const fn offset(self) -> usize {
        self.word as usize * 8
    }
}

impl AtomicChange {
    /// What a word that is `old` becomes.
    pub const fn apply(self, old: u64) -> u64 {
        match self {
            AtomicChange::Add(value) => old.wrapping_add(value),
            AtomicChange::Swap(value) => value,
            AtomicChange::CompareSwap { expected, desired } => {
                if old == expected {
                    desired
                } else {
                    old
                }
            }
        }
    }
}
