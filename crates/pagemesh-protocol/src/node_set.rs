//! Sets of nodes.

use crate::ids::NodeId;
use crate::limits;
use std::fmt;

/// Bits of one word of a set.
const WORD_BITS: usize = u64::BITS as usize;
const WORDS: usize = limits::NODES.div_ceil(WORD_BITS);

/// A set of nodes, as it is computed with: a bit for each of [`limits::NODES`], 128 bytes, and no allocation. The directory, which
/// has a set for every page, keeps them in a shorter form.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct NodeSet([u64; WORDS]);

impl NodeSet {
    /// The empty set.
    pub const EMPTY: NodeSet = NodeSet([0; WORDS]);

    /// Nodes `0..count`.
    ///
    /// # Panics
    /// When `count` exceeds [`limits::NODES`].
    pub const fn first(count: usize) -> NodeSet {
        assert!(count <= limits::NODES, "more nodes than limits::NODES");
        let mut words = [0; WORDS];
        let mut word = 0;
        while word < count / WORD_BITS {
            words[word] = u64::MAX;
            word += 1;
        }
        if !count.is_multiple_of(WORD_BITS) {
            words[word] = (1 << (count % WORD_BITS)) - 1;
        }
        NodeSet(words)
    }

    /// Just `node`.
    pub const fn only(node: NodeId) -> NodeSet {
        NodeSet::EMPTY.with(node)
    }

    /// This set and `node`.
    #[must_use]
    pub const fn with(mut self, node: NodeId) -> NodeSet {
        self.0[node.index() / WORD_BITS] |= 1 << (node.index() % WORD_BITS);
        self
    }

    /// This set less `node`.
    #[must_use]
    pub const fn without(mut self, node: NodeId) -> NodeSet {
        self.0[node.index() / WORD_BITS] &= !(1 << (node.index() % WORD_BITS));
        self
    }

    /// What both sets hold.
    #[must_use]
    pub fn and(self, other: NodeSet) -> NodeSet {
        NodeSet(std::array::from_fn(|word| self.0[word] & other.0[word]))
    }

    /// This set less all of `other`.
    #[must_use]
    pub fn less(self, other: NodeSet) -> NodeSet {
        NodeSet(std::array::from_fn(|word| self.0[word] & !other.0[word]))
    }

    /// Whether `node` is in the set.
    pub const fn contains(&self, node: NodeId) -> bool {
        self.0[node.index() / WORD_BITS] >> (node.index() % WORD_BITS) & 1 != 0
    }

    /// Whether nobody is in the set.
    pub fn is_empty(&self) -> bool {
        self.0 == [0; WORDS]
    }

    /// Members.
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// The member with the lowest number.
    pub fn lowest(&self) -> Option<NodeId> {
        self.iter().next()
    }

    /// Members in order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = NodeId> + use<> {
        let mut words = self.0;
        let mut word = 0;
        std::iter::from_fn(move || {
            while word < WORDS && words[word] == 0 {
                word += 1;
            }
            let bits = words.get_mut(word)?;
            let bit = bits.trailing_zeros() as usize;
            *bits &= *bits - 1;
            Some(NodeId::new((word * WORD_BITS + bit) as u16))
        })
    }
}

impl Default for NodeSet {
    fn default() -> NodeSet {
        NodeSet::EMPTY
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn numbers() -> impl Strategy<Value = BTreeSet<u16>> {
        let near_a_word = prop_oneof![0u16..4, 60u16..68, 1020u16..1024, 0u16..limits::NODES as u16];
        proptest::collection::btree_set(near_a_word, 0..40)
    }

    fn set(numbers: &BTreeSet<u16>) -> NodeSet {
        numbers.iter().copied().map(NodeId::new).collect()
    }

    fn members(set: NodeSet) -> Vec<u16> {
        set.iter().map(NodeId::get).collect()
    }

    #[test]
    fn a_node_set_holds_what_was_put_in() {
        let set: NodeSet = [NodeId::new(3), NodeId::new(0), NodeId::new(1023)].into_iter().collect();
        assert_eq!(members(set), [0, 3, 1023]);
        assert_eq!(set.without(NodeId::new(3)).len(), 2);
        assert!(!set.contains(NodeId::new(4)));
        assert_eq!(NodeSet::EMPTY.lowest(), None);
        assert_eq!(size_of::<NodeSet>(), 128);
    }

    #[test]
    fn the_first_nodes_are_those_below_their_number() {
        for count in [0, 1, 63, 64, 65, 128, 1000, 1023, 1024] {
            assert_eq!(members(NodeSet::first(count)), (0..count as u16).collect::<Vec<_>>());
            assert_eq!(NodeSet::first(count).len(), count);
        }
    }

    proptest! {
        #[test]
        fn a_node_set_is_a_set(a in numbers(), b in numbers(), node in 0u16..limits::NODES as u16) {
            let (left, right, one) = (set(&a), set(&b), NodeId::new(node));
            prop_assert_eq!(members(left), a.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(left.len(), a.len());
            prop_assert_eq!(left.is_empty(), a.is_empty());
            prop_assert_eq!(left.lowest().map(NodeId::get), a.first().copied());
            prop_assert_eq!(left.contains(one), a.contains(&node));
            prop_assert_eq!(members(left.and(right)), a.intersection(&b).copied().collect::<Vec<_>>());
            prop_assert_eq!(members(left.less(right)), a.difference(&b).copied().collect::<Vec<_>>());
            let (mut with, mut without) = (a.clone(), a.clone());
            with.insert(node);
            without.remove(&node);
            prop_assert_eq!(left.with(one), set(&with));
            prop_assert_eq!(left.without(one), set(&without));
        }
    }
}
