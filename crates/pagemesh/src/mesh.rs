//! The mesh, as one of its nodes sees it.

use crate::pager::Chosen;
use crate::runtime::{FaultTrace, Part, Runtime};
use crate::{
    Access, AtomicError, Barrier, Condvar, Config, DepartureKind, JoinError, LinkKind, Lock, NodeId,
    PinError, Placement, Protocol, RangeError, RangeGuard, ReadWriteLock, Region, RegionError, RegionOptions,
    Semaphore, Stats, SyncError,
};
use pagemesh_protocol::limits;
use pagemesh_protocol::{AtomicChange, RegionName, RegionSpec, Unit};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// A node that is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Departure {
    /// Which.
    pub node: NodeId,
    /// How.
    pub how: DepartureKind,
}

/// A node's membership in a mesh. Any number of threads can use it at a time.
///
/// End it by [`leave`](Mesh::leave): it waits for the others, so that nobody loses pages that are here. Dropping it leaves at
/// once; the others are told.
pub struct Mesh {
    runtime: Arc<Runtime>,
}

impl std::fmt::Debug for Mesh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mesh(node {} of {})", self.node(), self.nodes())
    }
}

impl Mesh {
    /// Joins: returns when every node has.
    ///
    /// # Errors
    /// When the configuration makes no sense, others do not come in time or refuse, or the machine lacks something.
    pub fn join(config: Config) -> Result<Mesh, JoinError> {
        Ok(Mesh { runtime: Runtime::start(config)? })
    }

    /// This node's number.
    pub fn node(&self) -> NodeId {
        self.runtime.node()
    }

    /// What messages to `node` go through, and why if that is not shared memory; `None` for this node itself, and for one that does not
    /// exist.
    pub fn link(&self, node: NodeId) -> Option<LinkKind> {
        self.runtime.link(node)
    }

    /// How many nodes joined.
    pub fn nodes(&self) -> usize {
        self.runtime.nodes() as usize
    }

    /// Opens region `name`, creating it if no node has. It is then mapped on every node, at the same address, whether or not that
    /// node opens it too.
    ///
    /// # Errors
    /// When it exists with other options, when its address is taken on some node, or when a node is gone.
    pub fn region(&self, name: &str, options: RegionOptions) -> Result<Region, RegionError> {
        let spec = self.checked_spec(name, options)?;
        self.runtime.open_region(true, spec, None)
    }

    fn checked_spec(&self, name: &str, options: RegionOptions) -> Result<RegionSpec, RegionError> {
        let owned = || name.to_owned();
        let limit = limits::REGION_PAGES * 4096;
        if options.bytes == 0 || options.bytes as u64 > limit {
            return Err(RegionError::Size { name: owned(), bytes: options.bytes, limit });
        }
        if let Placement::Single(node) = options.placement
            && node.index() >= self.nodes()
        {
            let what = format!("its placement names node {node}, but there are {} nodes", self.nodes());
            return Err(RegionError::Option { name: owned(), what });
        }
        if options.protocol == Protocol::Entry && !matches!(options.placement, Placement::Single(_)) {
            let what = "an entry region has one master; place it by Placement::Single".to_owned();
            return Err(RegionError::Option { name: owned(), what });
        }
        let unknown = || RegionError::Unit { name: owned(), bytes: options.unit_bytes };
        let unit = Unit::from_bytes(options.unit_bytes).ok_or_else(unknown)?;
        if options.protocol == Protocol::Entry && unit != Unit::Page {
            let what = "locked ranges bring the bytes of an entry region; leave its unit at 4096".to_owned();
            return Err(RegionError::Option { name: owned(), what });
        }
        let pages = options.bytes.div_ceil(4096) as u64;
        let address = options.address.unwrap_or(0) as u64;
        let end = address.checked_add(pages * 4096);
        if options.address == Some(0) || !address.is_multiple_of(4096) || end.is_none_or(|end| end > 1 << 47)
        {
            let what =
                format!("address {address:#x} is no multiple of 4096 with room for it; choose another");
            return Err(RegionError::Option { name: owned(), what });
        }
        let (placement, protocol) = (options.placement, options.protocol);
        Ok(RegionSpec { name: RegionName::new(name)?, pages, placement, protocol, unit, address })
    }

    /// Opens region `name` as some node created it, waiting at most `timeout` until one does.
    ///
    /// # Errors
    /// When nobody creates it in time, or a node is gone.
    pub fn attach(&self, name: &str, timeout: Duration) -> Result<Region, RegionError> {
        let (placement, protocol) = (Placement::Cyclic, Protocol::WriteInvalidate);
        let name = RegionName::new(name)?;
        let spec = RegionSpec { name, pages: 0, placement, protocol, unit: Unit::Page, address: 0 };
        self.runtime.open_region(false, spec, Some(timeout))
    }

