//! What can go wrong, one enum a family of calls.

use crate::{Holders, NodeId};
use std::fmt;
use std::time::Duration;

/// Why a node could not join.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The mesh was not formed.
    #[error(transparent)]
    Network(#[from] pagemesh_net::JoinError),
    /// A setting in the environment makes no sense.
    #[error(transparent)]
    Settings(#[from] crate::ConfigError),
    /// The pager that was asked for cannot be had here.
    #[error(transparent)]
    Pager(#[from] pagemesh_memory::PagerChoiceError),
    /// This machine cannot map shared memory.
    #[error("this machine cannot map shared memory: {0}")]
    Memory(#[source] pagemesh_memory::MappingError),
    /// This process could not get what it needs to take part.
    #[error("node {node} cannot set up its part of the mesh: {source}")]
    Setup {
        /// This node.
        node: u16,
        /// What the kernel said.
        source: std::io::Error,
    },
}

/// How a node went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DepartureKind {
    /// It said that it leaves.
    Left,
    /// Its connection ended without a word: it was killed, cut off, or dropped for what it sent.
    Died,
}

impl fmt::Display for DepartureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DepartureKind::Left => "has left",
            DepartureKind::Died => "died or was cut off",
        })
    }
}

/// Why a region could not be opened, or a part of it not be named.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegionError {
    /// The name is too long, empty, or holds NUL.
    #[error(transparent)]
    Name(#[from] pagemesh_protocol::RegionNameError),
    /// The size is zero or too large.
    #[error("region {name:?}: a size of {bytes} bytes was asked for; ask for 1 to {limit}")]
    Size {
        /// The region.
        name: String,
        /// What was asked for.
        bytes: usize,
        /// The most that one region can have.
        limit: u64,
    },
    /// Its unit is none that there is.
    #[error(
        "region {name:?}: a unit of {bytes} bytes was asked for; 4096, 16384, 65536 and 2097152 are possible"
    )]
    Unit {
        /// The region.
        name: String,
        /// What was asked for.
        bytes: usize,
    },
    /// An option makes no sense in this mesh.
    #[error("region {name:?}: {what}")]
    Option {
        /// The region.
        name: String,
        /// What is wrong, and what to do.
        what: String,
    },
    /// It exists with another size.
    #[error(
        "region {name:?} exists with {found} bytes, {asked} were asked for; ask for the same size on every node"
    )]
    SizeDiffers {
        /// The region.
        name: String,
        /// What was asked for, rounded up to pages.
        asked: u64,
        /// What it has.
        found: u64,
    },
    /// It exists with other options.
    #[error(
        "region {name:?} was asked for with protocol {protocol:?}, placement {placement:?} and a unit of {unit_bytes} bytes, and exists with others; ask for the same on every node"
    )]
    OptionsDiffer {
        /// The region.
        name: String,
        /// What was asked for.
        protocol: crate::Protocol,
        /// What was asked for.
        placement: crate::Placement,
        /// What was asked for.
        unit_bytes: usize,
    },
    /// It exists elsewhere.
    #[error(
        "region {name:?} exists at address {found:#x}, {asked:#x} was asked for; ask for the same on every node, or for none"
    )]
    AddressDiffers {
        /// The region.
        name: String,
        /// What was asked for.
        asked: u64,
        /// Where it is.
        found: u64,
    },
    /// The address is taken on some node.
    #[error(
        "region {name:?} cannot be mapped at {address:#x}: node {node} has something else there; choose another address, or none"
    )]
    AddressTaken {
        /// The region.
        name: String,
        /// The address that was tried last.
        address: u64,
        /// The node where it is taken.
        node: NodeId,
    },
    /// No number or no address range of this size is left.
    #[error("region {name:?}: no more regions, or no free address range of this size, in this mesh")]
    Exhausted {
        /// The region.
        name: String,
    },
    /// A node that had to agree is gone.
    #[error("region {name:?} cannot be agreed on: node {node} {how}")]
    PeerLost {
        /// The region.
        name: String,
        /// The node.
        node: NodeId,
        /// How it went.
        how: DepartureKind,
    },
    /// The others did not answer, or nobody created the region, in time.
    #[error("region {name:?} was not there after {after:?}; create it on some node, or wait longer")]
    TimedOut {
        /// The region.
        name: String,
        /// How long the call waited.
        after: Duration,
    },
    /// What was to be used does not lie inside the region, or not at a multiple of its alignment.
    #[error(
        "region {name:?}: {len} x {item_bytes} bytes at offset {offset} were asked for; it has {region_bytes} bytes, and the offset has to be a multiple of {align}"
    )]
    Slice {
        /// The region.
        name: String,
        /// Its size.
        region_bytes: usize,
        /// Where the slice was to begin.
        offset: usize,
        /// How many items.
        len: usize,
        /// Bytes of each.
        item_bytes: usize,
        /// What the offset has to be a multiple of.
        align: usize,
    },
    /// Threads of this node have some of it pinned or locked.
    #[error(
        "region {name:?} has pinned bytes or locked ranges on this node; unpin and unlock them before closing it"
    )]
    InUse {
        /// The region.
        name: String,
    },
    /// This node has left its mesh.
    #[error("region {name:?}: this node has left its mesh")]
    Closed {
        /// The region.
        name: String,
    },
}

