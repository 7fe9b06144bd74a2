//! Blocks of memory that any node allocates and any node frees.
//!
//! A heap has a region of blocks and another of tables. The region of blocks is divided into spans of some pages; a span holds
//! blocks of one size, which one node hands out, or a part of one large block. Nothing is written between the blocks, so
//! neither allocating nor freeing touches a page of them, and blocks of different nodes lie on different pages as long
//! as there is room. The tables tell what every span holds (`table.rs`). They are changed by atomic instructions of the
//! processor, which are atomic between nodes; no lock is needed, and nobody waits for another in the middle of something.

mod error;
mod geometry;
mod search;
mod table;
mod words;

pub use error::HeapError;

use crate::{AccessError, LockGuard, Mesh, NodeId, Placement, Protocol, Region, RegionOptions};
use geometry::{GRAIN, Geometry, PAGE};
use search::Losses;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use table::{Freed, Table};
use words::{Header, Kind};

/// Begins the names of regions of tables.
const TABLES: &str = "\u{1}heap ";
/// Locks of the heaps of release regions: with the region's number and a home's.
const LOCKS: u64 = 0xffff_fffe << 32;
/// Bytes that are copied at a time when a block moves.
const COPIED_AT_ONCE: usize = 64 * 1024;

/// Where a block begins: a virtual address, the same on every node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct HeapAddress(NonZeroUsize);

impl HeapAddress {
    /// The block at this virtual address, as another node has told it; `None` for 0.
    pub const fn new(address: usize) -> Option<HeapAddress> {
        match NonZeroUsize::new(address) {
            Some(address) => Some(HeapAddress(address)),
            None => None,
        }
    }

    /// The virtual address.
    pub const fn get(self) -> usize {
        self.0.get()
    }

    /// For plain loads and stores. They are the caller's to order; a page that cannot be had raises SIGBUS.
    pub fn as_ptr(self) -> *mut u8 {
        std::ptr::with_exposed_provenance_mut(self.get())
    }
}

impl fmt::Display for HeapAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.get())
    }
}

/// What a heap holds, counted over all nodes; and what this node did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HeapStats {
    /// Bytes of the largest block that an empty heap has.
    pub capacity: usize,
    /// Blocks that are allocated.
    pub blocks: u64,
    /// Their bytes, rounded up to what each can hold.
    pub bytes: u64,
    /// Spans: pieces of the region that hold blocks of one size, or a part of a large one.
    pub spans: usize,
    /// Of these, those without a block.
    pub free_spans: usize,
    /// Of these, those whose tables went with a lost node: nothing is allocated there any more, nor freed.
    pub lost_spans: usize,
    /// Blocks that this node has allocated.
    pub allocations: u64,
    /// Blocks that this node has freed.
    pub frees: u64,
}

/// Memory in blocks of any size, which every node allocates and frees, at any time and from any thread. See [`Heap::open`].
///
/// A new block's bytes are what was there before: zeros where nobody has written yet.
///
/// ```
/// use pagemesh::{Config, Heap, Mesh, RegionOptions};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mesh = Mesh::join(Config::single())?;
/// let heap = Heap::open(&mesh, "blocks", RegionOptions::new(1 << 20))?;
/// let block = heap.alloc(4 * size_of::<u32>(), align_of::<u32>())?;
/// let numbers = heap.region().slice::<u32>(heap.offset(block), 4)?;
/// numbers.set(3, 7)?;
/// heap.free(block)?;
/// assert!(heap.free(block).is_err());
/// # Ok(())
/// # }
/// ```
///
/// What a node has written into a block before it frees it never disturbs who gets the block next, whatever the region's
/// protocol. Everything else is ordered as other accesses to the region are: an address that one node tells another goes
/// through a lock, a barrier or an atomic, as the data that it points to.
///
/// # When a node dies
/// Nobody waits for it, and no block is handed out twice. What it was allocating or freeing may stay allocated for ever. The
/// tables of a span are lost with a node that was the last to allocate or free in it, if no other has looked since: then no block of that
/// span is handed out any more, and to free one fails with [`HeapError::Access`]; the bytes of the blocks themselves are lost
/// or not as those of any region. A new block has no lost page: from the first departure on, [`alloc`](Heap::alloc) gets the pages
/// here first, and keeps blocks whose pages are lost from everybody. When node 0 dies, where the tables have their home, that goes for all spans whose
/// tables are not here; in a heap on a release region, whatever the protocol loses besides.
pub struct Heap {
    region: Region,
    table: Table,
    geometry: Geometry,
    node: u16,
    /// The span with which this node begins to look for a free one.
    first: usize,
    /// For each class, one more than the span from which this node allocates; 0 for none.
    current: Vec<AtomicU32>,
    /// For a release region: a lock, and those to be taken when its home is lost.
    locks: Vec<crate::Lock>,
    allocations: AtomicU64,
    frees: AtomicU64,
}