    /// As [`Region::pin`], by address: the range may lie in any region that is mapped here, but in one. It stays pinned until
    /// [`unpin_address`](Mesh::unpin_address). Ranges that overlap, and equal ones, may be pinned by any number of threads; a
    /// thread that pins several takes them in the order of their addresses.
    ///
    /// # Errors
    /// As [`Region::pin`], and when no region holds the whole range.
    pub fn pin_address(&self, address: usize, bytes: usize, access: Access) -> Result<(), PinError> {
        let region = self.runtime.region_at(address, bytes).ok_or(PinError::NoRegion { address, bytes })?;
        let start = address - region.base();
        let pin = region.pin_bytes(start..start + bytes, access)?;
        self.runtime.record_pin((address, bytes), region.id(), pin);
        Ok(())
    }

    /// Ends the newest pin of just this range: one of this thread, or else one of another.
    ///
    /// # Errors
    /// When this range is not pinned, when a deadline had taken a page of it, or when this node has left.
    pub fn unpin_address(&self, address: usize, bytes: usize) -> Result<(), PinError> {
        let (id, pin) =
            self.runtime.forget_pin(address, bytes).ok_or(PinError::NotPinned { address, bytes })?;
        let region = self.runtime.region_at(address, bytes).filter(|region| region.id() == id);
        // Who closed the region has let go of its pins.
        region.map_or(Err(PinError::NoRegion { address, bytes }), |region| region.unpin(pin))
    }

    /// As [`AtomicU64::fetch_add`], by address.
    ///
    /// # Errors
    /// As there, and when no region has an aligned word at `address`.
    ///
    /// [`AtomicU64::fetch_add`]: crate::AtomicU64::fetch_add
    pub fn fetch_add_u64(&self, address: usize, value: u64) -> Result<u64, AtomicError> {
        self.change_word(address, AtomicChange::Add(value))
    }

    /// As [`AtomicU64::swap`], by address.
    ///
    /// # Errors
    /// As there, and when no region has an aligned word at `address`.
    ///
    /// [`AtomicU64::swap`]: crate::AtomicU64::swap
    pub fn swap_u64(&self, address: usize, value: u64) -> Result<u64, AtomicError> {
        self.change_word(address, AtomicChange::Swap(value))
    }

    /// Makes the word `desired` if it is `expected`, and returns what it was; see [`AtomicU64::compare_exchange`].
    ///
    /// # Errors
    /// As there, and when no region has an aligned word at `address`.
    ///
    /// [`AtomicU64::compare_exchange`]: crate::AtomicU64::compare_exchange
    pub fn compare_swap_u64(&self, address: usize, expected: u64, desired: u64) -> Result<u64, AtomicError> {
        self.change_word(address, AtomicChange::CompareSwap { expected, desired })
    }

    fn change_word(&self, address: usize, change: AtomicChange) -> Result<u64, AtomicError> {
        let region = self.runtime.region_at(address, 8).filter(|_| address.is_multiple_of(8));
        let region = region.ok_or(AtomicError::Address { address })?;
        region.change_word(address - region.base(), change)
    }

    /// Passes `bytes`, which are private memory, on to all other nodes, each of which is in [`receive_broadcast`](Mesh::receive_broadcast) from this
    /// node with as many bytes. One thread of every node takes part; a second of one node waits for its turn. Nobody returns before all have
    /// called, and memory is ordered as by a barrier. The bytes move once to every node, in pieces of 4096, and no page moves.
    ///
    /// # Errors
    /// On all nodes, when they do not agree on root and size, or when a node is lost before all have met; when a node does not come within the
    /// configured wait. A node that is lost while the bytes are on their way is reported to those who still wait for it.
    pub fn broadcast(&self, bytes: &[u8]) -> Result<(), SyncError> {
        self.runtime.broadcast(Part::From(bytes))
    }

    /// Takes part in a [`broadcast`](Mesh::broadcast) of node `root`: its bytes are in `bytes` afterwards. When this node is the root, nothing
    /// is changed, and it is the same.
    ///
    /// # Errors
    /// As for [`broadcast`](Mesh::broadcast); then `bytes` may be filled in part.
    pub fn receive_broadcast(&self, root: NodeId, bytes: &mut [u8]) -> Result<(), SyncError> {
        let part = if root == self.node() { Part::From(bytes) } else { Part::Into(root, bytes) };
        self.runtime.broadcast(part)
    }

    /// Takes the place of a broadcast in which this node cannot take part: all nodes that are in it get an error at once, and need not wait for
    /// this one.
    ///
    /// # Errors
    /// [`SyncError::BroadcastMismatch`], which is what the others get; or as for [`broadcast`](Mesh::broadcast).
    pub fn decline_broadcast(&self) -> Result<(), SyncError> {
        self.runtime.broadcast(Part::Neither)
    }

    /// Where the byte at `address` of a region is to be found by system calls while it is pinned; see [`PinGuard::io_pointer`].
    /// `None` for addresses outside every region.
    ///
    /// [`PinGuard::io_pointer`]: crate::PinGuard::io_pointer
    pub fn io_pointer(&self, address: usize) -> Option<*mut u8> {
        let region = self.runtime.region_at(address, 1)?;
        Some(region.io_pointer_at(address - region.base()))
    }

