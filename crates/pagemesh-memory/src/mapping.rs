//! A region of memory, mapped twice.

use crate::mapped::{MappedRange, Memory};
use crate::pager::{
    self, Chosen, FaultDelivery, Pager, PagerChoiceError, PagerError, PagerKind, WriteTracking,
};
use crate::preload::Announced;
use crate::{Access, FaultSink, PAGE_BYTES, PageRange, RegionKey, ServiceView, UffdError, fork};
use rustix::io::Errno;
use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::time::Duration;

/// How long a dropped mapping waits for faults in it that are still being resolved.
const DROP_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a region could not be mapped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MappingError {
    /// The size is nothing that can be mapped.
    #[error("asked for a region of {bytes} bytes; give a multiple of {PAGE_BYTES}, at least one page")]
    BadSize {
        /// What was asked for.
        bytes: usize,
    },
    /// The address is no start of a page, or the region would end beyond the last address.
    #[error(
        "asked for a region of {bytes} bytes at address {address:#x}; give a multiple of {PAGE_BYTES} that leaves room for it"
    )]
    BadAddress {
        /// What was asked for.
        address: usize,
        /// The size of the region.
        bytes: usize,
    },
    /// Something else lives there.
    #[error("asked for {bytes} bytes at address {asked:#x} and found there: {found}; choose other addresses")]
    AddressTaken {
        /// The address that was asked for.
        asked: usize,
        /// The size of the region.
        bytes: usize,
        /// The first line of `/proc/self/maps` that overlaps, and how many more do.
        found: String,
    },
    /// The limit on the size of files holds for files in memory too.
    #[error(
        "asked for {bytes} bytes, and no file of this process may have more than {limit} (RLIMIT_FSIZE); raise the limit (ulimit -f unlimited)"
    )]
    FileLimit {
        /// The size of the region.
        bytes: usize,
        /// The limit.
        limit: u64,
    },
    /// The table of regions whose faults are resolved is full.
    #[error("asked for one region more than the {max} that a process can have at a time; drop one first")]
    TooManyRegions {
        /// How many there can be.
        max: usize,
    },
    /// userfaultfd, which the pager that was asked for stands on, cannot be used.
    #[error("cannot resolve page faults here: {0}")]
    Uffd(#[from] UffdError),
    /// None of the pagers can be had.
    #[error("cannot resolve page faults here: {0}")]
    NoPager(#[from] PagerChoiceError),
    /// A system call failed for a reason of its own.
    #[error("{call} failed for {bytes} bytes{}: {errno}", place(*address))]
    Failed {
        /// Which.
        call: &'static str,
        /// For which address, if that was known by then.
        address: Option<usize>,
        /// For how many bytes.
        bytes: usize,
        /// What the kernel answered.
        errno: Errno,
    },
}

fn place(address: Option<usize>) -> String {
    address.map(|address| format!(" at {address:#x}")).unwrap_or_default()
}

/// What region to map, and where.
#[derive(Clone, Copy, Debug)]
pub struct MappingOptions {
    key: RegionKey,
    bytes: usize,
    address: Option<usize>,
    pager: Option<PagerKind>,
    track_writes: bool,
}

impl MappingOptions {
    /// A region of `bytes`, a multiple of [`PAGE_BYTES`], wherever there is room. Its faults will carry `key`.
    pub const fn new(key: RegionKey, bytes: usize) -> MappingOptions {
        MappingOptions { key, bytes, address: None, pager: None, track_writes: false }
    }

    /// Places the app view at `address`, or nowhere.
    #[must_use]
    pub const fn address(mut self, address: usize) -> MappingOptions {
        self.address = Some(address);
        self
    }

    /// Forces the pager. If not called, the best that can be had is taken, as by [`choose`](crate::choose).
    #[must_use]
    pub const fn pager(mut self, pager: PagerKind) -> MappingOptions {
        self.pager = Some(pager);
        self
    }

    /// Has the kernel note which pages are written, if it can with the pager that the region gets: for
    /// [`Mapping::harvest`]. If it cannot, the region is what it would be otherwise, and [`Mapping::write_tracking`] tells why.
    #[must_use]
    pub const fn track_writes(mut self, track_writes: bool) -> MappingOptions {
        self.track_writes = track_writes;
        self
    }
}

/// A region in this process: one file in memory, mapped twice.
///
/// Through the *app view* the application loads and stores. At first every page of it is absent: touching one is a fault,
/// which goes to the [`FaultSink`]. Through the [`ServiceView`] the bytes of every page can be read and replaced at any time.
/// The [`Pager`] says what the app view allows, page by page; the bytes stay in the file when it takes a page away.
///
/// Only touched pages cost memory, so a region may be far larger than the machine.
///
/// Dropping the mapping waits until no fault in it is being resolved any more, at most ten seconds, and unmaps it. If it
/// has to give up, everything stays mapped for the rest of the process's life, so that no thread gets foreign memory. A
/// thread that goes on using addresses of a dropped region does what it does with any unmapped memory.
///
/// In a child made by `fork` neither view exists (SIGSEGV), and dropping the child's copy does nothing. The child can map regions of its
/// own.
pub struct Mapping {
    key: RegionKey,
    /// The process it was made in: a child has this value, but not the mappings.
    process: u32,
    parts: ManuallyDrop<Parts>,
}

/// In the order in which they go: what serves faults must outlive the app view, or else an access in between would see
/// unprotected pages.
struct Parts {
    /// To the preload library, if there is one.
    announced: Option<Announced>,
    app: MappedRange,
    service: ServiceView,
    memory: Arc<Memory>,
    pager: Box<dyn Pager>,
    chosen: Chosen,
    tracking: WriteTracking,
}

impl Mapping {
    /// Maps a region of zeros, with no page accessible yet. Its faults go to `sink`.
    ///
    /// # Errors
    /// See [`MappingError`].
    pub fn new(options: MappingOptions, sink: Arc<dyn FaultSink>) -> Result<Mapping, MappingError> {
        let MappingOptions { key, bytes, address, pager, track_writes } = options;
        if bytes == 0 || !bytes.is_multiple_of(PAGE_BYTES) || isize::try_from(bytes).is_err() {
            return Err(MappingError::BadSize { bytes });
        }
        if let Some(address) = address
            && (address == 0 || !address.is_multiple_of(PAGE_BYTES) || address.checked_add(bytes).is_none())
        {
            return Err(MappingError::BadAddress { address, bytes });
        }
        fork::settle().map_err(|errno| MappingError::Failed {
            call: "pthread_atfork",
            address,
            bytes,
            errno,
        })?;
        let chosen = pager.map_or_else(|| pager::choose(None), |kind| Ok(Chosen::forced(kind)))?;
        let memory = Arc::new(Memory::new(bytes)?);
        let app = MappedRange::new(&memory, address)?;
        let service = ServiceView::new(MappedRange::new(&memory, None)?);
        let tracking = if track_writes { pager::try_tracking(chosen.kind) } else { WriteTracking::Off };
        let pager = pager::open(chosen.kind, &app, &memory, FaultDelivery { key, sink }, tracking)?;
        let announced = Announced::new(app.address(), bytes);
        let parts = ManuallyDrop::new(Parts { announced, app, service, memory, pager, chosen, tracking });
        Ok(Mapping { key, process: std::process::id(), parts })
    }

    /// The number that its faults carry.
    pub fn key(&self) -> RegionKey {
        self.key
    }

    /// Address of the app view's first byte.
    pub fn base(&self) -> usize {
        self.parts.app.address()
    }

    /// The app view, for code that loads and stores by itself. Valid as long as the mapping. No reference may be made from it:
    /// other processes change the bytes.
    pub fn app_pointer(&self) -> *mut u8 {
        self.parts.app.start()
    }

    /// Size.
    pub fn bytes(&self) -> usize {
        self.parts.app.bytes()
    }

    /// Size in pages.
    pub fn pages(&self) -> u64 {
        self.parts.app.pages()
    }

    /// Says what the app view allows.
    pub fn pager(&self) -> &dyn Pager {
        &*self.parts.pager
    }

    /// Whether system calls can use all of `pages` of the app view now, without a fault (`MADV_POPULATE_READ` and `_WRITE`, Linux
    /// 5.14; on an older kernel the answer is no). With the `handler` pager this waits for pages that are absent, as a system
    /// call does. A page that was granted may have lost its mapping to the kernel, or to a pager that ran out of mappings.
    ///
    /// # Panics
    /// When the region has no such pages.
    pub fn is_accessible(&self, pages: PageRange, access: Access) -> bool {
        assert!(pages.end() <= self.pages(), "{pages} of a region of {} pages", self.pages());
        self.parts.app.is_accessible(pages, access)
    }

    /// Which pager it has, and why.
    pub fn chosen(&self) -> &Chosen {
        &self.parts.chosen
    }

    /// Whether the kernel notes which pages are written, and if not, why.
    pub fn write_tracking(&self) -> &WriteTracking {
        &self.parts.tracking
    }

    /// Whether the kernel notes which pages are written. If not, a page that is granted for reading faults when it is written.
    pub fn tracks_writes(&self) -> bool {
        self.pager().tracks_writes()
    }

    /// Calls `written` for each run of granted pages among `pages` that were written through the app view since the last
    /// harvest, or since they were granted for reading, and makes them clean again. Returns how many pages that were.
    ///
    /// Threads may go on writing. Each store is in this harvest, and then seen by whoever reads the page after it returned, or
    /// in the next. What was written through the service view is not in any.
    ///
    /// A page may be told that was not written: one that two threads got at the same moment, or that the kernel had taken out of
    /// the page table. A page that was unmapped is not told. Who unmaps one and wants what was written to it has to compare it
    /// with its twin after that, whatever the last harvest said.
    ///
    /// `written` is called between the system calls, with the pages of a batch clean already; it must not panic.
    ///
    /// # Errors
    /// [`PagerError::WritesNotTracked`], or what the kernel says; then the pages that were told are clean, and the others as they
    /// were.
    ///
    /// # Panics
    /// When the region has no such pages.
    pub fn harvest(&self, pages: PageRange, mut written: impl FnMut(PageRange)) -> Result<u64, PagerError> {
        self.pager().harvest(pages, &mut written)
    }

    /// The bytes, whatever the app view allows.
    pub fn service(&self) -> &ServiceView {
        &self.parts.service
    }

    /// Makes the file hold `pages`, as zeros where it did not: what [`Pager::map`] needs of a page that nothing was written to
    /// through the service view. Any number of pages in one call.
    ///
    /// # Errors
    /// [`MappingError::Failed`] when the kernel has no memory for them.
    ///
    /// # Panics
    /// When the region has no such pages.
    pub fn populate(&self, pages: PageRange) -> Result<(), MappingError> {
        assert!(pages.end() <= self.pages(), "{pages} of a region of {} pages", self.pages());
        self.parts.memory.populate(pages).map_err(|errno| MappingError::Failed {
            call: "fallocate of the memory file",
            address: None,
            bytes: pages.count() as usize * PAGE_BYTES,
            errno,
        })?;
        if self.pager().kind() == PagerKind::Sigsegv {
            // It asks the file what it holds, which is what was touched.
            self.parts.service.touch(pages);
        }
        Ok(())
    }
}

impl std::fmt::Debug for Mapping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mapping")
            .field("key", &self.key)
            .field("base", &format_args!("{:#x}", self.base()))
            .field("bytes", &self.bytes())
            .field("pager", &self.pager().kind())
            .finish_non_exhaustive()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if std::process::id() != self.process {
            return;
        }
        self.parts.announced = None;
        if let Err(still) = self.parts.pager.stop(DROP_TIMEOUT) {
            tracing::error!(key = self.key.0, base = self.base(), "a dropped region stays mapped: {still}");
            return;
        }
        // SAFETY: this is the end of the value: nothing uses the parts after it.
        unsafe { ManuallyDrop::drop(&mut self.parts) };
    }
}
