//! What the pagers upon userfaultfd have in common: the operations on pages.

use super::PagerError;
use crate::uffd::{Protection, RegisteredRange};
use crate::{Access, PAGE_BYTES, PageRange};
use rustix::io::Errno;
use rustix::mm::{Advice, madvise};
use std::ptr::without_provenance_mut;

/// Tries without progress before a call is given up: the kernel answers EAGAIN only while another thread is in the middle
/// of changing the same mapping, so this many (more than a second's worth) mean that something is broken.
const TRIES_MAX: u32 = 1 << 22;

/// The pages of an app view that is registered with userfaultfd.
#[derive(Debug)]
pub(crate) struct UserfaultPages {
    range: RegisteredRange,
}

impl UserfaultPages {
    pub(crate) fn new(range: RegisteredRange) -> UserfaultPages {
        UserfaultPages { range }
    }

    pub(crate) fn map(&self, pages: PageRange, access: Access) -> Result<(), PagerError> {
        match access {
            Access::Read => self.enter(pages, Protection::WriteProtected).map(|_| ()),
            Access::Write => {
                if self.enter(pages, Protection::Writable)? {
                    self.set_protection(pages, Protection::Writable)?;
                }
                Ok(())
            }
        }
    }

    /// Enters pages that are absent, writable, and leaves the others as they are.
    pub(crate) fn restore(&self, pages: PageRange) -> Result<(), PagerError> {
        self.enter(pages, Protection::Writable).map(|_| ())
    }

    pub(crate) fn unprotect(&self, pages: PageRange) -> Result<(), PagerError> {
        self.set_protection(pages, Protection::Writable)
    }

    pub(crate) fn protect(&self, pages: PageRange) -> Result<(), PagerError> {
        self.set_protection(pages, Protection::WriteProtected)
    }

    pub(crate) fn unmap(&self, pages: PageRange) -> Result<(), PagerError> {
        let (offset, bytes) = self.span(pages);
        if bytes == 0 {
            return Ok(());
        }
        let start = without_provenance_mut(self.range.start() + offset);
        // SAFETY: the range lies in the app view, a shared mapping: dropping its page-table entries changes no byte, and
        // whoever touches it next faults.
        unsafe { madvise(start, bytes, Advice::LinuxDontNeed) }.map_err(|errno| PagerError::Failed {
            call: "madvise(MADV_DONTNEED)",
            pages,
            errno,
        })
    }

    /// Leaves all pages to the kernel, as those of any shared mapping. Says whether it could.
    pub(crate) fn leave(&self) -> bool {
        self.range.leave().is_ok()
    }

    /// Offset of the first and number of the bytes.
    fn span(&self, pages: PageRange) -> (usize, usize) {
        super::check_range(pages, (self.range.bytes() / PAGE_BYTES) as u64);
        (pages.first() as usize * PAGE_BYTES, pages.count() as usize * PAGE_BYTES)
    }

    /// Enters the pages into the page table, except those that are there. Returns whether there were such.
    fn enter(&self, pages: PageRange, protection: Protection) -> Result<bool, PagerError> {
        const CALL: &str = "UFFDIO_CONTINUE";
        let (mut offset, mut bytes) = self.span(pages);
        let (mut found_some, mut tries) = (false, 0);
        while bytes > 0 {
            let step = self.range.continue_pages(offset, bytes, protection);
            offset += step.bytes;
            bytes -= step.bytes;
            match step.stopped {
                None => {}
                Some(Errno::EXIST) => {
                    found_some = true;
                    offset += PAGE_BYTES;
                    bytes -= PAGE_BYTES;
                    tries = 0;
                }
                Some(Errno::AGAIN) => {
                    tries = if step.bytes > 0 { 0 } else { tries + 1 };
                    if tries == TRIES_MAX {
                        return Err(PagerError::Busy { call: CALL, pages: rest(pages, offset), tries });
                    }
                }
                Some(Errno::FAULT) => {
                    return Err(PagerError::NotPopulated { page: rest(pages, offset).first() });
                }
                Some(errno) => {
                    return Err(PagerError::Failed { call: CALL, pages: rest(pages, offset), errno });
                }
            }
        }
        Ok(found_some)
    }

    fn set_protection(&self, pages: PageRange, protection: Protection) -> Result<(), PagerError> {
        const CALL: &str = "UFFDIO_WRITEPROTECT";
        let (offset, bytes) = self.span(pages);
        if bytes == 0 {
            return Ok(());
        }
        for _ in 0..TRIES_MAX {
            match self.range.write_protect(offset, bytes, protection) {
                Ok(()) => return Ok(()),
                Err(Errno::AGAIN) => {}
                Err(errno) => return Err(PagerError::Failed { call: CALL, pages, errno }),
            }
        }
        Err(PagerError::Busy { call: CALL, pages, tries: TRIES_MAX })
    }
}

/// What is left of `pages` from a byte offset on.
fn rest(pages: PageRange, byte_offset: usize) -> PageRange {
    let first = (byte_offset / PAGE_BYTES) as u64;
    PageRange::new(first, pages.end() - first)
}