/// Why shared memory could not be accessed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
    /// Beyond the slice.
    #[error(
        "items {start}..{end} of a slice of {len} were asked for; ask for fewer, or make the slice longer"
    )]
    OutOfBounds {
        /// First item asked for.
        start: usize,
        /// The item after the last.
        end: usize,
        /// Items that there are.
        len: usize,
    },
    /// The only copy of the page went with a node.
    #[error("page {page} of region {region:?} is lost: node {node}, which held its only copy, {how}")]
    PageLost {
        /// The region.
        region: String,
        /// The page.
        page: u64,
        /// The node that held it.
        node: NodeId,
        /// How it went.
        how: DepartureKind,
    },
    /// The page's home is gone, and with it the knowledge of where its copies are; or, where homes are given by first touch, the
    /// page's anchor, and with it the knowledge of its home.
    #[error("page {page} of region {region:?} is lost: node {node}, which knew where its copies are, {how}")]
    PeerLost {
        /// The region.
        region: String,
        /// The page.
        page: u64,
        /// Its home, or its anchor.
        node: NodeId,
        /// How it went.
        how: DepartureKind,
    },
    /// The page did not come in time.
    #[error("page {page} of region {region:?} did not come within {after:?}; node {node} was asked for it")]
    TimedOut {
        /// The region.
        region: String,
        /// The page.
        page: u64,
        /// The node that was asked: its home, or its anchor.
        node: NodeId,
        /// How long the access waited.
        after: Duration,
    },
    /// The page came, but the kernel refused to map it.
    #[error(
        "page {page} of region {region:?} cannot be mapped: out of memory, or a bound of the kernel was reached"
    )]
    Mapping {
        /// The region.
        region: String,
        /// The page.
        page: u64,
    },
    /// Every node has closed the region, this one too.
    #[error("region {region:?} is gone, since every node has closed it; open it anew")]
    RegionClosed {
        /// The region.
        region: String,
    },
    /// This node has left its mesh.
    #[error("region {region:?}: this node has left its mesh")]
    Closed {
        /// The region.
        region: String,
    },
}

