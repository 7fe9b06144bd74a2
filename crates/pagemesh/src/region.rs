//! Regions: named ranges of shared memory.

use crate::runtime::{CallFailure, Runtime, change_here};
use crate::{
    AccessError, AtomicError, Lock, NodeId, OwnerHints, PageState, PinError, PinGuard, Placement, Plain,
    Protocol, ReadWriteLock, RegionCursor, RegionError, SharedSlice,
};
use pagemesh_memory::{AccessFault, Mapping};
use pagemesh_protocol::{
    Access, AtomicChange, AtomicOperation, Failure, Outcome, PageAddress, PageOwner, PinId, RegionId,
    RegionSpec, Unit, limits,
};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a region is to be like. Every node that opens it by [`Mesh::region`](crate::Mesh::region) gives the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegionOptions {
    pub(crate) bytes: usize,
    pub(crate) placement: Placement,
    pub(crate) protocol: Protocol,
    pub(crate) unit_bytes: usize,
    pub(crate) address: Option<usize>,
}

impl RegionOptions {
    /// Where the regions are that ask for no address.
    pub const ADDRESSES: Range<usize> = limits::REGION_BASE as usize..limits::REGION_END as usize;

    /// A region of `bytes` bytes, rounded up to pages of 4096; kept coherent by write-invalidate, with cyclic placement, at an
    /// address that is free on every node.
    pub const fn new(bytes: usize) -> RegionOptions {
        let (placement, protocol) = (Placement::Cyclic, Protocol::WriteInvalidate);
        RegionOptions { bytes, placement, protocol, unit_bytes: Unit::Page.bytes(), address: None }
    }

    /// Its size in pages.
    pub const fn pages(&self) -> usize {
        self.bytes.div_ceil(4096)
    }

    /// Which nodes keep the directory of its pages.
    #[must_use]
    pub const fn placement(mut self, placement: Placement) -> RegionOptions {
        self.placement = placement;
        self
    }

    /// How its copies are kept coherent.
    #[must_use]
    pub const fn protocol(mut self, protocol: Protocol) -> RegionOptions {
        self.protocol = protocol;
        self
    }

    /// How much of it a miss brings, in bytes: 4096, which it is without this, 16384, 65536 or 2097152 ([`Unit`]). For memory that
    /// threads go through in pieces of that size, written or read.
    ///
    /// A thread that misses a page of a larger unit waits for that page, and has the other pages of the unit, which begins at a
    /// multiple of its size, asked for with it: for reading, or for writing after a write, so that other nodes lose all of them. Coherence stays
    /// that of pages. One that goes on from unit to unit has the next ones asked for before it comes to them, as pages are
    /// ([`Config::read_ahead`](crate::Config::read_ahead)), but those of 2 MiB. In a [`Protocol::Release`] region the other pages come to be read,
    /// whatever the access was; a [`Protocol::Entry`] region, of which locked ranges bring the bytes, has no unit but 4096.
    #[must_use]
    pub const fn unit(mut self, bytes: usize) -> RegionOptions {
        self.unit_bytes = bytes;
        self
    }

    /// The address that it must have on every node: a multiple of 4096.
    #[must_use]
    pub const fn address(mut self, address: usize) -> RegionOptions {
        self.address = Some(address);
        self
    }
}

/// A range of memory that all nodes share, at the same virtual address on each. Cheap to clone; every clone is the same memory.
///
/// It starts as zeros. Plain loads and stores through [`base`](Region::base) work, from any thread; they are as atomic and
/// ordered across nodes as across the threads of one machine. System calls do not fault pages in: they return `EFAULT` (or
/// a short count) for pages that are not here, unless they are [pinned](Region::pin). Forked children do not inherit it.
///
/// Dropping the last clone closes the region on this node, which goes on serving its pages to others; it waits until the coordinator knows. When every
/// node that opened the region has closed it (a lost node counts as one that has), it is gone on all: its memory and addresses are free,
/// and who opens the name then gets a new region of zeros. A node that opens it before the last has closed it gets it as it is.
/// Locks are not part of a region, and stay as they are.
#[derive(Clone)]
pub struct Region {
    runtime: Arc<Runtime>,
    mapping: Arc<Mapping>,
    id: RegionId,
    spec: RegionSpec,
    /// Goes last: what it closes is unmapped when nothing else has it.
    opening: Option<Arc<Opening>>,
}

/// One opening of a region, shared by the clones of what was opened. Dropping it closes the region on this node.
struct Opening {
    runtime: Arc<Runtime>,
    id: RegionId,
    /// It is the runtime's to close.
    is_kept: AtomicBool,
}