impl fmt::Debug for Heap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Heap").field("region", &self.region).finish_non_exhaustive()
    }
}

impl Heap {
    /// Opens the heap in region `name`, and the region, creating what no node has. Every node gives the same options. The
    /// whole region is the heap's; its size and protocol are those of the blocks.
    ///
    /// # Errors
    /// When the region, or that of the tables, cannot be opened. A heap takes two of the regions that a mesh can have.
    pub fn open(mesh: &Mesh, name: &str, options: RegionOptions) -> Result<Heap, HeapError> {
        Heap::in_region(mesh, mesh.region(name, options)?)
    }

    /// As [`open`](Heap::open), in a region of this mesh that is open, and used for nothing else. Another node may open it by its
    /// name or as this one does.
    ///
    /// # Errors
    /// When the region of the tables cannot be opened.
    pub fn in_region(mesh: &Mesh, region: Region) -> Result<Heap, HeapError> {
        region.check_not_entry("a heap")?;
        let geometry = Geometry::new(region.base(), region.bytes());
        let words = Table::words(geometry.spans);
        // Where regions are agreed on: a home that is lost takes the more along the more heaps it is the home of.
        let options = RegionOptions::new(words * 8).placement(Placement::Single(NodeId::COORDINATOR));
        let tables = mesh.region(&format!("{TABLES}{}", region.id().0), options)?;
        // Who allocates may close the heap long before the region goes.
        tables.stay_with(&region);
        let nodes = mesh.nodes();
        let is_release = region.protocol() == Protocol::Release;
        let lock = |home: usize| mesh.lock(LOCKS | u64::from(region.id().0) << 16 | home as u64);
        Ok(Heap {
            locks: (0..if is_release { nodes } else { 0 }).map(lock).collect(),
            table: Table::new(tables.slice(0, words)?, geometry.spans),
            node: mesh.node().get(),
            first: geometry.spans * mesh.node().index() / nodes.max(1) % geometry.spans,
            current: (0..geometry.classes()).map(|_| AtomicU32::new(0)).collect(),
            geometry,
            region,
            allocations: AtomicU64::new(0),
            frees: AtomicU64::new(0),
        })
    }

    /// The region that the blocks are in.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// Bytes of the largest block that an empty heap of this region has: all of the region, unless that lies at an odd address.
    pub fn capacity(&self) -> usize {
        self.geometry.bytes
    }

    /// Where a block begins in the region, in bytes: for [`Region::slice`].
    pub fn offset(&self, address: HeapAddress) -> usize {
        address.get().wrapping_sub(self.region.base())
    }

    /// Allocates `bytes` bytes at a multiple of `align`, and in any case of 16.
    ///
    /// # Errors
    /// When no bytes are asked for or the alignment is no power of two; when there is no room; when the tables cannot be had.
    /// Then nothing is allocated.
    pub fn alloc(&self, bytes: usize, align: usize) -> Result<HeapAddress, HeapError> {
        if bytes == 0 {
            return Err(HeapError::NoBytes);
        }
        if !align.is_power_of_two() {
            return Err(HeapError::Alignment { align });
        }
        let order = self.order()?;
        let mut losses = Losses::default();
        while let Some(address) = self.find(bytes, align, &mut losses)? {
            // While all nodes are there, no page is lost.
            let here =
                if self.region.runtime().has_departures() { self.fetch(address, bytes) } else { Ok(()) };
            match here {
                Ok(()) => {
                    self.allocations.fetch_add(1, Ordering::Relaxed);
                    return Ok(address);
                }
                // It stays allocated, so that nobody comes upon it again.
                Err(error) if table::is_loss(&error) => losses.add(error),
                Err(error) => {
                    drop(order);
                    self.free(address)?;
                    return Err(error.into());
                }
            }
        }
        let exhausted =
            HeapError::Exhausted { region: self.name(), bytes, align, capacity: self.geometry.bytes };
        Err(losses.reason().map_or(exhausted, HeapError::Access))
    }