/// Why an atomic operation that is done where the page is has not come to a known end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AtomicError {
    /// It was not done; or it was, to a page that is lost since, so that nobody can ever tell.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The node that was to see to it is gone: it was done once, or not at all. The page is gone for this node in either case.
    #[error(
        "an atomic operation on page {page} of region {region:?} may have been done or not: node {node}, which was asked for it, {how}"
    )]
    NodeLost {
        /// The region.
        region: String,
        /// The page.
        page: u64,
        /// The page's home.
        node: NodeId,
        /// How it went.
        how: DepartureKind,
    },
    /// The node that was to see to it answers neither that nor the question whether it has: it is done once, now or later, or not at all.
    #[error(
        "an atomic operation on page {page} of region {region:?} may have been done or not: node {node}, which was asked for it, has not answered within {after:?}; look at the word when the node answers again"
    )]
    NoAnswer {
        /// The region.
        region: String,
        /// The page.
        page: u64,
        /// The page's home.
        node: NodeId,
        /// How long the call waited.
        after: Duration,
    },
    /// In an entry region the word is locked for it as a range. Where that failed nothing was done; where giving it back did, because
    /// the master is gone, nobody else sees what was.
    #[error(transparent)]
    Range(#[from] RangeError),
    /// It was asked for on a word that does not lie on a multiple of its size, or in no region.
    #[error("no region has an aligned word of 8 bytes at address {address:#x}; give the address of one")]
    Address {
        /// The address.
        address: usize,
    },
}

/// Why shared memory could not be pinned, or did not stay pinned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PinError {
    /// A page could not be had, or this node has left its mesh.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// A deadline took a page from the pin.
    #[error(
        "page {page} of region {region:?} went while it was pinned: another node had waited for it for {after:?}; what was done with it since does not count; pin for a shorter time, or set a longer deadline"
    )]
    Taken {
        /// The region.
        region: String,
        /// The first page that went.
        page: u64,
        /// The deadline for pins.
        after: Duration,
    },
    /// More than one node can have pinned.
    #[error(
        "{pages} pages of region {region:?} were to be pinned; one node can have {limit} at a time, counted as often as each is pinned; unpin some, or pin parts one after the other"
    )]
    TooMany {
        /// The region.
        region: String,
        /// What was asked for, pages.
        pages: u64,
        /// The most that one node can have pinned, pages.
        limit: usize,
    },
    /// The range does not lie in the region.
    #[error(
        "bytes {start}..{end} of region {region:?} were to be pinned, which has {region_bytes}; give a range that lies in it"
    )]
    OutOfBounds {
        /// The region.
        region: String,
        /// First byte asked for.
        start: usize,
        /// The byte after the last.
        end: usize,
        /// Its size.
        region_bytes: usize,
    },
    /// The addresses are not all in one region.
    #[error(
        "no region holds all of the {bytes} bytes at address {address:#x}; give a range within one region"
    )]
    NoRegion {
        /// First address.
        address: usize,
        /// How many bytes.
        bytes: usize,
    },
    /// Nobody has pinned just this range.
    #[error(
        "the {bytes} bytes at address {address:#x} are not pinned; unpin just what was pinned, once each"
    )]
    NotPinned {
        /// First address.
        address: usize,
        /// How many bytes.
        bytes: usize,
    },
}