impl Drop for Opening {
    fn drop(&mut self) {
        if !self.is_kept.load(Ordering::Relaxed) {
            self.runtime.close_region(self.id);
        }
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Region")
            .field("name", &self.name())
            .field("base", &format_args!("{:#x}", self.base()))
            .field("bytes", &self.bytes())
            .finish_non_exhaustive()
    }
}

impl Region {
    /// A region that was found by an address: it stays open no longer for this.
    pub(crate) fn found(
        runtime: Arc<Runtime>,
        mapping: Arc<Mapping>,
        id: RegionId,
        spec: RegionSpec,
    ) -> Region {
        Region { runtime, mapping, id, spec, opening: None }
    }

    /// A region that this node was just given.
    pub(crate) fn opened(
        runtime: Arc<Runtime>,
        mapping: Arc<Mapping>,
        id: RegionId,
        spec: RegionSpec,
    ) -> Region {
        let opening = Opening { runtime: runtime.clone(), id, is_kept: AtomicBool::new(false) };
        Region { runtime, mapping, id, spec, opening: Some(Arc::new(opening)) }
    }

    /// Leaves this region, which was just opened, open on this node until `other` is gone from it: it says what is in the other.
    pub(crate) fn stay_with(&self, other: &Region) {
        if let Some(opening) = &self.opening
            && self.runtime.keep_while(other.id, self.id)
        {
            opening.is_kept.store(true, Ordering::Relaxed);
        }
    }

    /// Refuses while threads of this node have some of the region pinned by address, or some range of it locked for good: closing it
    /// would take that from them. For those who close regions by dropping them.
    ///
    /// # Errors
    /// [`RegionError::InUse`].
    pub fn check_unused(&self) -> Result<(), RegionError> {
        if self.runtime.is_region_used(self.id) {
            return Err(RegionError::InUse { name: self.name().to_owned() });
        }
        Ok(())
    }

    /// The name it was opened by.
    pub fn name(&self) -> &str {
        self.spec.name.as_str()
    }

    /// Virtual address of its first byte.
    pub fn base(&self) -> usize {
        self.mapping.base()
    }

    /// Its first byte, for plain loads and stores. They are the caller's to order; a page that cannot be had raises SIGBUS.
    /// Valid while any clone of this region lives. Who touches it after that may still find the region, while other nodes
    /// have it; once it is gone, its addresses are those of nothing, and raise SIGSEGV.
    pub fn as_ptr(&self) -> *mut u8 {
        self.mapping.app_pointer()
    }

    /// Its size in bytes, a multiple of 4096.
    pub fn bytes(&self) -> usize {
        self.mapping.bytes()
    }

    /// Its size in pages.
    pub fn pages(&self) -> usize {
        self.mapping.pages() as usize
    }

    /// `len` items from byte `offset` on.
    ///
    /// # Errors
    /// When they do not lie in the region, or `offset` is not a multiple of the item's alignment.
    pub fn slice<T: Plain>(&self, offset: usize, len: usize) -> Result<SharedSlice<T>, RegionError> {
        self.check_items(offset, len, size_of::<T>(), align_of::<T>())?;
        Ok(SharedSlice::new(self.clone(), offset, len))
    }

    /// Refuses what does not lie in the region, or not aligned.
    pub(crate) fn check_items(
        &self,
        offset: usize,
        len: usize,
        item_bytes: usize,
        align: usize,
    ) -> Result<(), RegionError> {
        let end = len.checked_mul(item_bytes).and_then(|bytes| bytes.checked_add(offset));
        let region_bytes = self.bytes();
        if end.is_some_and(|end| end <= region_bytes) && offset.is_multiple_of(align) {
            return Ok(());
        }
        Err(RegionError::Slice { name: self.name().to_owned(), region_bytes, offset, len, item_bytes, align })
    }

    /// `bytes` bytes from `offset` on, to be read and written as a file; less when the region ends before.
    pub fn cursor(&self, offset: usize, bytes: usize) -> RegionCursor {
        let start = offset.min(self.bytes());
        RegionCursor::new(self.clone(), start, bytes.min(self.bytes() - start))
    }

    /// Gets `pages` to this node for reading, many requests at a time: what is to be read soon is then here. A hint: other nodes
    /// may take the pages away again at once. In an entry region it brings nothing; locked ranges do.
    ///
    /// # Errors
    /// When a page cannot be had.
    ///
    /// # Panics
    /// When the region has no such pages.
    pub fn prefetch(&self, pages: Range<usize>) -> Result<(), AccessError> {
        self.prefetch_pages(pages, Access::Read)
    }

