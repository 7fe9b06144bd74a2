//! A few nodes by their numbers, in the eight bytes that a message has room for.

use crate::ids::{NodeId, NodeSet};
use crate::limits;
use std::fmt;

/// Bits of one node.
const NODE_BITS: usize = u16::BITS as usize;

const _: () = assert!(limits::COLLECTED * NODE_BITS == u64::BITS as usize);

/// Up to [`limits::COLLECTED`] nodes: each its number and 1, the lowest first, and 0 where there is none.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Sharers(u64);

impl Sharers {
    /// Nobody.
    pub const NONE: Sharers = Sharers(0);

    /// The members of `nodes`; `None` when they are too many.
    pub fn of(nodes: NodeSet) -> Option<Sharers> {
        if nodes.len() > limits::COLLECTED {
            return None;
        }
        let word =
            |word, (place, node): (usize, NodeId)| word | (node.get() as u64 + 1) << (place * NODE_BITS);
        Some(Sharers(nodes.iter().enumerate().fold(0, word)))
    }

    /// The members, the lowest first.
    pub fn iter(&self) -> impl Iterator<Item = NodeId> + use<> {
        let word = self.0;
        let entries = (0..limits::COLLECTED).map(move |place| (word >> (place * NODE_BITS)) as u16);
        entries.filter_map(|entry| entry.checked_sub(1)).map(NodeId::new)
    }

    /// Whether `node` is one of them.
    pub fn contains(&self, node: NodeId) -> bool {
        self.iter().any(|member| member == node)
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.0 == 0
    }

    /// These and `node`; `None` when they are too many.
    #[must_use]
    pub fn with(&self, node: NodeId) -> Option<Sharers> {
        Sharers::of(self.iter().collect::<NodeSet>().with(node))
    }

    /// These less `node`.
    #[must_use]
    pub fn without(&self, node: NodeId) -> Sharers {
        let rest: NodeSet = self.iter().filter(|member| *member != node).collect();
        Sharers::of(rest).unwrap_or(Sharers::NONE)
    }

    /// As it stands in a message.
    pub(crate) const fn to_wire(self) -> u64 {
        self.0
    }

    /// `None` when it is not what any set is written as.
    pub(crate) fn from_wire(word: u64) -> Option<Sharers> {
        let entries = (0..limits::COLLECTED).map(|place| (word >> (place * NODE_BITS)) as u16);
        if entries.clone().any(|entry| entry as usize > limits::NODES) {
            return None;
        }
        let nodes: NodeSet = entries.filter_map(|entry| entry.checked_sub(1)).map(NodeId::new).collect();
        Sharers::of(nodes).filter(|sharers| sharers.0 == word)
    }
}

impl fmt::Debug for Sharers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set(numbers: &[u16]) -> NodeSet {
        numbers.iter().copied().map(NodeId::new).collect()
    }

    #[test]
    fn four_nodes_fit_and_five_do_not() {
        let all = set(&[0, 5, 1023, 7]);
        let sharers = Sharers::of(all).unwrap();
        assert_eq!(sharers.iter().collect::<NodeSet>(), all);
        assert!(sharers.contains(NodeId::new(0)) && !sharers.contains(NodeId::new(1)));
        assert_eq!(Sharers::of(all.with(NodeId::new(9))), None);
        assert_eq!(sharers.with(NodeId::new(9)), None);
        let less = sharers.without(NodeId::new(5));
        assert_eq!(less.iter().collect::<NodeSet>(), set(&[0, 7, 1023]));
        assert_eq!(less.with(NodeId::new(5)), Some(sharers));
        assert!(Sharers::NONE.is_empty() && Sharers::of(NodeSet::EMPTY) == Some(Sharers::NONE));
    }

    proptest! {
        /// One set has one form, so that what is compared is the set.
        #[test]
        fn only_what_is_written_is_read(word in any::<u64>(), numbers in proptest::collection::btree_set(0u16..1024, 0..5)) {
            let nodes: NodeSet = numbers.into_iter().map(NodeId::new).collect();
            let sharers = Sharers::of(nodes).unwrap();
            prop_assert_eq!(Sharers::from_wire(sharers.to_wire()), Some(sharers));
            for word in [word, word & 0x03ff_03ff_03ff_03ff] {
                prop_assert!(Sharers::from_wire(word).is_none_or(|read| read.to_wire() == word));
            }
        }
    }
}
