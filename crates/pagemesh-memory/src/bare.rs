//! The least program that resolves its own faults: what the machine charges for them, to be measured against.

use crate::mapped::{MappedRange, Memory};
use crate::pager::{UserfaultPages, open_userfault};
use crate::recoverable::sites;
use crate::signal::InFront;
use crate::{
    Access, MappingError, PAGE_BYTES, PageBytes, PageRange, PagerError, PagerKind, PlainMemory,
    SIGBUS_FEATURES, choose,
};
use rustix::io::Errno;
use std::marker::PhantomData;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering, compiler_fence};

/// Why there is no measurement of bare faults.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BareFaultsError {
    /// The memory, or what its faults need, cannot be had.
    #[error("bare faults cannot be had: {0}")]
    Mapping(#[from] MappingError),
    /// Its pages cannot be brought into the state that was asked for.
    #[error("pages of bare faults cannot be prepared: {0}")]
    Pager(#[from] PagerError),
    /// The handler of a process serves one measurement.
    #[error("bare faults are being measured in this process already; wait for the end of that")]
    Busy,
    /// A page's bytes could not be had, or the page could not be entered: what was found in it means nothing.
    #[error("a bare fault could not be resolved; do not use what was measured")]
    Unresolved,
}

/// Memory of one process whose faults are resolved with the fewest steps that there are.
///
/// A file in memory is mapped twice. One mapping faults, by userfaultfd in its SIGBUS mode; through the other its bytes get there. In the
/// handler of SIGBUS a page that is absent is filled and entered (UFFDIO_CONTINUE), and one that is write-protected is made
/// writable (UFFDIO_WRITEPROTECT). That is all: no other signal is masked, no region is looked up, nobody is asked who may have the page.
///
/// The handler is there while something is [measured](Self::measure). Faults of other memory, those of a [`Mapping`](crate::Mapping) too, go on
/// to whoever had them before.
#[derive(Debug)]
pub struct BareFaults {
    // Unmapped before its faults go nowhere.
    app: MappedRange,
    alias: MappedRange,
    pages: UserfaultPages,
    /// The kernel resolves its faults by itself since one could not be resolved here.
    is_left: AtomicBool,
    _memory: Memory,
}

/// The pages of [`BareFaults`], to whoever measures.
#[derive(Debug)]
pub struct BarePages<'a> {
    app: &'a MappedRange,
    /// The handler serves the thread that began.
    _here: PhantomData<*mut ()>,
}

/// Where the bytes of an absent page are to be put.
#[derive(Debug)]
pub struct BareSpace<'a> {
    page: u64,
    bytes: *mut u8,
    _memory: PhantomData<&'a mut PageBytes>,
}

/// What fills an absent page, and says whether it could.
type Fill<'a> = dyn Fn(&mut BareSpace<'_>) -> bool + Sync + 'a;

/// A measurement, as the handler needs it.
struct Measurement<'a> {
    faults: &'a BareFaults,
    fill: &'a Fill<'a>,
    unresolved: AtomicBool,
}

/// Whether anything is being measured.
static IS_MEASURING: AtomicBool = AtomicBool::new(false);
/// The thread that measures (`pthread_self(3)`), or 0. Only that one looks at the measurement, which it keeps until it has taken its number
/// away: so it is there when it is looked at.
static THREAD: AtomicUsize = AtomicUsize::new(0);
/// What it measures.
static MEASUREMENT: AtomicPtr<Measurement<'static>> = AtomicPtr::new(null_mut());