    /// As [`prefetch`](Region::prefetch), for writing: all other copies are dropped.
    ///
    /// # Errors
    /// When a page cannot be had.
    ///
    /// # Panics
    /// When the region has no such pages.
    pub fn prefetch_for_writing(&self, pages: Range<usize>) -> Result<(), AccessError> {
        self.prefetch_pages(pages, Access::Write)
    }

    /// Whether reads of this node that miss pages of this region go straight to the nodes that are likely to own them, whatever
    /// [`Config::owner_hints`](crate::Config::owner_hints) says of all regions. What the node has heard so far is forgotten with [`OwnerHints::Off`]. Nothing changes where
    /// hints are of no use: with fewer than three nodes, with another protocol or a larger [unit](RegionOptions::unit).
    pub fn owner_hints(&self, hints: OwnerHints) {
        self.runtime.use_owner_hints(self.id, hints);
    }

    /// Gives this node's copies of `pages` back to their homes: what is not needed here for a while is then where others look first, and
    /// the homes answer for it when this node goes. The next access gets a page as its first one did.
    ///
    /// A hint. Copies that are in use or pinned stay, and so do those of which this node is the home or whose home is lost, and all of a [`Protocol::Entry`] region. Pages of a
    /// [`Protocol::Release`] region go before this returns; what was written to any of them is then sent home with all else that this node wrote. Other pages go soon
    /// after, unless their home has something else to do with them. A home takes 1024 pages at a time, and lets more go by.
    /// No memory is freed by it: behind the region's address range the page stays, unused, until it comes again.
    ///
    /// # Panics
    /// When the region has no such pages.
    pub fn evict(&self, pages: Range<usize>) {
        assert!(pages.end <= self.pages(), "pages {pages:?} of a region of {} pages", self.pages());
        self.runtime.evict(pages.map(|page| PageAddress::new(self.id, page as u64)));
    }

    fn prefetch_pages(&self, pages: Range<usize>, access: Access) -> Result<(), AccessError> {
        assert!(pages.end <= self.pages(), "pages {pages:?} of a region of {} pages", self.pages());
        let pages = pages.map(|page| PageAddress::new(self.id, page as u64));
        self.runtime
            .acquire_many(pages, access)
            .map_err(|(page, failed)| failed.into_access_error(&self.runtime, &self.spec, page))
    }

    /// Gets the pages of `bytes` to this node and keeps them until the guard is dropped: readable, or writable and nowhere else. For
    /// system calls, which do not fault pages in; see [`PinGuard`].
    ///
    /// # Errors
    /// When the range does not lie in the region, when a page cannot be had, or when more than 8192 pages would be pinned on this node,
    /// counted as often as each is pinned (16 MiB twice over).
    pub fn pin(&self, bytes: Range<usize>, access: Access) -> Result<PinGuard, PinError> {
        let pin = self.pin_bytes(bytes.clone(), access)?;
        Ok(PinGuard::new(self.clone(), bytes, access, pin))
    }

    /// As [`pin`](Region::pin), to be ended by [`unpin`](Region::unpin).
    pub(crate) fn pin_bytes(&self, bytes: Range<usize>, access: Access) -> Result<PinId, PinError> {
        let Range { start, end } = bytes;
        let region_bytes = self.bytes();
        if start > end || end > region_bytes {
            return Err(PinError::OutOfBounds { region: self.name().to_owned(), start, end, region_bytes });
        }
        let first = (start / 4096) as u64;
        let pages = first..if start == end { first } else { end.div_ceil(4096) as u64 };
        let count = pages.end - pages.start;
        let too_many =
            || PinError::TooMany { region: self.name().to_owned(), pages: count, limit: limits::PINS };
        if count > limits::PINS as u64 {
            return Err(too_many());
        }
        self.runtime.pin(self.id, pages, access).map_err(|(page, failed)| match failed {
            CallFailure::Failed(Failure::Limit(_)) => too_many(),
            failed => failed.into_access_error(&self.runtime, &self.spec, page).into(),
        })
    }

    /// Ends a pin.
    pub(crate) fn unpin(&self, pin: PinId) -> Result<(), PinError> {
        let region = self.name().to_owned();
        match self.runtime.unpin(pin) {
            Ok(None) => Ok(()),
            Ok(Some(page)) => {
                Err(PinError::Taken { region, page: page.page, after: self.runtime.pin_deadline() })
            }
            Err(_) => Err(AccessError::Closed { region }.into()),
        }
    }

