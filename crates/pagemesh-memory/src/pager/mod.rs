//! Pagers: ways to say, page by page, what an app view allows, and to hear of the accesses that it does not allow.
//!
//! One file for each, all behind [`Pager`]. A pager gets the app view and the region's [`FaultSink`] when it is opened, and
//! brings the faults of the one to the other until it is stopped: from a signal handler, from threads of its own, however it
//! likes. To add one: write its file, name it in [`PagerKind`], and open it in `open`. Which one is taken where nobody says is
//! told in `choice.rs`.

mod choice;
mod handler;
mod probe;
mod sigbus;
mod sigsegv;
mod tracking;
mod userfault;

use crate::mapped::{MappedRange, Memory};
use crate::signal::{self, Entry, FaultSignal, Installed, Registration};
use crate::{Access, FaultSink, MappingError, PageRange, RegionKey};
use rustix::io::Errno;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use choice::{Chosen, PagerChoiceError, choose};
pub use handler::FEATURES as HANDLER_FEATURES;
pub(crate) use handler::failures;
pub use probe::{Improvement, Opening, Privileges, Probe, probe};
pub use sigbus::FEATURES as SIGBUS_FEATURES;
pub(crate) use sigbus::open_userfault;
pub use tracking::{FEATURES as TRACKING_FEATURES, WriteTracking, WriteTrackingError};
pub(crate) use userfault::UserfaultPages;

/// Which pager.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub enum PagerKind {
    /// userfaultfd in its SIGBUS mode: the faulting thread resolves its own fault in a signal handler. Needs no privilege and no
    /// thread, and never splits a mapping. Linux 6.4.
    Sigbus,
    /// userfaultfd read by threads of its own, one a core. The only one with which system calls fault too: a `read(2)` into an
    /// absent page waits for it. Needs a privilege, or rights on `/dev/userfaultfd`, and costs two thread switches a fault.
    /// Linux 6.6.
    Handler,
    /// `mprotect(2)` and SIGSEGV: the faulting thread resolves its own fault in a signal handler. Needs nothing, but the kernel
    /// limits into how many runs of pages the app view may fall (`vm.max_map_count`): beyond that, pages fault more often.
    Sigsegv,
}

impl PagerKind {
    /// All there are.
    pub const ALL: [PagerKind; 3] = [PagerKind::Sigbus, PagerKind::Handler, PagerKind::Sigsegv];
}

