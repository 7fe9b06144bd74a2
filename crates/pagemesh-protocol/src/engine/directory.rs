//! One node's part of a region's directory: an entry for every page whose home it is, in few bytes.
//!
//! Most pages have one or two holders, and a mesh may have a thousand nodes. So an entry is 16 bytes, in which up to
//! [`NARROW`] holders stand by their numbers. A page with more of them has its set, a bit for each node, in a table beside it,
//! and gives it back when the holders have become few again. That table grows by doubling and is never made smaller, so that a
//! page whose readers come and go allocates nothing.
//!
//! | bits of the second word | hold |
//! |---|---|
//! | 0..8 | the state |
//! | 8..16 | how many holders stand in the first word, or [`WIDE`]: the first word is a place in the table |
//! | 16..32 | the node of the state |
//! | 32..64 | 0, or the number of the transaction under way and 1 |

use super::pages::{DirectoryEntry, DirectoryState};
use crate::ids::{NodeId, NodeSet};
use crate::sparse::Sparse;
use slab::Slab;

/// Holders that an entry has room for.
const NARROW: usize = 4;
/// Stands for the number of holders when they are in the table of wide sets.
const WIDE: u64 = 0xff;
/// Wide sets for which a region has room before it has to allocate.
const WIDE_AT_FIRST: usize = 16;

const _: () = assert!(NARROW * u16::BITS as usize == u64::BITS as usize);

/// The entries of one region at one node.
#[derive(Clone, Debug)]
pub(super) struct Directory {
    entries: Sparse<[u64; 2]>,
    wide: Slab<NodeSet>,
}

impl Directory {
    pub(super) fn new(entries: u64) -> Directory {
        Directory { entries: Sparse::new(entries), wide: Slab::with_capacity(WIDE_AT_FIRST) }
    }

    pub(super) fn get(&self, index: u64) -> DirectoryEntry {
        let [holders, rest] = self.entries.get(index);
        let node = NodeId::new((rest >> 16) as u16);
        let state = match rest as u8 {
            0 => DirectoryState::Untouched,
            1 => DirectoryState::Shared(node),
            2 => DirectoryState::Modified(node),
            _ => DirectoryState::Lost(node),
        };
        let holders = match width(rest) {
            WIDE => self.wide[holders as usize],
            count => (0..count).map(|place| NodeId::new((holders >> (place * 16)) as u16)).collect(),
        };
        DirectoryEntry { state, holders, busy: busy(rest) }
    }

    /// The transaction under way, without a look at who has copies.
    pub(super) fn busy(&self, index: u64) -> Option<u32> {
        busy(self.entries.get(index)[1])
    }

    pub(super) fn set(&mut self, index: u64, entry: DirectoryEntry) {
        let [before, rest] = self.entries.get(index);
        let place = (width(rest) == WIDE).then_some(before as usize);
        let (holders, count) = self.keep(place, entry.holders);
        let (kind, node) = match entry.state {
            DirectoryState::Untouched => (0, 0),
            DirectoryState::Shared(owner) => (1, owner.get()),
            DirectoryState::Modified(owner) => (2, owner.get()),
            DirectoryState::Lost(node) => (3, node.get()),
        };
        let busy = entry.busy.map_or(0, |index| index as u64 + 1);
        self.entries.set(index, [holders, kind | count << 8 | (node as u64) << 16 | busy << 32]);
    }

    /// Where `node` alone has a copy, for reading, and nothing is under way: it has it for writing from now on. Else false, and nothing
    /// changes.
    pub(super) fn own_alone(&mut self, index: u64, node: NodeId) -> bool {
        let [holders, rest] = self.entries.get(index);
        let shared_by_one = rest as u8 == 1 && width(rest) == 1 && rest >> 32 == 0;
        let alone = shared_by_one && holders == node.get() as u64;
        if alone {
            self.entries.set(index, [holders, 2 | 1 << 8 | (node.get() as u64) << 16]);
        }
        alone
    }