    /// The lock of a value of this region.
    pub(crate) fn lock_numbered(&self, number: u64) -> Lock {
        Lock::new(self.runtime.clone(), number)
    }

    /// The reader-writer lock of a value of this region.
    pub(crate) fn read_write_lock_numbered(&self, number: u64) -> ReadWriteLock {
        ReadWriteLock::new(self.runtime.clone(), number)
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Refuses what relies on other locks than those on ranges to bring bytes up to date.
    pub(crate) fn check_not_entry(&self, what: &str) -> Result<(), RegionError> {
        if self.protocol() != Protocol::Entry {
            return Ok(());
        }
        let what = format!(
            "{what} cannot be in an entry region, whose bytes only locked ranges bring; use a region of another protocol"
        );
        Err(RegionError::Option { name: self.name().to_owned(), what })
    }

    pub(crate) fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    pub(crate) fn id(&self) -> RegionId {
        self.id
    }

    /// Byte `offset` in the service view. The byte after the last is somewhere too.
    pub(crate) fn io_pointer_at(&self, offset: usize) -> *mut u8 {
        self.mapping.service().page_pointer(0).wrapping_add(offset)
    }

    /// Prefetches the pages of these bytes, which lie in the region.
    pub(crate) fn prefetch_bytes(
        &self,
        offset: usize,
        bytes: usize,
        access: Access,
    ) -> Result<(), AccessError> {
        let pages = offset / 4096..(offset + bytes).div_ceil(4096);
        // A single page is got by its fault just as well.
        if pages.len() > 1 { self.prefetch_pages(pages, access) } else { Ok(()) }
    }

    fn page(&self, page: usize) -> PageAddress {
        assert!(page < self.pages(), "page {page} of a region of {} pages", self.pages());
        PageAddress::new(self.id, page as u64)
    }

    /// The state of this node's copy of a page.
    ///
    /// # Panics
    /// When the region has no such page.
    pub fn page_state(&self, page: usize) -> PageState {
        self.runtime.page_state(self.page(page))
    }

    /// How its copies are kept coherent.
    pub fn protocol(&self) -> Protocol {
        self.spec.protocol
    }

    /// How much of it a miss brings.
    pub fn unit(&self) -> Unit {
        self.spec.unit
    }

    /// How its pages are given homes.
    pub fn placement(&self) -> Placement {
        self.spec.placement
    }

    /// The node that keeps the directory entry of a page; `None` while nobody has touched it and its [`Placement`] waits for that.
    /// Costs nothing, except with [`Placement::FirstTouch`] while this node does not know: then the page's anchor is asked,
    /// which settles nothing.
    ///
    /// # Errors
    /// When the anchor had to be asked and is gone, or does not answer.
    ///
    /// # Panics
    /// When the region has no such page.
    pub fn page_home(&self, page: usize) -> Result<Option<NodeId>, AccessError> {
        let page = self.page(page);
        match self.runtime.home(page) {
            Ok(Outcome::Home(home)) => Ok(home),
            Ok(_) => unreachable!("a question for a home has a home for an answer"),
            Err(failed) => Err(failed.into_access_error(&self.runtime, &self.spec, page)),
        }
    }

    /// The node whose copy of a page is authoritative, as its home knows it now; `None` while nobody has touched it.
    ///
    /// # Errors
    /// When the page is lost, or its home does not answer.
    ///
    /// # Panics
    /// When the region has no such page.
    pub fn page_owner(&self, page: usize) -> Result<Option<NodeId>, AccessError> {
        let page = self.page(page);
        match self.runtime.owner(page) {
            Ok(Outcome::Owner(PageOwner::Nobody)) => Ok(None),
            Ok(Outcome::Owner(PageOwner::Node(node))) => Ok(Some(node)),
            Ok(Outcome::Owner(PageOwner::Lost(node))) => Err(AccessError::PageLost {
                region: self.name().to_owned(),
                page: page.page,
                node,
                how: self.runtime.departure_kind(node),
            }),
            Ok(_) => unreachable!("a question for an owner has an owner for an answer"),
            Err(failed) => Err(failed.into_access_error(&self.runtime, &self.spec, page)),
        }
    }

    /// Tries `access` again as long as the page that stopped it can be had after all.
    fn persist<T>(
        &self,
        right: Access,
        mut access: impl FnMut() -> Result<T, AccessFault>,
    ) -> Result<T, AccessError> {
        loop {
            match access() {
                Ok(found) => return Ok(found),
                Err(AccessFault { region, page }) => {
                    let missing = PageAddress::new(RegionId(region.0 as u16), page);
                    self.runtime
                        .explain(missing, right)
                        .map_err(|failed| failed.into_access_error(&self.runtime, &self.spec, missing))?;
                }
            }
        }
    }

    pub(crate) fn copy_out(&self, offset: usize, bytes: &mut [u8]) -> Result<(), AccessError> {
        self.persist(Access::Read, || self.mapping.read_app(offset, bytes))
    }

    pub(crate) fn copy_in(&self, offset: usize, bytes: &[u8]) -> Result<(), AccessError> {
        self.persist(Access::Write, || self.mapping.write_app(offset, bytes))
    }

    /// Loads one item, whole where the processor can.
    pub(crate) fn load(&self, offset: usize, item: &mut [u8]) -> Result<(), AccessError> {
        self.persist(Access::Read, || {
            match item.len() {
                1 => item.copy_from_slice(&self.mapping.load_u8(offset)?.to_ne_bytes()),
                2 if offset.is_multiple_of(2) => {
                    item.copy_from_slice(&self.mapping.load_u16(offset)?.to_ne_bytes());
                }
                4 if offset.is_multiple_of(4) => {
                    item.copy_from_slice(&self.mapping.load_u32(offset)?.to_ne_bytes());
                }
                8 if offset.is_multiple_of(8) => {
                    item.copy_from_slice(&self.mapping.load_u64(offset)?.to_ne_bytes());
                }
                _ => self.mapping.read_app(offset, item)?,
            }
            Ok(())
        })
    }

    /// Stores one item, whole where the processor can.
    pub(crate) fn store(&self, offset: usize, item: &[u8]) -> Result<(), AccessError> {
        self.persist(Access::Write, || match *item {
            [byte] => self.mapping.store_u8(offset, byte),
            [a, b] if offset.is_multiple_of(2) => self.mapping.store_u16(offset, u16::from_ne_bytes([a, b])),
            [a, b, c, d] if offset.is_multiple_of(4) => {
                self.mapping.store_u32(offset, u32::from_ne_bytes([a, b, c, d]))
            }
            [a, b, c, d, e, f, g, h] if offset.is_multiple_of(8) => {
                self.mapping.store_u64(offset, u64::from_ne_bytes([a, b, c, d, e, f, g, h]))
            }
            _ => self.mapping.write_app(offset, item),
        })
    }

    /// Has `change` done to the word at `offset`, an aligned one of 8 bytes in the region, wherever its page is.
    pub(crate) fn change_word(&self, offset: usize, change: AtomicChange) -> Result<u64, AtomicError> {
        if self.protocol() == Protocol::Entry {
            // What is published is looked for in pages that were touched here.
            self.load(offset, &mut [0; 8])?;
            let word = self.lock_write(offset..offset + 8)?;
            let old = change_here(self.mapping.service(), offset, change);
            word.unlock()?;
            return Ok(old);
        }
        let page = PageAddress::new(self.id, (offset / 4096) as u64);
        let operation = AtomicOperation::at(offset % 4096, change);
        self.runtime
            .atomic(page, operation)
            .map_err(|failed| failed.into_atomic_error(&self.runtime, &self.spec, page))
    }

    pub(crate) fn fetch_add_u32(&self, offset: usize, value: u32) -> Result<u32, AccessError> {
        self.persist(Access::Write, || self.mapping.fetch_add_u32(offset, value))
    }

    pub(crate) fn fetch_add_u64(&self, offset: usize, value: u64) -> Result<u64, AccessError> {
        self.persist(Access::Write, || self.mapping.fetch_add_u64(offset, value))
    }

    pub(crate) fn swap_u32(&self, offset: usize, value: u32) -> Result<u32, AccessError> {
        self.persist(Access::Write, || self.mapping.swap_u32(offset, value))
    }

    pub(crate) fn swap_u64(&self, offset: usize, value: u64) -> Result<u64, AccessError> {
        self.persist(Access::Write, || self.mapping.swap_u64(offset, value))
    }

    pub(crate) fn compare_exchange_u32(
        &self,
        offset: usize,
        expected: u32,
        value: u32,
    ) -> Result<Result<u32, u32>, AccessError> {
        self.persist(Access::Write, || self.mapping.compare_exchange_u32(offset, expected, value))
    }

    pub(crate) fn compare_exchange_u64(
        &self,
        offset: usize,
        expected: u64,
        value: u64,
    ) -> Result<Result<u64, u64>, AccessError> {
        self.persist(Access::Write, || self.mapping.compare_exchange_u64(offset, expected, value))
    }
}
