//! Pagers: ways to say, page by page, what an app view allows, and to hear of the accesses that it does not allow.
//!
//! One file for each, all behind [`Pager`]. A pager gets the app view and the region's [`FaultSink`] when it is opened, and
//! brings the faults of the one to the other until it is stopped: from a signal handler, from threads of its own, however it
//! likes. To add one: write its file, name it in [`PagerKind`], and open it in `open`.

mod sigbus;

use crate::mapped::MappedRange;
use crate::{Access, FaultSink, MappingError, PageRange, RegionKey};
use rustix::io::Errno;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use sigbus::FEATURES as SIGBUS_FEATURES;

/// Which pager.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub enum PagerKind {
    /// userfaultfd in its SIGBUS mode: the faulting thread resolves its own fault in a signal handler. Needs no privilege and no
    /// thread, and never splits a mapping. Linux 6.4.
    Sigbus,
}

impl fmt::Display for PagerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PagerKind::Sigbus => "sigbus",
        })
    }
}

/// Why a pager could not do as it was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PagerError {
    /// The region's file does not hold a page that was to be mapped.
    #[error(
        "asked to map page {page}, which the region's memory does not hold yet: write it through the service view or populate \
         it first"
    )]
    NotPopulated {
        /// The first such page. Those of the range before it were mapped.
        page: u64,
    },
    /// The kernel kept asking for another try.
    #[error(
        "{call} on {pages} made no progress in {tries} tries: something changes the process's mappings without a pause"
    )]
    Busy {
        /// Which call.
        call: &'static str,
        /// What was left to do.
        pages: PageRange,
        /// How often it was tried.
        tries: u32,
    },
    /// The kernel refused.
    #[error("{call} on {pages} failed: {errno}")]
    Failed {
        /// Which call.
        call: &'static str,
        /// What was left to do.
        pages: PageRange,
        /// What the kernel answered.
        errno: Errno,
    },
}

/// A pager that was told to stop, and could not in time: a fault is still being resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "after {waited:?} faults in the region are still being resolved; a fault sink has to answer within its deadline"
)]
pub struct StillFaulting {
    /// How long it waited.
    pub waited: Duration,
}

/// Says what an app view allows, page by page.
///
/// Every method works on any number of pages in as few system calls as the mechanism has, allocates nothing, and may be called
/// from a [`FaultSink`] and from any thread at any time; calls on the same page from several threads at once take effect in
/// some order, and that they are in the right one is the caller's business. A call that removes rights returns when no
/// processor can use them any more, and interrupts the other processors once: few calls with many pages are cheap, many calls
/// are not. One that grants interrupts nobody.
///
/// Each method panics when the region does not have all the pages: that is a mistake of the caller.
pub trait Pager: Send + Sync {
    /// Which one this is.
    fn kind(&self) -> PagerKind;

    /// Grants `access` to absent pages. The file has to hold them: each was written, zeroed or read through the service view,
    /// or populated, before. A page that is there already keeps the rights it has and, for [`Access::Write`], becomes
    /// writable; granting [`Access::Read`] never takes the right to write away.
    ///
    /// # Errors
    /// [`PagerError::NotPopulated`], or what the kernel says.
    fn map(&self, pages: PageRange, access: Access) -> Result<(), PagerError>;

    /// Makes readable pages writable. Absent ones stay absent.
    ///
    /// # Errors
    /// What the kernel says.
    fn unprotect(&self, pages: PageRange) -> Result<(), PagerError>;

    /// Makes writable pages readable: the next store faults. Absent ones stay absent, but the kernel may note the
    /// protection for them in page tables that it has to allocate for that: not meant for large ranges of them.
    ///
    /// # Errors
    /// What the kernel says.
    fn protect(&self, pages: PageRange) -> Result<(), PagerError>;

    /// Makes pages absent: the next access of either kind faults. Their bytes stay in the file.
    ///
    /// # Errors
    /// What the kernel says.
    fn unmap(&self, pages: PageRange) -> Result<(), PagerError>;

    /// Brings no further fault to the sink, and waits until none is with it: then the sink is gone. Faults from now on are
    /// what they are in any other memory. May be repeated.
    ///
    /// # Errors
    /// [`StillFaulting`] when a fault was still with the sink after `timeout`.
    fn stop(&self, timeout: Duration) -> Result<(), StillFaulting>;
}

/// Where the faults of a region go.
pub(crate) struct FaultDelivery {
    pub(crate) key: RegionKey,
    pub(crate) sink: Arc<dyn FaultSink>,
}

/// Opens the pager that `kind` names over an app view. It has to be dropped after the view.
pub(crate) fn open(
    kind: PagerKind,
    app: &MappedRange,
    delivery: FaultDelivery,
) -> Result<Box<dyn Pager>, MappingError> {
    Ok(match kind {
        PagerKind::Sigbus => Box::new(sigbus::SigbusPager::open(app, delivery)?),
    })
}