    /// As [`Region::lock_range`], by address. The range stays locked by this thread until
    /// [`unlock_range_at`](Mesh::unlock_range_at). Returns the node that died while it had some of it for writing, if this is the
    /// first call to have some of that since.
    ///
    /// # Errors
    /// As [`Region::lock_range`], and when no region holds the whole range.
    pub fn lock_range_at(
        &self,
        address: usize,
        bytes: usize,
        access: Access,
        timeout: Option<Duration>,
    ) -> Result<Option<Departure>, RangeError> {
        let (region, range) = self.range_at(address, bytes)?;
        Ok(region.lock_range(range, access, timeout)?.keep())
    }

    /// As [`lock_range_at`](Mesh::lock_range_at), but does not wait for others.
    ///
    /// # Errors
    /// As [`lock_range_at`](Mesh::lock_range_at), and [`RangeError::Busy`] when others are in the way.
    pub fn try_lock_range_at(
        &self,
        address: usize,
        bytes: usize,
        access: Access,
    ) -> Result<Option<Departure>, RangeError> {
        let (region, range) = self.range_at(address, bytes)?;
        let busy =
            || RangeError::Busy { region: region.name().to_owned(), start: range.start, end: range.end };
        region.try_lock_range(range.clone(), access)?.map(RangeGuard::keep).ok_or_else(busy)
    }

    /// Gives back just this range, which this thread has locked.
    ///
    /// # Errors
    /// As [`Region::unlock_range`], and when no region holds the whole range.
    pub fn unlock_range_at(&self, address: usize, bytes: usize) -> Result<(), RangeError> {
        let (region, range) = self.range_at(address, bytes)?;
        region.unlock_range(range)
    }

    fn range_at(&self, address: usize, bytes: usize) -> Result<(Region, Range<usize>), RangeError> {
        let region = self.runtime.region_at(address, bytes).ok_or(RangeError::NoRegion { address, bytes })?;
        let start = address - region.base();
        Ok((region, start..start + bytes))
    }

    /// The lock named `id`.
    pub fn lock(&self, id: u64) -> Lock {
        Lock::new(self.runtime.clone(), id)
    }

    /// The reader-writer lock named `id`.
    pub fn read_write_lock(&self, id: u64) -> ReadWriteLock {
        ReadWriteLock::new(self.runtime.clone(), id)
    }

    /// The semaphore named `id`.
    pub fn semaphore(&self, id: u64) -> Semaphore {
        Semaphore::new(self.runtime.clone(), id)
    }

    /// The condition variable named `id`.
    pub fn condvar(&self, id: u64) -> Condvar {
        Condvar::new(self.runtime.clone(), id)
    }

    /// The barrier named `id` of one thread of every node.
    pub fn barrier(&self, id: u64) -> Barrier {
        Barrier::new(self.runtime.clone(), id, self.runtime.nodes() as u32)
    }

    /// The barrier named `id` of `participants` threads, on whatever nodes. Nobody can wait at one of none.
    pub fn barrier_of(&self, id: u64, participants: u32) -> Barrier {
        Barrier::new(self.runtime.clone(), id, participants)
    }

    /// How this node resolves page faults, and why so.
    pub fn pager(&self) -> &Chosen {
        self.runtime.pager()
    }

    /// What this node did until now.
    pub fn stats(&self) -> Stats {
        self.runtime.stats()
    }

    /// Counts from zero again, but for what other threads do meanwhile.
    pub fn reset_stats(&self) {
        self.runtime.reset_stats();
    }

    /// Has the stages of each fault timed from now on, or no more. A fault takes some hundred nanoseconds longer then.
    pub fn trace_faults(&self, on: bool) {
        self.runtime.trace_faults(on);
    }

    /// Where the time of the last fault went that was [traced](Mesh::trace_faults); all zero before the first. One fault is known at a
    /// time: where threads fault at once, their stages are mixed.
    pub fn last_fault(&self) -> FaultTrace {
        self.runtime.last_fault()
    }

    /// The next node that is gone and was not yet returned by this call; waits for one at most `timeout`.
    pub fn wait_departure(&self, timeout: Duration) -> Option<Departure> {
        self.runtime.wait_departure(timeout)
    }

    /// Waits until every node leaves, then leaves. Until then this node's pages stay reachable.
    ///
    /// # Errors
    /// When a node was lost that had not come to this point, or the configured wait ran out. This node has left all the same.
    pub fn leave(self) -> Result<(), SyncError> {
        self.end()
    }

    /// As [`leave`](Mesh::leave), for a mesh that several owners share: calls of the others fail from then on, those under way
    /// too.
    ///
    /// # Errors
    /// As for [`leave`](Mesh::leave).
    pub fn end(&self) -> Result<(), SyncError> {
        self.runtime.leave()
    }

    /// Leaves without waiting for the others, who are told; what dropping does.
    pub fn end_at_once(&self) {
        self.runtime.shut_down();
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        self.runtime.shut_down();
    }
}
