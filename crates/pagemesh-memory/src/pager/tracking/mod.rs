//! Finding the pages that were written without a fault for each: the kernel notes the first store to a page by itself
//! (`UFFD_FEATURE_WP_ASYNC`) and tells when it is asked (`PAGEMAP_SCAN`).
//!
//! This is the `sigbus` pager with two differences: a page that is granted for reading is not protected but *clean*, that is, a
//! store to it runs and makes it written; and it remembers which pages are granted. It has to, for two reasons. The
//! kernel counts pages that are not in the page table as written, and makes notes in page tables for them when they are
//! listed: so only page tables that had granted pages are looked at, and an absent page is only told if it was granted. And the kernel may
//! take a page out of the page table by itself, to swap it out, and forgets with it that it was written: so a granted page
//! that has to be granted again counts as written.

mod granted;
mod pagemap;

use super::sigbus::{self, SigbusPager};
use super::{FaultDelivery, Pager, PagerError, PagerKind, StillFaulting};
use crate::mapped::{MappedRange, Memory};
use crate::uffd::{Features, Protection};
use crate::{Access, MappingError, PAGE_BYTES, PageRange, UffdError};
use granted::GrantedPages;
use pagemap::{PAGEMAP, Pagemap};
use rustix::io::Errno;
use rustix::mm::{Advice, madvise};
use std::time::Duration;

/// What the kernel must offer for writes to be tracked.
pub const FEATURES: Features =
    Features::from_bits(sigbus::FEATURES.bits() | Features::WRITE_PROTECT_ASYNC.bits());

/// What the kernel calls it.
const CALL: &str = "ioctl(PAGEMAP_SCAN)";

/// Why the writes to a region are not tracked. Its pages that are granted for reading fault when they are written, which tells
/// the same at a higher price.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteTrackingError {
    /// Another pager does it in its own way.
    #[error(
        "asked to track writes with the {kind} pager, which finds them by a fault each; only sigbus has the kernel note them"
    )]
    Pager {
        /// Which.
        kind: PagerKind,
    },
    /// userfaultfd cannot do it.
    #[error("asked to track writes: {0}")]
    Uffd(#[from] UffdError),
    /// Nobody tells what was written.
    #[error(
        "asked to track writes, and {PAGEMAP} cannot be opened ({errno}): mount /proc, or let the process read its own"
    )]
    Pagemap {
        /// What the kernel answered.
        errno: Errno,
    },
    /// Written pages cannot be listed.
    #[error("asked to track writes, and {CALL} fails: {errno}; Linux 6.7 has it")]
    Scan {
        /// What the kernel answered.
        errno: Errno,
    },
    /// The kernel does not list a page that was written and taken out of the page table since, or lists one that was not written.
    #[error(
        "asked to track writes, and this kernel forgets of pages that it takes out of the page table whether they were written"
    )]
    Forgetful,
}

/// Whether the kernel notes which pages are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum WriteTracking {
    /// Nobody asked for it.
    Off,
    /// It does.
    On,
    /// It was asked for and cannot be had.
    Refused(WriteTrackingError),
}

/// Does with one page what tracking writes takes.
pub(super) fn try_out(kind: PagerKind) -> Result<(), WriteTrackingError> {
    if kind != PagerKind::Sigbus {
        return Err(WriteTrackingError::Pager { kind });
    }
    let userfault = sigbus::open_userfault(FEATURES)?;
    let pagemap = Pagemap::open().map_err(|errno| WriteTrackingError::Pagemap { errno })?;
    let failed = |call| move |errno| WriteTrackingError::Uffd(UffdError::Failed { call, errno });
    let page = Memory::new(PAGE_BYTES).and_then(|memory| {
        let page = MappedRange::new(&memory, None)?;
        memory.populate(PageRange::one(0)).map_err(|errno| MappingError::Failed {
            call: "fallocate of the memory file",
            address: None,
            bytes: PAGE_BYTES,
            errno,
        })?;
        Ok(page)
    });
    let page = page.map_err(|error| match error {
        MappingError::Failed { call, errno, .. } => failed(call)(errno),
        MappingError::FileLimit { .. } => failed("ftruncate of a page of memory")(Errno::FBIG),
        _ => unreachable!("a page without an address of its own is refused by a call"),
    })?;
    // SAFETY: the page was mapped for this, nobody knows of it, and it is unmapped before the range is dropped.
    let range = unsafe { userfault.register(page.address(), page.bytes()) }?;
    let is_written = || {
        let scanned = pagemap.take_written(page.address(), page.address() + page.bytes());
        scanned
            .map(|scanned| scanned.runs().next().is_some())
            .map_err(|errno| WriteTrackingError::Scan { errno })
    };
    let enter = |protection| match range.continue_pages(0, PAGE_BYTES, protection).stopped {
        None => Ok(()),
        Some(errno) => Err(failed("UFFDIO_CONTINUE")(errno)),
    };
    enter(Protection::Writable)?;
    // SAFETY: a page of our own, of shared memory; this is what swapping it out does to the page table.
    unsafe { madvise(page.start().cast(), page.bytes(), Advice::LinuxDontNeed) }
        .map_err(failed("madvise(MADV_DONTNEED)"))?;
    let listed = is_written()?;
    enter(Protection::WriteProtected)?;
    let clean = !is_written()?;
    // SAFETY: as above.
    unsafe { madvise(page.start().cast(), page.bytes(), Advice::LinuxDontNeed) }
        .map_err(failed("madvise(MADV_DONTNEED)"))?;
    let remembered = !is_written()?;
    drop(page);
    drop(range);
    if listed && clean && remembered { Ok(()) } else { Err(WriteTrackingError::Forgetful) }
}

