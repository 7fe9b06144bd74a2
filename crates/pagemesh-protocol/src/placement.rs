//! Who keeps a page's directory entry, and which protocol a region follows.

use crate::ids::NodeId;

/// How the pages of a region are given homes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub enum Placement {
    /// Page `p` has its home at node `p mod N`.
    Cyclic,
    /// Every page has its home at one node.
    Single(NodeId),
}

impl Placement {
    /// The home of `page` in a mesh of `nodes` nodes.
    pub const fn home(self, page: u64, nodes: u16) -> NodeId {
        match self {
            Placement::Cyclic => NodeId::new((page % nodes as u64) as u16),
            Placement::Single(node) => node,
        }
    }

    /// Where the entry of `page` stands in its home's directory.
    pub const fn entry(self, page: u64, nodes: u16) -> u64 {
        match self {
            Placement::Cyclic => page / nodes as u64,
            Placement::Single(_) => page,
        }
    }

    /// How many entries one home's directory has for a region of `pages` pages, at most.
    pub const fn entries(self, pages: u64, nodes: u16) -> u64 {
        match self {
            Placement::Cyclic => pages.div_ceil(nodes as u64),
            Placement::Single(_) => pages,
        }
    }
}

/// The coherence protocol of a region.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub enum Protocol {
    /// MSI a page: many readers or one writer.
    WriteInvalidate,
}
