//! The `sigbus` pager: userfaultfd raises SIGBUS in the faulting thread, and the handler resolves the fault there and then.

use super::{FaultDelivery, Pager, PagerError, PagerKind, StillFaulting};
use crate::mapped::MappedRange;
use crate::signal::{self, Registration};
use crate::uffd::{Features, Protection, RegisteredRange, Userfault};
use crate::{Access, MappingError, PAGE_BYTES, PageRange};
use rustix::io::Errno;
use rustix::mm::{Advice, madvise};
use std::ptr::without_provenance_mut;
use std::time::Duration;

/// What the kernel must offer for this pager.
pub const FEATURES: Features = Features::from_bits(
    Features::SIGBUS.bits()
        | Features::MISSING_SHMEM.bits()
        | Features::MINOR_SHMEM.bits()
        | Features::WRITE_PROTECT.bits()
        | Features::WRITE_PROTECT_SHMEM.bits()
        // Stands for CONTINUE with MODE_WP, which came with the same kernel.
        | Features::WRITE_PROTECT_UNPOPULATED.bits(),
);

/// Tries without progress before a call is given up: the kernel answers EAGAIN only while another thread is in the middle
/// of changing the same mapping, so this many (more than a second's worth) mean that something is broken.
const TRIES_MAX: u32 = 1 << 22;

pub(super) struct SigbusPager {
    registration: Registration,
    range: RegisteredRange,
}

impl SigbusPager {
    pub(super) fn open(app: &MappedRange, delivery: FaultDelivery) -> Result<SigbusPager, MappingError> {
        let userfault = Userfault::open(FEATURES)?;
        signal::install().map_err(|errno| MappingError::Failed {
            call: "sigaction(SIGBUS)",
            address: None,
            bytes: app.bytes(),
            errno,
        })?;
        let registration = Registration::new(app.address(), app.bytes(), delivery.key, delivery.sink)?;
        // SAFETY: `app` is a shared mapping made for this, and it is unmapped before the pager is dropped; when the pager cannot
        // be dropped, neither is unmapped.
        let range = unsafe { userfault.register(app.address(), app.bytes()) }?;
        Ok(SigbusPager { registration, range })
    }

    fn region_pages(&self) -> u64 {
        (self.range.bytes() / PAGE_BYTES) as u64
    }

    /// Offset of the first and number of the bytes.
    fn span(&self, pages: PageRange) -> (usize, usize) {
        assert!(pages.end() <= self.region_pages(), "{pages} of a region of {} pages", self.region_pages());
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

impl Pager for SigbusPager {
    fn kind(&self) -> PagerKind {
        PagerKind::Sigbus
    }

    fn map(&self, pages: PageRange, access: Access) -> Result<(), PagerError> {
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

    fn unprotect(&self, pages: PageRange) -> Result<(), PagerError> {
        self.set_protection(pages, Protection::Writable)
    }

    fn protect(&self, pages: PageRange) -> Result<(), PagerError> {
        self.set_protection(pages, Protection::WriteProtected)
    }

    fn unmap(&self, pages: PageRange) -> Result<(), PagerError> {
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

    fn stop(&self, timeout: Duration) -> Result<(), StillFaulting> {
        if self.registration.retire(timeout) { Ok(()) } else { Err(StillFaulting { waited: timeout }) }
    }
}

/// What is left of `pages` from a byte offset on.
fn rest(pages: PageRange, byte_offset: usize) -> PageRange {
    let first = (byte_offset / PAGE_BYTES) as u64;
    PageRange::new(first, pages.end() - first)
}
