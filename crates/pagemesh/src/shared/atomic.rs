//! A word that all nodes change where it is.

use crate::{AtomicError, Protocol, Region, RegionError, SharedSlice};
use pagemesh_protocol::AtomicChange;

/// A word of 8 bytes in shared memory, as std's `AtomicU64`, that is changed where its page is: at the page's home, or at the one node that has
/// the page. Every node makes one of the same region and offset; the word starts as 0.
///
/// A change costs no page transfer: two messages where the page is at its home, four where a third node has it, none where this
/// node has it writable. So a counter or a flag that many nodes change does not drag its page around, as the methods of
/// [`SharedSlice`] of the same names do, which bring the page here. Those are better for a word that one node changes again and again.
///
/// All operations are sequentially consistent, on words of any region. Where the region is not of the release protocol, they are also atomic
/// with the processor's own instructions on the same word, by any node. In a [`Protocol::Release`] region each is at the same time a release and
/// then an acquire of this node, as giving a lock back and taking it; and between two synchronisations a word is to be used by such
/// operations only, since a plain load may find an older value. In a [`Protocol::Entry`] region the word is locked for each as a range.
///
/// An operation is done at most once. One that fails with [`AtomicError::Access`] was not done.
///
/// ```
/// use pagemesh::{AtomicU64, Config, Mesh, RegionOptions};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mesh = Mesh::join(Config::single())?;
/// let region = mesh.region("tickets", RegionOptions::new(4096))?;
/// let next = AtomicU64::new(&region, 0)?;
/// assert_eq!(next.fetch_add(1)?, 0);
/// assert_eq!(next.compare_exchange(1, 10)?, Ok(1));
/// assert_eq!(next.compare_exchange(1, 20)?, Err(10));
/// assert_eq!(next.load()?, 10);
/// # Ok(())
/// # }
/// ```
///
/// It is no value that could be copied out of the memory and be another:
///
/// ```compile_fail
/// # fn refused(word: &pagemesh::AtomicU64) -> u64 {
/// *word
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct AtomicU64 {
    word: SharedSlice<u64>,
    region: Region,
    offset: usize,
}

impl AtomicU64 {
    /// Bytes that it takes in its region.
    pub const BYTES: usize = 8;

    /// The word at byte `offset` of the region, a multiple of 8.
    ///
    /// # Errors
    /// When it does not lie in the region, or not aligned.
    pub fn new(region: &Region, offset: usize) -> Result<AtomicU64, RegionError> {
        Ok(AtomicU64 { word: region.slice(offset, 1)?, region: region.clone(), offset })
    }

    fn change(&self, change: AtomicChange) -> Result<u64, AtomicError> {
        self.region.change_word(self.offset, change)
    }

    /// Adds `value`, wrapping around, and returns what was there.
    ///
    /// # Errors
    /// When the page cannot be had where it is, or it is not known whether it was done; see [`AtomicError`].
    pub fn fetch_add(&self, value: u64) -> Result<u64, AtomicError> {
        self.change(AtomicChange::Add(value))
    }

    /// Subtracts `value`, wrapping around, and returns what was there.
    ///
    /// # Errors
    /// As for [`fetch_add`](AtomicU64::fetch_add).
    pub fn fetch_sub(&self, value: u64) -> Result<u64, AtomicError> {
        self.change(AtomicChange::Add(value.wrapping_neg()))
    }

    /// Makes it `value` and returns what was there.
    ///
    /// # Errors
    /// As for [`fetch_add`](AtomicU64::fetch_add).
    pub fn swap(&self, value: u64) -> Result<u64, AtomicError> {
        self.change(AtomicChange::Swap(value))
    }

    /// Makes it `value`.
    ///
    /// # Errors
    /// As for [`fetch_add`](AtomicU64::fetch_add).
    pub fn store(&self, value: u64) -> Result<(), AtomicError> {
        self.swap(value).map(|_| ())
    }

    /// What it is. Costs what a load costs: nothing where a copy of the page is here. In release and entry regions it is asked for, as a change is.
    ///
    /// # Errors
    /// As for [`fetch_add`](AtomicU64::fetch_add).
    pub fn load(&self) -> Result<u64, AtomicError> {
        if matches!(self.region.protocol(), Protocol::Release | Protocol::Entry) {
            return self.fetch_add(0);
        }
        Ok(self.word.get(0)?)
    }

    /// Makes it `value` if it is `expected`. Returns what was there: `Ok` inside when it was replaced.
    ///
    /// # Errors
    /// As for [`fetch_add`](AtomicU64::fetch_add).
    pub fn compare_exchange(&self, expected: u64, value: u64) -> Result<Result<u64, u64>, AtomicError> {
        let found = self.change(AtomicChange::CompareSwap { expected, desired: value })?;
        Ok(if found == expected { Ok(found) } else { Err(found) })
    }

    /// Makes it what `change` makes of it, in one step, and returns what was there: `Ok` inside, or `Err` when `change` wants none. Asks
    /// again, and calls `change` again, as long as others are quicker.
    ///
    /// # Errors
    /// As for [`fetch_add`](AtomicU64::fetch_add).
    pub fn fetch_update(
        &self,
        mut change: impl FnMut(u64) -> Option<u64>,
    ) -> Result<Result<u64, u64>, AtomicError> {
        let mut found = self.load()?;
        while let Some(next) = change(found) {
            match self.compare_exchange(found, next)? {
                Ok(old) => return Ok(Ok(old)),
                Err(other) => found = other,
            }
        }
        Ok(Err(found))
    }

    /// Makes it the larger of itself and `value`, and returns what was there. As [`fetch_update`](AtomicU64::fetch_update).
    ///
    /// # Errors
    /// As for [`fetch_add`](AtomicU64::fetch_add).
    pub fn fetch_max(&self, value: u64) -> Result<u64, AtomicError> {
        let larger = |found: u64| (found < value).then_some(value);
        self.fetch_update(larger).map(|found| found.unwrap_or_else(|found| found))
    }

    /// Makes it the smaller of itself and `value`, and returns what was there. As [`fetch_update`](AtomicU64::fetch_update).
    ///
    /// # Errors
    /// As for [`fetch_add`](AtomicU64::fetch_add).
    pub fn fetch_min(&self, value: u64) -> Result<u64, AtomicError> {
        let smaller = |found: u64| (found > value).then_some(value);
        self.fetch_update(smaller).map(|found| found.unwrap_or_else(|found| found))
    }
}