    /// Where `home` has a copy and nothing is under way: `reader` has one too from now on, and `home` answers for the page. False, and nothing
    /// changed, where the entry does not say all that by itself: somebody in it is not in `live` or is `reader`, or there is no room for
    /// one more.
    pub(super) fn add_reader(&mut self, index: u64, home: NodeId, reader: NodeId, live: &NodeSet) -> bool {
        let [holders, rest] = self.entries.get(index);
        let has_copies = matches!(rest as u8, 1 | 2) && rest >> 32 == 0;
        let count = width(rest) as usize;
        if !has_copies || count >= NARROW {
            return false;
        }
        let known = (0..count).map(|place| (holders >> (place * 16)) as u16);
        if !known.clone().any(|node| node == home.get())
            || known.clone().any(|node| node == reader.get() || !live.contains(NodeId::new(node)))
        {
            return false;
        }
        // In order of their numbers, as a set gives them.
        let before = known.filter(|node| *node < reader.get()).count() * 16;
        let low = holders & ((1 << before) - 1);
        let high = holders >> before << before << 16;
        let holders = low | (reader.get() as u64) << before | high;
        self.entries.set(index, [holders, 1 | (count as u64 + 1) << 8 | (home.get() as u64) << 16]);
        true
    }

    /// Keeps `holders` in an entry whose set stood at `place` of the table; returns the first word and the count.
    fn keep(&mut self, place: Option<usize>, holders: NodeSet) -> (u64, u64) {
        let count = holders.len();
        match (count <= NARROW, place) {
            (true, _) => {
                if let Some(place) = place {
                    self.wide.remove(place);
                }
                let numbers = holders.iter().enumerate();
                let word = numbers.fold(0, |word, (at, node)| word | (node.get() as u64) << (at * 16));
                (word, count as u64)
            }
            (false, Some(place)) => {
                self.wide[place] = holders;
                (place as u64, WIDE)
            }
            (false, None) => (self.wide.insert(holders) as u64, WIDE),
        }
    }

    /// Bytes that the entry at `index` takes: its own, and those of its wide set.
    pub(super) fn entry_bytes(&self, index: u64) -> usize {
        let [_, rest] = self.entries.get(index);
        // A slab keeps a tag beside each item.
        let wide = if width(rest) == WIDE { size_of::<NodeSet>() + size_of::<usize>() } else { 0 };
        size_of::<[u64; 2]>() + wide
    }
}

fn busy(rest: u64) -> Option<u32> {
    ((rest >> 32) as u32).checked_sub(1)
}