    fn find(
        &self,
        bytes: usize,
        align: usize,
        losses: &mut Losses,
    ) -> Result<Option<HeapAddress>, HeapError> {
        let found = match self.geometry.class(bytes, align.max(GRAIN)) {
            Some(class) => {
                let size = self.geometry.class_bytes(class).unwrap_or_default();
                let found = self.find_block(class as u8, losses)?;
                found.map(|(span, block)| self.geometry.address(span) + block * size)
            }
            None if bytes > self.geometry.bytes => None,
            None => self.find_spans(bytes, align, losses)?.map(|span| self.geometry.address(span)),
        };
        Ok(found.and_then(HeapAddress::new))
    }

    /// Gets the pages of a block here, to be written.
    fn fetch(&self, address: HeapAddress, bytes: usize) -> Result<(), AccessError> {
        let start = self.offset(address);
        self.region.prefetch_for_writing(start / PAGE..(start + bytes).div_ceil(PAGE))
    }

    /// Frees a block that any node has allocated.
    ///
    /// # Errors
    /// When no block begins there, or it is free; when its tables cannot be had.
    pub fn free(&self, address: HeapAddress) -> Result<(), HeapError> {
        let block = self.block(address)?;
        let _order = self.order()?;
        match block.place {
            Place::Small { class, index } => match self.table.give_block(block.span, block.header, index)? {
                Freed::Done(header) => self.tell_room(block.span, class, header)?,
                Freed::Already | Freed::NotHere => return Err(self.already_free(address)),
            },
            Place::Large => {
                if !self.table.end_large(block.span, block.header)? {
                    return Err(self.already_free(address));
                }
                let run = self.geometry.run(block.span, block.bytes / PAGE);
                self.give_spans(run.unwrap_or(block.span..block.span + 1), &mut Losses::default())?;
            }
        }
        self.frees.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Makes a block one of `bytes` bytes, in its place or elsewhere, with its first bytes as they were. Elsewhere it is at a multiple
    /// of 16 and no more.
    ///
    /// # Errors
    /// As for [`alloc`](Heap::alloc) and [`free`](Heap::free), and when the bytes cannot be had; then the block is as it was.
    pub fn realloc(&self, address: HeapAddress, bytes: usize) -> Result<HeapAddress, HeapError> {
        if bytes == 0 {
            return Err(HeapError::NoBytes);
        }
        let old = self.block(address)?;
        let fits = match (&old.place, self.geometry.class(bytes, GRAIN)) {
            (Place::Small { class, .. }, wanted) => wanted == Some(usize::from(*class)),
            (Place::Large, None) => self.resize_large(&old, bytes.div_ceil(PAGE))?,
            (Place::Large, Some(_)) => false,
        };
        if fits {
            return Ok(address);
        }
        let new = self.alloc(bytes, GRAIN)?;
        match self.copy(address, new, old.bytes.min(bytes)).and_then(|()| self.free(address)) {
            Ok(()) => Ok(new),
            Err(error) => {
                self.free(new)?;
                Err(error)
            }
        }
    }

    /// Gives a large block other pages at its end; `false` when they cannot be had there.
    fn resize_large(&self, old: &Block, pages: usize) -> Result<bool, HeapError> {
        let old_pages = old.bytes / PAGE;
        let runs = (self.geometry.run(old.span, old_pages), self.geometry.run(old.span, pages));
        let (Some(had), Some(wanted)) = runs else { return Ok(false) };
        let _order = self.order()?;
        let mut losses = Losses::default();
        let added = had.end..wanted.end.max(had.end);
        if !self.take_parts(added.clone(), &mut losses)? {
            return Ok(false);
        }
        let resized = self.table.resize_large(old.span, old.header, pages as u64)?;
        let surplus = if resized { wanted.end.min(had.end)..had.end } else { added };
        self.give_spans(surplus, &mut losses)?;
        Ok(resized)
    }

    fn copy(&self, from: HeapAddress, to: HeapAddress, bytes: usize) -> Result<(), HeapError> {
        let all = self.region.slice::<u8>(0, self.region.bytes())?;
        let (from, to) = (self.offset(from), self.offset(to));
        let mut buffer = vec![0; bytes.min(COPIED_AT_ONCE)];
        for start in (0..bytes).step_by(COPIED_AT_ONCE) {
            let part = &mut buffer[..COPIED_AT_ONCE.min(bytes - start)];
            all.read(from + start, part)?;
            all.write(to + start, part)?;
        }
        Ok(())
    }

    /// Bytes that a block can hold: no fewer than were asked for.
    ///
    /// # Errors
    /// As for [`free`](Heap::free).
    pub fn usable_size(&self, address: HeapAddress) -> Result<usize, HeapError> {
        Ok(self.block(address)?.bytes)
    }

    /// Counts what the heap holds. Reads the tables of every span that is in use: not for often. What others do meanwhile may be
    /// counted or not.
    ///
    /// # Errors
    /// When the tables do not come in time. Those that are lost are counted as such.
    pub fn stats(&self) -> Result<HeapStats, HeapError> {
        let mut stats = HeapStats {
            capacity: self.geometry.bytes,
            spans: self.geometry.spans,
            allocations: self.allocations.load(Ordering::Relaxed),
            frees: self.frees.load(Ordering::Relaxed),
            ..HeapStats::default()
        };
        for span in 0..self.geometry.spans {
            match self.table.header(span) {
                Ok(header) => self.count(header, &mut stats),
                Err(error) if table::is_loss(&error) => stats.lost_spans += 1,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(stats)
    }

    fn count(&self, header: Header, stats: &mut HeapStats) {
        match header.kind {
            _ if header.is_free() => stats.free_spans += 1,
            Kind::Small(class) => {
                stats.blocks += header.count;
                let size = self.geometry.class_bytes(usize::from(class)).unwrap_or_default();
                stats.bytes += header.count * size as u64;
            }
            Kind::Large => {
                stats.blocks += 1;
                stats.bytes += header.count * PAGE as u64;
            }
            _ => {}
        }
    }

    /// The block that begins at `address`.
    fn block(&self, address: HeapAddress) -> Result<Block, HeapError> {
        let no_block = || HeapError::NotABlock { address, region: self.name() };
        let (span, offset) = self.geometry.locate(address.get()).ok_or_else(no_block)?;
        let header = self.table.header(span)?;
        match header.kind {
            Kind::Small(class) => {
                let bytes = self.geometry.class_bytes(usize::from(class)).ok_or_else(no_block)?;
                let index = offset / bytes;
                if !offset.is_multiple_of(bytes) || index >= self.geometry.blocks(span, usize::from(class)) {
                    return Err(no_block());
                }
                if !self.table.has_block(span, header, index)? {
                    return Err(self.already_free(address));
                }
                Ok(Block { span, header, bytes, place: Place::Small { class, index } })
            }
            Kind::Large if offset == 0 => {
                Ok(Block { span, header, bytes: header.count as usize * PAGE, place: Place::Large })
            }
            Kind::Part if offset == 0 && header.count == 1 => Err(self.already_free(address)),
            Kind::None if offset == 0 && header.generation != 0 => Err(self.already_free(address)),
            _ => Err(no_block()),
        }
    }

    /// In a release region: what was done before this operation is before what any node does after its next one. Otherwise what was
    /// written into a block before it was freed could reach its home after what the next owner has written.
    fn order(&self) -> Result<Option<LockGuard>, HeapError> {
        let mut lost = None;
        for lock in &self.locks {
            // Nothing is half done where a holder died: the tables need no lock.
            match lock.inherit(None) {
                Ok(guard) => return Ok(Some(guard)),
                Err(error @ crate::SyncError::PeerLost { .. }) => lost = Some(error),
                Err(error) => return Err(error.into()),
            }
        }
        lost.map_or(Ok(None), |error| Err(error.into()))
    }

    fn name(&self) -> String {
        self.region.name().to_owned()
    }

    fn already_free(&self, address: HeapAddress) -> HeapError {
        HeapError::AlreadyFree { address, region: self.name() }
    }
}

/// A block that is allocated, as its tables said.
struct Block {
    span: usize,
    header: Header,
    /// What it can hold.
    bytes: usize,
    place: Place,
}

enum Place {
    Small { class: u8, index: usize },
    Large,
}