/// Why a range of an entry region, or of a release region, could not be locked, or given back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RangeError {
    /// The region follows another protocol.
    #[error(
        "ranges of region {region:?} were to be locked, whose protocol is {protocol:?}; only entry and release regions have them: open it with Protocol::Entry or Protocol::Release, or take a lock of the mesh"
    )]
    NotEntry {
        /// The region.
        region: String,
        /// What it follows.
        protocol: crate::Protocol,
    },
    /// There are no such bytes.
    #[error(
        "bytes {start}..{end} of region {region:?} were to be locked, which has {region_bytes}; give at least one byte, all in the region"
    )]
    OutOfBounds {
        /// The region.
        region: String,
        /// First byte asked for.
        start: usize,
        /// The byte after the last.
        end: usize,
        /// Its size.
        region_bytes: usize,
    },
    /// The addresses are not all in one region.
    #[error(
        "no region holds all of the {bytes} bytes at address {address:#x}; give a range within one region"
    )]
    NoRegion {
        /// First address.
        address: usize,
        /// How many bytes.
        bytes: usize,
    },
    /// This thread has some of it already, for whatever access.
    #[error(
        "bytes {start}..{end} of region {region:?} were to be locked by a thread that has {held_start}..{held_end}; give that back first"
    )]
    AlreadyHeld {
        /// The region.
        region: String,
        /// First byte asked for.
        start: usize,
        /// The byte after the last.
        end: usize,
        /// First byte of what it has.
        held_start: usize,
        /// The byte after the last of it.
        held_end: usize,
    },
    /// Others are in the way of a call that does not wait.
    #[error("bytes {start}..{end} of region {region:?} are locked or waited for by others; try again later")]
    Busy {
        /// The region.
        region: String,
        /// First byte asked for.
        start: usize,
        /// The byte after the last.
        end: usize,
    },
    /// This thread has not locked just this range.
    #[error(
        "bytes {start}..{end} of region {region:?} are not locked by this thread; give back just what was locked, once, by the thread that locked it"
    )]
    NotHeld {
        /// The region.
        region: String,
        /// First byte.
        start: usize,
        /// The byte after the last.
        end: usize,
    },
    /// Waiting for others failed.
    #[error(transparent)]
    Sync(#[from] SyncError),
}

/// Why waiting for others failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SyncError {
    /// A node that was waited for is gone.
    #[error("{what}: node {node} {how}")]
    PeerLost {
        /// Which lock or barrier.
        what: String,
        /// The node.
        node: NodeId,
        /// How it went.
        how: DepartureKind,
    },
    /// The lock's holder is gone and may have left its data half written. The lock is free again and not held by this call.
    #[error(
        "{what}: node {node}, which held it, {how}; what it protects may be half written; take it again to go on"
    )]
    OwnerDied {
        /// Which lock.
        what: String,
        /// The node that held it.
        node: NodeId,
        /// How it went.
        how: DepartureKind,
    },
    /// Threads entered one barrier with different numbers of participants.
    #[error("{what}: entered for {this} participants, others entered it for {first}; use one number")]
    BarrierMismatch {
        /// Which barrier.
        what: String,
        /// What the first to arrive said.
        first: u32,
        /// What this call said.
        this: u32,
    },
    /// The semaphore was given another number of units before.
    #[error("{what}: {this} units were to be its first, it was given {first}; give one number")]
    SemaphoreMismatch {
        /// Which semaphore.
        what: String,
        /// What it was given.
        first: u32,
        /// What this call said.
        this: u32,
    },
    /// The nodes came to a broadcast with different roots or sizes, or one of them could not take part; or one was in an earlier part of it.
    #[error(
        "a broadcast of {bytes} bytes from node {root}: the first to come was in one of {first_bytes} bytes from node {first_root}, and not all came to the same; give the same root and size on every node"
    )]
    BroadcastMismatch {
        /// The root that this node gave.
        root: NodeId,
        /// The size that this node gave.
        bytes: u64,
        /// The root that the first to come gave.
        first_root: NodeId,
        /// The size that it gave, or what was left of it.
        first_bytes: u64,
    },
    /// It took too long.
    #[error("{what}: waited {after:?}{holders}")]
    TimedOut {
        /// Which lock or barrier.
        what: String,
        /// How long the call waited.
        after: Duration,
        /// Who has what it waited for, since when, and who else waits: asked of every node when the time was over, for as long again at
        /// most, and for no more than half a second.
        holders: Holders,
    },
    /// A bound was reached.
    #[error("{what}: {bound}")]
    Limit {
        /// Which lock or barrier.
        what: String,
        /// Which bound.
        bound: &'static str,
    },
    /// This node has left its mesh.
    #[error("{what}: this node has left its mesh")]
    Closed {
        /// Which lock or barrier.
        what: String,
    },
}