fn width(rest: u64) -> u64 {
    rest >> 8 & 0xff
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn set(numbers: &BTreeSet<u16>) -> NodeSet {
        numbers.iter().copied().map(NodeId::new).collect()
    }

    #[test]
    fn entries_survive_packing() {
        let mut directory = Directory::new(1);
        assert_eq!(directory.get(0).state, DirectoryState::Untouched);
        let node = NodeId::new(1023);
        for state in [
            DirectoryState::Untouched,
            DirectoryState::Shared(node),
            DirectoryState::Modified(node),
            DirectoryState::Lost(node),
        ] {
            for busy in [None, Some(0), Some(70_000), Some(u32::MAX - 1)] {
                for holders in [NodeSet::EMPTY, NodeSet::only(node), NodeSet::first(4), NodeSet::first(1024)]
                {
                    let entry = DirectoryEntry { state, holders, busy };
                    directory.set(0, entry);
                    assert_eq!(directory.get(0), entry);
                }
            }
        }
    }

    /// What a page costs at its home. A bit for each of 1,024 nodes would be 128 bytes for every page.
    #[test]
    fn a_page_with_few_holders_costs_sixteen_bytes() {
        let pages = 100_000;
        let mut directory = Directory::new(pages);
        let holders = |count| DirectoryEntry {
            state: DirectoryState::Shared(NodeId::new(1000)),
            holders: (1000..1000 + count).map(NodeId::new).collect(),
            busy: None,
        };
        for page in 0..pages {
            directory.set(page, holders(1 + page as u16 % 4));
        }
        assert_eq!(directory.wide.capacity(), WIDE_AT_FIRST, "narrow sets need no table");
        let chunk_rest = limits::TABLE_CHUNK as u64 - 1;
        let allocated = directory.entries.bytes() as u64;
        assert!(allocated <= (pages + chunk_rest) * 16 + pages / 64, "{allocated} bytes for {pages} pages");
        assert_eq!(directory.entry_bytes(0), 16);
        directory.set(0, holders(5));
        assert_eq!(directory.entry_bytes(0), 16 + 128 + 8);
        assert_eq!(directory.wide.len(), 1);
    }

    #[test]
    fn who_alone_has_a_page_may_write_it_and_nobody_else() {
        let node = NodeId::new(700);
        let alone =
            DirectoryEntry { state: DirectoryState::Shared(node), holders: NodeSet::only(node), busy: None };
        let mut directory = Directory::new(1);
        let other = NodeId::new(1);
        for entry in [
            DirectoryEntry { state: DirectoryState::Untouched, holders: NodeSet::EMPTY, busy: None },
            DirectoryEntry { state: DirectoryState::Modified(node), ..alone },
            DirectoryEntry { state: DirectoryState::Lost(node), ..alone },
            DirectoryEntry { busy: Some(0), ..alone },
            DirectoryEntry { holders: NodeSet::only(other), ..alone },
            DirectoryEntry { holders: NodeSet::only(node).with(other), ..alone },
            DirectoryEntry { holders: NodeSet::first(1024), ..alone },
        ] {
            directory.set(0, entry);
            assert!(!directory.own_alone(0, node), "{entry:?}");
            assert_eq!(directory.get(0), entry);
        }
        directory.set(0, alone);
        assert!(directory.own_alone(0, node));
        assert_eq!(directory.get(0), DirectoryEntry { state: DirectoryState::Modified(node), ..alone });
    }

    #[test]
    fn a_reader_is_added_as_a_set_would_have_it_or_not_at_all() {
        let (home, dead) = (NodeId::new(5), NodeId::new(9));
        let live = NodeSet::first(8);
        let states = [
            DirectoryState::Untouched,
            DirectoryState::Shared(home),
            DirectoryState::Shared(NodeId::new(2)),
            DirectoryState::Modified(home),
            DirectoryState::Lost(dead),
        ];
        let mut added = 0;
        for bits in 0..1_u32 << 10 {
            let holders: NodeSet = (0..10).filter(|node| bits >> node & 1 != 0).map(NodeId::new).collect();
            for (state, busy) in states.into_iter().flat_map(|state| [(state, None), (state, Some(0))]) {
                for reader in [0, 4, 6, 7].map(NodeId::new) {
                    let entry = DirectoryEntry { state, holders, busy };
                    let mut directory = Directory::new(1);
                    directory.set(0, entry);
                    if directory.add_reader(0, home, reader, &live) {
                        added += 1;
                        let has_copies =
                            !matches!(state, DirectoryState::Untouched | DirectoryState::Lost(_));
                        assert!(has_copies && holders.contains(home) && busy.is_none(), "{entry:?}");
                        assert!(!holders.contains(reader) && holders.and(live) == holders, "{entry:?}");
                        let state = DirectoryState::Shared(home);
                        let after = DirectoryEntry { state, holders: holders.with(reader), busy };
                        let mut by_set = Directory::new(1);
                        by_set.set(0, after);
                        assert_eq!(directory.entries.get(0), by_set.entries.get(0), "{entry:?} and {reader}");
                    } else {
                        assert_eq!(directory.get(0), entry, "what was refused changed the entry");
                    }
                }
            }
        }
        assert!(added > 100, "only {added} times");
    }

    #[test]
    fn a_page_whose_readers_come_and_go_allocates_nothing() {
        let mut directory = Directory::new(64);
        let state = DirectoryState::Shared(NodeId::new(0));
        let before = directory.wide.capacity();
        for round in 0..10_000u64 {
            let count = if round % 2 == 0 { 1000 } else { 1 };
            let entry = DirectoryEntry { state, holders: NodeSet::first(count), busy: None };
            directory.set(round % WIDE_AT_FIRST as u64, entry);
        }
        assert_eq!(directory.wide.capacity(), before);
    }

    proptest! {
        #[test]
        fn every_page_keeps_its_own_holders(
            changes in proptest::collection::vec(
                (0u64..8, proptest::collection::btree_set(0u16..limits::NODES as u16, 0..9)), 1..200
            )
        ) {
            let mut directory = Directory::new(8);
            let mut model = BTreeMap::new();
            for (page, holders) in changes {
                let state = holders.first().map_or(DirectoryState::Untouched, |owner| {
                    DirectoryState::Shared(NodeId::new(*owner))
                });
                directory.set(page, DirectoryEntry { state, holders: set(&holders), busy: None });
                model.insert(page, holders);
                for (page, holders) in &model {
                    let found: BTreeSet<u16> = directory.get(*page).holders.iter().map(NodeId::get).collect();
                    prop_assert_eq!(&found, holders);
                }
                let wide = model.values().filter(|holders| holders.len() > NARROW).count();
                prop_assert_eq!(directory.wide.len(), wide, "a set that is not needed is given back");
            }
        }
    }
}
