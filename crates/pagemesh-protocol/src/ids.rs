//! Identifiers: a newtype for everything that is counted or named.

use crate::limits;
use std::fmt;

pub use crate::node_set::NodeSet;

/// A process that takes part: `0..N`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(u16);

impl NodeId {
    /// The node that admits others and names regions.
    pub const COORDINATOR: NodeId = NodeId(0);

    /// The node with this number.
    ///
    /// # Panics
    /// When `number` is not below [`limits::NODES`]: numbers from outside are checked before.
    pub const fn new(number: u16) -> NodeId {
        assert!((number as usize) < limits::NODES, "node number beyond limits::NODES");
        NodeId(number)
    }

    /// The node with this number, or `None` beyond [`limits::NODES`].
    pub const fn checked(number: u16) -> Option<NodeId> {
        if (number as usize) < limits::NODES { Some(NodeId(number)) } else { None }
    }

    /// The number.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// The number, for indexing.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}

/// A numbered membership; every message carries its sender's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct View(pub u32);

impl View {
    /// The membership that all nodes joined with.
    pub const FIRST: View = View(1);
}

/// A region's number: a place below [`limits::REGIONS`], and how often the place was used before. So a message about a region that is gone is
/// told from one about the region that took its place, until 256 more have.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct RegionId(pub u16);

impl RegionId {
    /// The place, for indexing.
    pub const fn index(self) -> usize {
        self.0 as usize % limits::REGIONS
    }

    /// The number of the next region in the same place.
    pub(crate) const fn next_in_place(self) -> RegionId {
        RegionId(self.0.wrapping_add(limits::REGIONS as u16))
    }
}

/// A page: its region and its index in it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageAddress {
    /// The region.
    pub region: RegionId,
    /// Index of the page in the region, from 0.
    pub page: u64,
}

impl PageAddress {
    /// Page `page` of region `region`.
    pub const fn new(region: RegionId, page: u64) -> PageAddress {
        PageAddress { region, page }
    }
}

impl fmt::Debug for PageAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{}p{}", self.region.0, self.page)
    }
}

/// Bytes of one region, one after the other, at least one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteRange {
    /// The region.
    pub region: RegionId,
    /// Where the first of them lies in the region, bytes.
    pub start: u64,
    /// How many, bytes.
    pub bytes: u64,
}

impl ByteRange {
    /// The bytes of `region` from `start` up to and without `end`.
    pub const fn new(region: RegionId, start: u64, end: u64) -> ByteRange {
        ByteRange { region, start, bytes: end.saturating_sub(start) }
    }

    /// Where the byte after the last lies.
    pub const fn end(self) -> u64 {
        self.start.saturating_add(self.bytes)
    }

    /// Whether some byte is in both.
    pub fn overlaps(self, other: ByteRange) -> bool {
        self.region == other.region && self.start < other.end() && other.start < self.end()
    }

    /// Whether every byte of `other` is in this one.
    pub fn contains(self, other: ByteRange) -> bool {
        self.region == other.region && self.start <= other.start && other.end() <= self.end()
    }
}

impl fmt::Debug for ByteRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{}[{}..{}]", self.region.0, self.start, self.end())
    }
}

/// A lock's name: any number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct LockId(pub u64);

/// A barrier's name: any number, in a name space of its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct BarrierId(pub u64);

/// A reader-writer lock's name: any number, in a name space of its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct RwLockId(pub u64);

/// A semaphore's name: any number, in a name space of its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct SemaphoreId(pub u64);

/// A condition variable's name: any number, in a name space of its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct ConditionId(pub u64);

/// Names one page request of one node, so that an answer to an earlier one is told apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct RequestId(pub u32);

/// A waiting call of this node, as its runtime names it: a slot below [`limits::TICKETS`] and a generation that differs each
/// time the slot is used again, so that a late answer finds nobody.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket {
    /// Which slot.
    pub slot: u16,
    /// Which use of the slot.
    pub generation: u16,
}

impl Ticket {
    /// Slot and generation.
    pub const fn new(slot: u16, generation: u16) -> Ticket {
        Ticket { slot, generation }
    }

    pub(crate) const fn to_wire(self) -> u32 {
        self.slot as u32 | (self.generation as u32) << 16
    }

    pub(crate) const fn from_wire(word: u32) -> Ticket {
        Ticket { slot: word as u16, generation: (word >> 16) as u16 }
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "t{}.{}", self.slot, self.generation)
    }
}

/// What an access needs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Access {
    /// A readable copy.
    Read,
    /// The only copy, writable.
    Write,
}

/// The MSI state of this node's copy of a page (Sweazey and Smith 1986 name the states).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum PageState {
    /// No copy: every access faults.
    Invalid,
    /// A copy for reading; others may have one too.
    Shared,
    /// The only copy, readable and writable.
    Modified,
}

impl PageState {
    /// Whether a copy in this state serves `access` without a fault.
    pub const fn allows(self, access: Access) -> bool {
        match access {
            Access::Read => !matches!(self, PageState::Invalid),
            Access::Write => matches!(self, PageState::Modified),
        }
    }
}

impl fmt::Display for PageState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PageState::Invalid => "INVALID",
            PageState::Shared => "SHARED",
            PageState::Modified => "MODIFIED",
        })
    }
}