impl BareFaults {
    /// Makes `pages` pages of zeros, all of which are absent, though there is memory for each.
    ///
    /// # Errors
    /// When there are to be none or too many, the kernel refuses, or the [`sigbus`](PagerKind::Sigbus) pager cannot be had here.
    pub fn new(pages: usize) -> Result<BareFaults, BareFaultsError> {
        let bytes = pages.checked_mul(PAGE_BYTES).filter(|bytes| isize::try_from(*bytes).is_ok());
        let bytes = bytes.filter(|bytes| *bytes > 0);
        let bytes = bytes.ok_or(MappingError::BadSize { bytes: pages.saturating_mul(PAGE_BYTES) })?;
        choose(Some(PagerKind::Sigbus)).map_err(MappingError::from)?;
        let memory = Memory::new(bytes)?;
        let failed = |call| move |errno: Errno| MappingError::Failed { call, address: None, bytes, errno };
        memory.populate(PageRange::new(0, pages as u64)).map_err(failed("fallocate of bare memory"))?;
        let (app, alias) = (MappedRange::new(&memory, None)?, MappedRange::new(&memory, None)?);
        // SAFETY: all of it is mapped, writable, and ours alone; there is memory for it.
        unsafe { alias.start().write_bytes(0, bytes) };
        let userfault = open_userfault(SIGBUS_FEATURES).map_err(MappingError::from)?;
        // SAFETY: `app` is a shared mapping made for this. It is unmapped before the range is dropped, as it stands before it.
        let range = unsafe { userfault.register(app.address(), app.bytes()) }.map_err(MappingError::from)?;
        let (pages, is_left) = (UserfaultPages::new(range), AtomicBool::new(false));
        Ok(BareFaults { app, alias, pages, is_left, _memory: memory })
    }

    /// How many pages.
    pub fn pages(&self) -> usize {
        self.app.pages() as usize
    }

    fn all(&self) -> PageRange {
        PageRange::new(0, self.app.pages())
    }

    /// Puts a page's bytes in place, whether it is absent or not, without a fault.
    ///
    /// # Panics
    /// When there is no such page.
    pub fn write(&mut self, page: usize, bytes: &PageBytes) {
        assert!((page as u64) < self.alias.pages(), "page {page} of {}", self.alias.pages());
        let to = self.alias.start().wrapping_add(page * PAGE_BYTES);
        BareSpace { page: page as u64, bytes: to, _memory: PhantomData }.write(bytes);
    }

