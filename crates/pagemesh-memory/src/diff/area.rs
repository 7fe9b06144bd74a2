//! Twins of all pages of a region, each at a place of its own.

use super::TwinError;
use crate::{PAGE_BYTES, PageBytes};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use std::ptr::null_mut;

/// Room for a twin of every page of a region: the twin of page `p` is the `p`th. Unlike a [`TwinPool`](super::TwinPool) it needs no list of who
/// has which, and is as large as the region; memory is used for the twins that were ever made.
///
/// Nothing here allocates after [`TwinArea::new`], and it takes no lock; whoever shares it has one.
#[derive(Debug)]
pub struct TwinArea {
    start: *mut u8,
    pages: u64,
}

// SAFETY: the memory belongs to this value alone and may be used from any thread.
unsafe impl Send for TwinArea {}
// SAFETY: what changes the memory wants `&mut self`.
unsafe impl Sync for TwinArea {}

impl TwinArea {
    /// Room for the twins of `pages` pages, all of them zeros.
    ///
    /// # Errors
    /// [`TwinError::BadSize`] for no page or more than there are addresses for; [`TwinError::Refused`] when the kernel has no addresses.
    pub fn new(pages: u64) -> Result<TwinArea, TwinError> {
        let bytes = usize::try_from(pages).ok().and_then(|pages| pages.checked_mul(PAGE_BYTES));
        let bytes = bytes.filter(|bytes| *bytes > 0).ok_or(TwinError::BadSize { bytes: 0 })?;
        let rights = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: new memory where the kernel finds room.
        let start =
            unsafe { mmap_anonymous(null_mut(), bytes, rights, MapFlags::PRIVATE | MapFlags::NORESERVE) }
                .map_err(|errno| TwinError::Refused { bytes, errno })?;
        Ok(TwinArea { start: start.cast(), pages })
    }

    /// The twin of a page.
    ///
    /// # Panics
    /// When the region has no such page.
    pub fn bytes(&self, page: u64) -> &PageBytes {
        // SAFETY: the place lies in the mapping, which lives as long as `self`, and is only changed through `&mut self`.
        unsafe { &*self.place(page) }
    }

    /// The twin of a page, to be changed.
    ///
    /// # Panics
    /// When the region has no such page.
    pub fn bytes_mut(&mut self, page: u64) -> &mut PageBytes {
        // SAFETY: as above, and `self` is borrowed to be changed.
        unsafe { &mut *self.place(page) }
    }

    fn place(&self, page: u64) -> *mut PageBytes {
        assert!(page < self.pages, "the twin of page {page} of {}", self.pages);
        // SAFETY: there are more pages than that.
        unsafe { self.start.add(page as usize * PAGE_BYTES).cast() }
    }
}

impl Drop for TwinArea {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and what borrowed from it is gone; nothing can be done about an error.
        let _ = unsafe { munmap(self.start.cast(), self.pages as usize * PAGE_BYTES) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_has_its_twin() {
        let mut area = TwinArea::new(1 << 28).unwrap();
        for (page, fill) in [(0, 1), (1, 2), ((1 << 28) - 1, 3)] {
            area.bytes_mut(page).fill(fill);
        }
        assert_eq!((area.bytes(0)[9], area.bytes(1)[9], area.bytes((1 << 28) - 1)[4095]), (1, 2, 3));
        assert_eq!(area.bytes(77), &[0; PAGE_BYTES]);
        assert!(TwinArea::new(0).is_err() && TwinArea::new(u64::MAX).is_err());
    }
}
