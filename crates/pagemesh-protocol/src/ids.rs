//! Identifiers and small sets: a newtype for everything that is counted or named.

use crate::limits;
use std::fmt;

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

/// A set of nodes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct NodeSet(u64);

impl NodeSet {
    /// The empty set.
    pub const EMPTY: NodeSet = NodeSet(0);

    /// Nodes `0..count`.
    ///
    /// # Panics
    /// When `count` exceeds [`limits::NODES`].
    pub const fn first(count: usize) -> NodeSet {
        assert!(count <= limits::NODES);
        if count == 64 { NodeSet(u64::MAX) } else { NodeSet((1 << count) - 1) }
    }

    /// Just `node`.
    pub const fn only(node: NodeId) -> NodeSet {
        NodeSet(1 << node.0)
    }

    /// The set with these bits, node `i` at bit `i`.
    pub(crate) const fn from_bits(bits: u64) -> NodeSet {
        NodeSet(bits)
    }

    /// Bit `i` is node `i`.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// This set and `node`.
    #[must_use]
    pub const fn with(self, node: NodeId) -> NodeSet {
        NodeSet(self.0 | 1 << node.0)
    }

    /// This set less `node`.
    #[must_use]
    pub const fn without(self, node: NodeId) -> NodeSet {
        NodeSet(self.0 & !(1 << node.0))
    }

    /// What both sets hold.
    #[must_use]
    pub const fn and(self, other: NodeSet) -> NodeSet {
        NodeSet(self.0 & other.0)
    }

    /// Whether `node` is in the set.
    pub const fn contains(self, node: NodeId) -> bool {
        self.0 >> node.0 & 1 != 0
    }

    /// Whether nobody is in the set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Members.
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// The member with the lowest number.
    pub const fn lowest(self) -> Option<NodeId> {
        if self.0 == 0 { None } else { Some(NodeId(self.0.trailing_zeros() as u16)) }
    }

    /// Members in order of their numbers.
    pub fn iter(self) -> impl Iterator<Item = NodeId> {
        let mut rest = self;
        std::iter::from_fn(move || {
            let node = rest.lowest()?;
            rest = rest.without(node);
            Some(node)
        })
    }
}

impl FromIterator<NodeId> for NodeSet {
    fn from_iter<I: IntoIterator<Item = NodeId>>(nodes: I) -> NodeSet {
        nodes.into_iter().fold(NodeSet::EMPTY, NodeSet::with)
    }
}

impl fmt::Debug for NodeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// A numbered membership; every message carries its sender's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct View(pub u32);

impl View {
    /// The membership that all nodes joined with.
    pub const FIRST: View = View(1);
}

/// A region's number: an index, in the order of creation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct RegionId(pub u16);

impl RegionId {
    /// For indexing.
    pub const fn index(self) -> usize {
        self.0 as usize
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

/// A lock's name: any number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct LockId(pub u64);

/// A barrier's name: any number, in a name space of its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct BarrierId(pub u64);

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_set_holds_what_was_put_in() {
        let set: NodeSet = [NodeId::new(3), NodeId::new(0), NodeId::new(63)].into_iter().collect();
        assert_eq!(set.iter().map(NodeId::get).collect::<Vec<_>>(), [0, 3, 63]);
        assert_eq!(set.without(NodeId::new(3)).len(), 2);
        assert!(!set.contains(NodeId::new(4)));
        assert_eq!(NodeSet::first(64).len(), 64);
        assert_eq!(NodeSet::EMPTY.lowest(), None);
    }
}