    /// Makes all pages absent. Their bytes stay.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn unmap(&mut self) -> Result<(), BareFaultsError> {
        Ok(self.pages.unmap(self.all())?)
    }

    /// Makes all pages readable and no more: the next store to each faults.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn protect(&mut self) -> Result<(), BareFaultsError> {
        self.pages.map(self.all(), Access::Read)?;
        Ok(self.pages.protect(self.all())?)
    }

    /// Has `work` use the pages. `fill` is called in the handler for each absent page that it touches, and puts the page's bytes in place, unless they
    /// are there. Where it says that it could not, the page is entered as it is, and the result is an error.
    ///
    /// What `fill` touches must not fault with SIGBUS, which kills the process, and it must not wait for what `work` holds, nor panic,
    /// which aborts it.
    ///
    /// # Errors
    /// When something else is measured in this process, the handler cannot be set, or a fault could not be resolved.
    pub fn measure<T>(
        &mut self,
        fill: &(dyn Fn(&mut BareSpace<'_>) -> bool + Sync),
        work: impl FnOnce(&BarePages<'_>) -> T,
    ) -> Result<T, BareFaultsError> {
        if *self.is_left.get_mut() {
            return Err(BareFaultsError::Unresolved);
        }
        let measurement = Measurement { faults: self, fill, unresolved: AtomicBool::new(false) };
        let ended = Turn::take(&measurement)?;
        let found = work(&BarePages { app: &self.app, _here: PhantomData });
        drop(ended);
        if measurement.unresolved.into_inner() { Err(BareFaultsError::Unresolved) } else { Ok(found) }
    }
}

/// The right to measure, with the handler in place.
struct Turn {
    front: Option<InFront>,
}

impl Turn {
    fn take(measurement: &Measurement<'_>) -> Result<Turn, BareFaultsError> {
        if IS_MEASURING.swap(true, Ordering::Acquire) {
            return Err(BareFaultsError::Busy);
        }
        let mut turn = Turn { front: None };
        let failed = |(call, errno)| {
            let (address, bytes) = (None, measurement.faults.app.bytes());
            MappingError::Failed { call, address, bytes, errno }
        };
        turn.front = Some(InFront::new().map_err(failed)?);
        let measurement: *const Measurement<'_> = measurement;
        MEASUREMENT.store(measurement.cast_mut().cast(), Ordering::Relaxed);
        THREAD.store(this_thread(), Ordering::Release);
        Ok(turn)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        THREAD.store(0, Ordering::Release);
        MEASUREMENT.store(null_mut(), Ordering::Relaxed);
        self.front = None;
        IS_MEASURING.store(false, Ordering::Release);
    }
}

/// A number that no other living thread has, and which is found without a system call.
fn this_thread() -> usize {
    // SAFETY: only reads the thread's own register.
    unsafe { libc::pthread_self() as usize }
}

/// Resolves the fault at `address`, where the page was there and protected, or absent. False when it is none of these pages', or the thread would
/// fault for ever.
pub(crate) fn resolve(address: usize, was_there: bool) -> bool {
    if THREAD.load(Ordering::Acquire) != this_thread() {
        return false;
    }
    // SAFETY: this thread measures, and cannot end that before the handler has returned.
    let measurement = unsafe { &*MEASUREMENT.load(Ordering::Relaxed) };
    let BareFaults { app, alias, pages, is_left, .. } = measurement.faults;
    let offset = address.wrapping_sub(app.address());
    if offset >= app.bytes() {
        return false;
    }
    let page = PageRange::one((offset / PAGE_BYTES) as u64);
    let resolved = if was_there {
        pages.unprotect(page)
    } else {
        let bytes = alias.start().wrapping_add(offset / PAGE_BYTES * PAGE_BYTES);
        let mut space = BareSpace { page: page.first(), bytes, _memory: PhantomData };
        if !(measurement.fill)(&mut space) {
            measurement.unresolved.store(true, Ordering::Relaxed);
        }
        pages.restore(page)
    };
    if resolved.is_ok() {
        return true;
    }
    measurement.unresolved.store(true, Ordering::Relaxed);
    is_left.store(true, Ordering::Relaxed);
    pages.leave()
}

impl BarePages<'_> {
    /// The first 64 bits of a page.
    ///
    /// # Panics
    /// When there is no such page.
    #[inline]
    pub fn load(&self, page: usize) -> u64 {
        let place = self.place(page);
        // What the handler does to other memory happens here, not before or after.
        compiler_fence(Ordering::SeqCst);
        // SAFETY: `place` lies in the mapping, aligned. Nobody stores there but this thread, or its handler in between.
        let found = unsafe { place.read_volatile() };
        compiler_fence(Ordering::SeqCst);
        found
    }

    /// Replaces the first 64 bits of a page.
    ///
    /// # Panics
    /// When there is no such page.
    #[inline]
    pub fn store(&self, page: usize, value: u64) {
        let place = self.place(page);
        compiler_fence(Ordering::SeqCst);
        // SAFETY: as in `load`.
        unsafe { place.write_volatile(value) };
        compiler_fence(Ordering::SeqCst);
    }

    #[inline]
    #[allow(clippy::cast_ptr_alignment, reason = "pages begin at multiples of their size")]
    fn place(&self, page: usize) -> *mut u64 {
        assert!((page as u64) < self.app.pages(), "page {page} of {}", self.app.pages());
        self.app.start().wrapping_add(page * PAGE_BYTES).cast()
    }
}

impl BareSpace<'_> {
    /// Which page.
    pub fn page(&self) -> usize {
        self.page as usize
    }

    /// Puts these bytes in place.
    pub fn write(&mut self, bytes: &PageBytes) {
        // SAFETY: a page of the alias, which is mapped, and which nobody has a reference into.
        unsafe { sites::transfer(self.bytes, bytes.as_ptr(), PAGE_BYTES) };
    }

    /// Puts the bytes in place that lie at `byte_offset` of memory that processes share.
    ///
    /// # Panics
    /// When they do not lie in it.
    pub fn copy_from(&mut self, memory: &PlainMemory, byte_offset: usize) {
        let from = memory.place(byte_offset, PAGE_BYTES);
        // SAFETY: as in `write`; `place` checked the bounds, and others may store there at any time.
        unsafe { sites::transfer(self.bytes, from, PAGE_BYTES) };
    }
}
