//! Who keeps a page's directory entry, and which protocol a region follows.

use crate::ids::NodeId;

/// How the pages of a region are given homes. In a region of `P` pages and a mesh of `N` nodes:
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub enum Placement {
    /// Page `p` has its home at node `p mod N`.
    Cyclic,
    /// Every page has its home at one node.
    Single(NodeId),
    /// `N` contiguous parts, in the order of the nodes: page `p` has its home at node `floor(p * N / P)`. No part is more than one
    /// page larger than another; with fewer pages than nodes, some nodes have none.
    Block,
    /// The first node that touches a page is its home for ever. Node `p mod N`, the anchor of page `p`, keeps in mind who
    /// that was; every other node asks it once a page.
    FirstTouch,
}

impl Placement {
    /// The home of `page` of `pages` in a mesh of `nodes` nodes; `None` when that is not settled before the page is touched.
    ///
    /// # Panics
    /// When there are no pages, or no nodes.
    pub const fn home(self, page: u64, pages: u64, nodes: u16) -> Option<NodeId> {
        match self {
            Placement::Cyclic => Some(Placement::anchor(page, nodes)),
            Placement::Single(node) => Some(node),
            Placement::Block => Some(NodeId::new((page * nodes as u64 / pages) as u16)),
            Placement::FirstTouch => None,
        }
    }

    /// The node that settles who is the home of `page`, where the first touch does.
    ///
    /// # Panics
    /// When there are no nodes.
    pub const fn anchor(page: u64, nodes: u16) -> NodeId {
        NodeId::new((page % nodes as u64) as u16)
    }

    /// Where the entry of `page` stands in its home's directory.
    pub(crate) const fn entry(self, page: u64, pages: u64, nodes: u16) -> u64 {
        match self {
            Placement::Cyclic => page / nodes as u64,
            Placement::Single(_) | Placement::FirstTouch => page,
            Placement::Block => {
                let part = page * nodes as u64 / pages;
                page - (part * pages).div_ceil(nodes as u64)
            }
        }
    }

    /// How many entries one home's directory has for a region of `pages` pages, at most.
    pub(crate) const fn entries(self, pages: u64, nodes: u16) -> u64 {
        match self {
            Placement::Cyclic | Placement::Block => pages.div_ceil(nodes as u64),
            Placement::Single(_) | Placement::FirstTouch => pages,
        }
    }
}

/// The coherence protocol of a region.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub enum Protocol {
    /// MSI a page: many readers or one writer.
    WriteInvalidate,
    /// One holder a page, who reads and writes; the page moves to whoever touches it.
    Migration,
    /// Many writers a page, who tell each other when they synchronise: for programs without data races.
    Release,
    /// Ranges of bytes under reader-writer locks: a lock brings its range up to date, and nothing else does. The one home of all pages
    /// ([`Placement::Single`]) is the master, which has the newest bytes.
    Entry,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits;

    /// Homes of all pages, by page.
    fn homes(placement: Placement, pages: u64, nodes: u16) -> Vec<u16> {
        (0..pages).map(|page| placement.home(page, pages, nodes).unwrap().get()).collect()
    }

    #[test]
    fn blocks_are_contiguous_and_nearly_equal() {
        assert_eq!(homes(Placement::Block, 10, 4), [0, 0, 0, 1, 1, 2, 2, 2, 3, 3]);
        assert_eq!(homes(Placement::Block, 8, 2), [0, 0, 0, 0, 1, 1, 1, 1]);
        assert_eq!(homes(Placement::Block, 2, 4), [0, 2], "some nodes have none");
        for (pages, nodes) in (1..70).flat_map(|pages| (1..12).map(move |nodes| (pages, nodes))) {
            let homes = homes(Placement::Block, pages, nodes);
            assert!(homes.is_sorted());
            let part = |node| homes.iter().filter(|home| **home == node).count() as u64;
            let (least, most) = (pages / nodes as u64, pages.div_ceil(nodes as u64));
            assert!((0..nodes).all(|node| (least..=most).contains(&part(node))), "{pages} on {nodes}");
        }
    }

    #[test]
    fn every_page_has_an_entry_of_its_own_at_its_home() {
        let all = [Placement::Cyclic, Placement::Block, Placement::Single(NodeId::new(0))];
        for (pages, nodes) in (1..50).flat_map(|pages| (1..9).map(move |nodes| (pages, nodes))) {
            for placement in all {
                let mut seen = std::collections::BTreeSet::new();
                for page in 0..pages {
                    let entry = placement.entry(page, pages, nodes);
                    assert!(entry < placement.entries(pages, nodes));
                    assert!(seen.insert((placement.home(page, pages, nodes), entry)), "{placement:?} {page}");
                }
            }
        }
    }

    #[test]
    fn the_largest_region_overflows_nothing() {
        let (pages, nodes) = (limits::REGION_PAGES, limits::NODES as u16);
        let last = Placement::Block.home(pages - 1, pages, nodes);
        assert_eq!(last, Some(NodeId::new(nodes - 1)));
        assert_eq!(Placement::Block.entry(pages - 1, pages, nodes), pages / nodes as u64 - 1);
    }
}