/// The `sigbus` pager of a region whose writes are tracked.
pub(super) struct TrackingPager {
    pager: SigbusPager,
    granted: GrantedPages,
    pagemap: Pagemap,
    /// Address of the app view.
    start: usize,
}

impl TrackingPager {
    /// Once it was tried out.
    pub(super) fn open(app: &MappedRange, delivery: FaultDelivery) -> Result<TrackingPager, MappingError> {
        let pagemap = Pagemap::open().map_err(|errno| MappingError::Failed {
            call: "opening /proc/self/pagemap",
            address: None,
            bytes: app.bytes(),
            errno,
        })?;
        let pager = SigbusPager::open(app, delivery, FEATURES)?;
        let granted = GrantedPages::new(app.address(), app.pages());
        Ok(TrackingPager { pager, granted, pagemap, start: app.address() })
    }

    /// The pages between two addresses.
    fn pages(&self, start: usize, end: usize) -> PageRange {
        PageRange::new(((start - self.start) / PAGE_BYTES) as u64, ((end - start) / PAGE_BYTES) as u64)
    }

    /// Tells which granted pages were written, of those whose page tables are there.
    fn list(&self, pages: PageRange, written: &mut dyn FnMut(PageRange)) -> Result<(), PagerError> {
        let address = |page: u64| self.start + page as usize * PAGE_BYTES;
        let (mut start, end) = (address(pages.first()), address(pages.end()));
        while start < end {
            let rest = self.pages(start, end);
            let scanned = self.pagemap.written(start, end).map_err(|errno| PagerError::Failed {
                call: CALL,
                pages: rest,
                errno,
            })?;
            for run in scanned.runs() {
                let pages = self.pages(run.start, run.end);
                if run.present { written(pages) } else { self.granted.runs(pages, &mut *written) }
            }
            if scanned.end <= start {
                return Err(PagerError::Busy { call: CALL, pages: rest, tries: 1 });
            }
            start = scanned.end;
        }
        Ok(())
    }

    /// Harvests pages whose page tables are there.
    fn harvest_part(&self, pages: PageRange, written: &mut dyn FnMut(PageRange)) -> Result<u64, PagerError> {
        let address = |page: u64| self.start + page as usize * PAGE_BYTES;
        let (mut start, end, mut count) = (address(pages.first()), address(pages.end()), 0);
        while start < end {
            let rest = self.pages(start, end);
            let scanned = self.pagemap.take_written(start, end).map_err(|errno| PagerError::Failed {
                call: CALL,
                pages: rest,
                errno,
            })?;
            let mut tell = |run: PageRange| {
                count += run.count();
                written(run);
            };
            for run in scanned.runs() {
                let pages = self.pages(run.start, run.end);
                // What is in the page table was granted, also when another thread is unmapping and mapping it at this moment.
                if run.present { tell(pages) } else { self.granted.runs(pages, &mut tell) }
            }
            if scanned.end <= start {
                return Err(PagerError::Busy { call: CALL, pages: rest, tries: 1 });
            }
            start = scanned.end;
        }
        Ok(count)
    }
}

impl Pager for TrackingPager {
    fn kind(&self) -> PagerKind {
        PagerKind::Sigbus
    }

    fn map(&self, pages: PageRange, access: Access) -> Result<(), PagerError> {
        match access {
            Access::Read => self.granted.insert(pages, |run, before| {
                if before {
                    // The kernel may have taken it away after it was written, or another thread is granting it right now.
                    self.pager.restore(run)
                } else {
                    self.pager.map(run, Access::Read)
                }
            })?,
            Access::Write => self.pager.map(pages, Access::Write)?,
        }
        // Once more: another thread that unmaps them may have forgotten them before they were entered.
        self.granted.insert(pages, |_, _| Ok(()))
    }

    fn unprotect(&self, pages: PageRange) -> Result<(), PagerError> {
        self.pager.unprotect(pages)
    }

    fn protect(&self, pages: PageRange) -> Result<(), PagerError> {
        self.pager.protect(pages)
    }

    fn unmap(&self, pages: PageRange) -> Result<(), PagerError> {
        // Forgotten first: a thread that maps a page anew remembers it after it is entered.
        self.granted.remove(pages);
        self.pager.unmap(pages)
    }

    fn stop(&self, timeout: Duration) -> Result<(), StillFaulting> {
        self.pager.stop(timeout)
    }

    fn tracks_writes(&self) -> bool {
        true
    }

    fn written(&self, pages: PageRange, written: &mut dyn FnMut(PageRange)) -> Result<(), PagerError> {
        self.granted.tables(pages, |part| self.list(part, written))
    }

    fn unmap_and_tell(&self, pages: PageRange, written: &mut dyn FnMut(PageRange)) -> Result<(), PagerError> {
        self.pager.unmap(pages)?;
        // While it is known which of them were granted.
        let told = self.written(pages, written);
        self.granted.remove(pages);
        told
    }

    fn harvest(&self, pages: PageRange, written: &mut dyn FnMut(PageRange)) -> Result<u64, PagerError> {
        let mut count = 0;
        self.granted.tables(pages, |part| {
            count += self.harvest_part(part, written)?;
            Ok(())
        })?;
        Ok(count)
    }
}