impl fmt::Display for PagerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PagerKind::Sigbus => "sigbus",
            PagerKind::Handler => "handler",
            PagerKind::Sigsegv => "sigsegv",
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
    /// The process has as many mappings as it may have, and none could be freed.
    #[error(
        "asked to change the rights of {pages}, which needs another mapping: the sigsegv pager has split its regions into {used} \
         more than there are regions, and the rest of the process needs what is left of vm.max_map_count = {max_map_count}; raise \
         it (sysctl -w vm.max_map_count=1048576), or use a pager upon userfaultfd"
    )]
    Ceiling {
        /// What was left to do.
        pages: PageRange,
        /// Into how many mappings more than one each the regions with this pager are split.
        used: usize,
        /// How many mappings the kernel lets the process have.
        max_map_count: usize,
    },
    /// Nobody notes which pages are written.
    #[error(
        "asked which of {pages} were written, and the {kind} pager of this region does not note that: ask for it when the region \
         is mapped, or have them fault"
    )]
    WritesNotTracked {
        /// What was asked for.
        pages: PageRange,
        /// Which pager it is.
        kind: PagerKind,
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
/// A pager may take more away than it was told, at any time: then a page faults that was granted, and the sink has to grant it
/// again. It never grants more.
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

    /// Whether stores to pages that are granted for reading run, and are noted instead. Then readable is to be read as
    /// *clean* and writable as *written* everywhere above.
    fn tracks_writes(&self) -> bool {
        false
    }

    /// [`Mapping::harvest`](crate::Mapping::harvest).
    ///
    /// # Errors
    /// [`PagerError::WritesNotTracked`], or what the kernel says.
    fn harvest(&self, pages: PageRange, written: &mut dyn FnMut(PageRange)) -> Result<u64, PagerError> {
        let _ = written;
        Err(PagerError::WritesNotTracked { pages, kind: self.kind() })
    }

    /// Calls `written` for each run of granted pages among `pages` that were written since they were granted for reading, or since
    /// they were last protected or harvested, and changes nothing. Pages that are granted for writing count as written. A page may be told that was not, as by
    /// [`harvest`](Pager::harvest).
    ///
    /// # Errors
    /// As [`harvest`](Pager::harvest).
    fn written(&self, pages: PageRange, written: &mut dyn FnMut(PageRange)) -> Result<(), PagerError> {
        let _ = written;
        Err(PagerError::WritesNotTracked { pages, kind: self.kind() })
    }

    /// As [`unmap`](Pager::unmap), and calls `written` for each run of granted pages that were written, as by [`written`](Pager::written), until no
    /// processor could write them any more. No store is missed. Not beside a call that maps the same pages.
    ///
    /// # Errors
    /// As [`harvest`](Pager::harvest).
    fn unmap_and_tell(&self, pages: PageRange, written: &mut dyn FnMut(PageRange)) -> Result<(), PagerError> {
        let _ = written;
        Err(PagerError::WritesNotTracked { pages, kind: self.kind() })
    }

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

impl FaultDelivery {
    /// Makes the region known to whoever hears of faults.
    fn register(self, kind: PagerKind, app: &MappedRange) -> Result<Registration, MappingError> {
        let FaultDelivery { key, sink } = self;
        let (start, end) = (app.address(), app.address() + app.bytes());
        Registration::new(Entry { start, end, kind, key, sink })
    }
}

impl Registration {
    /// [`Pager::stop`].
    fn stop(&self, timeout: Duration) -> Result<(), StillFaulting> {
        if self.retire(timeout) { Ok(()) } else { Err(StillFaulting { waited: timeout }) }
    }
}

/// Whether writes can be tracked with this pager; opens descriptors and tries it with one page.
pub(crate) fn try_tracking(kind: PagerKind) -> WriteTracking {
    match tracking::try_out(kind) {
        Ok(()) => WriteTracking::On,
        Err(error) => WriteTracking::Refused(error),
    }
}

/// Opens the pager that `kind` names over an app view. It has to be dropped after the view.
pub(crate) fn open(
    kind: PagerKind,
    app: &MappedRange,
    memory: &Arc<Memory>,
    delivery: FaultDelivery,
    tracking: WriteTracking,
) -> Result<Box<dyn Pager>, MappingError> {
    Ok(match kind {
        PagerKind::Sigbus if tracking == WriteTracking::On => {
            Box::new(tracking::TrackingPager::open(app, delivery)?)
        }
        PagerKind::Sigbus => Box::new(sigbus::SigbusPager::open(app, delivery, SIGBUS_FEATURES)?),
        PagerKind::Handler => Box::new(handler::HandlerPager::open(app, delivery)?),
        PagerKind::Sigsegv => Box::new(sigsegv::SigsegvPager::open(app, memory, delivery)?),
    })
}

/// Forgets what a parent's pagers share, in a child made by fork.
pub(crate) fn forget() {
    handler::forget();
    sigsegv::forget();
}

/// Keeps the handler of a signal in place for the region with this app view.
fn install(signal: FaultSignal, app: &MappedRange) -> Result<Installed, MappingError> {
    signal::install(signal).map_err(|(call, errno)| MappingError::Failed {
        call,
        address: None,
        bytes: app.bytes(),
        errno,
    })
}

/// A range that the region does not have is a mistake of the caller.
fn check_range(pages: PageRange, region_pages: u64) {
    assert!(pages.end() <= region_pages, "{pages} of a region of {region_pages} pages");
}
