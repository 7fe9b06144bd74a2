//! The `sigsegv` pager: pages are protected by `mprotect(2)`, and the handler of SIGSEGV resolves the fault in the faulting thread.
//!
//! It needs nothing but POSIX, and is there for where userfaultfd is not. The price: the kernel keeps one mapping for every run
//! of pages with equal rights, and lets a process have `vm.max_map_count` of them. So the pager counts the mappings that its
//! regions are split into and stays below that number (`ledger.rs`). When a grant would go beyond, it takes rights away
//! elsewhere in the region, a window of pages at a time; when taking a right away would, it takes away more than it was told. Both
//! are safe: whoever misses the page faults, and the sink grants it again.

mod ledger;
mod table;

use super::{FaultDelivery, Pager, PagerError, PagerKind, StillFaulting};
use crate::mapped::{MappedRange, Memory};
use crate::signal::{AllMasked, FaultSignal, Installed, Registration};
use crate::{Access, MappingError, PAGE_BYTES, PageRange};
use ledger::LEDGER;

/// In a child made by fork.
pub(super) fn forget() {
    LEDGER.forget();
}
use rustix::io::Errno;
use rustix::mm::{MprotectFlags, mprotect};
use std::ops::Range;
use std::ptr::without_provenance_mut;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use table::{Rights, Splitter, Table};

pub(super) use ledger::max_map_count;

pub(super) struct SigsegvPager {
    registration: Registration,
    memory: Arc<Memory>,
    pages: u64,
    /// Locked with all signals masked: a handler of the application that interrupted the holder may touch the region.
    table: Mutex<Table<Protector>>,
    _signals: [Installed; 2],
}

impl SigsegvPager {
    pub(super) fn open(
        app: &MappedRange,
        memory: &Arc<Memory>,
        delivery: FaultDelivery,
    ) -> Result<SigsegvPager, MappingError> {
        let failed = |call| {
            move |errno| MappingError::Failed {
                call,
                address: Some(app.address()),
                bytes: app.bytes(),
                errno,
            }
        };
        let protector = Protector { start: app.address() };
        let pages = app.pages() as usize;
        protector.protect(0..pages, Rights::Absent).map_err(failed("mprotect"))?;
        let table = Table::new(pages, protector, LEDGER.get()).map_err(failed("mmap of the page states"))?;
        // A page that cannot be had is reported as SIGBUS, whichever the pager.
        let signals = [super::install(FaultSignal::Sigbus, app)?, super::install(FaultSignal::Sigsegv, app)?];
        let registration = delivery.register(PagerKind::Sigsegv, app)?;
        let (memory, table) = (memory.clone(), Mutex::new(table));
        Ok(SigsegvPager { registration, memory, pages: app.pages(), table, _signals: signals })
    }

    /// Gives every page of the range the rights that `next` says for those that it has.
    fn change(&self, pages: PageRange, next: fn(Rights) -> Rights) -> Result<(), PagerError> {
        super::check_range(pages, self.pages);
        let _masked = AllMasked::new();
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.change(pages.first() as usize..pages.end() as usize, next)
    }
}

impl Pager for SigsegvPager {
    fn kind(&self) -> PagerKind {
        PagerKind::Sigsegv
    }

    fn map(&self, pages: PageRange, access: Access) -> Result<(), PagerError> {
        super::check_range(pages, self.pages);
        // `mprotect` would also open up a hole, in which the program would find zeros that nobody sent.
        let hole = self.memory.first_hole(pages);
        let held = PageRange::new(pages.first(), hole.map_or(pages.count(), |page| page - pages.first()));
        match access {
            Access::Read => self.change(held, |rights| rights.max(Rights::Read))?,
            Access::Write => self.change(held, |_| Rights::Write)?,
        }
        hole.map_or(Ok(()), |page| Err(PagerError::NotPopulated { page }))
    }

    fn unprotect(&self, pages: PageRange) -> Result<(), PagerError> {
        self.change(pages, |rights| if rights == Rights::Absent { rights } else { Rights::Write })
    }

    fn protect(&self, pages: PageRange) -> Result<(), PagerError> {
        self.change(pages, |rights| rights.min(Rights::Read))
    }

    fn unmap(&self, pages: PageRange) -> Result<(), PagerError> {
        self.change(pages, |_| Rights::Absent)
    }

    fn stop(&self, timeout: Duration) -> Result<(), StillFaulting> {
        self.registration.stop(timeout)
    }
}

/// Protects the pages of one app view.
struct Protector {
    start: usize,
}

impl Splitter for Protector {
    fn protect(&self, pages: Range<usize>, rights: Rights) -> Result<(), Errno> {
        let flags = match rights {
            Rights::Absent => MprotectFlags::empty(),
            Rights::Read => MprotectFlags::READ,
            Rights::Write => MprotectFlags::READ | MprotectFlags::WRITE,
        };
        let start = without_provenance_mut(self.start + pages.start * PAGE_BYTES);
        // SAFETY: the table asks only for pages of its app view, a shared mapping in which no code or reference lies; whoever
        // touches a page that is protected faults.
        unsafe { mprotect(start, pages.len() * PAGE_BYTES, flags) }
    }
}
