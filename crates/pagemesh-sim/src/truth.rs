//! What the pages hold, as an outside observer who sees every write knows it.

use crate::event::{WORDS, Words};
use pagemesh_protocol::{PageAddress, RegionId};

/// A page's true content.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PageTruth {
    /// After the last write.
    pub(crate) latest: Words,
    /// Before the last write, for planting stale bytes.
    pub(crate) previous: Words,
    /// Whether any node ever had a copy.
    pub(crate) touched: bool,
    /// Messages about it that are on their way.
    pub(crate) in_flight: u32,
}

/// The true content of all regions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Truth {
    regions: Vec<Vec<PageTruth>>,
    /// Every written value is a new one.
    values: u64,
}

/// Bits of a word that a program may choose; the others make it unlike any that was written before.
const PAYLOAD_BITS: u32 = 20;

/// What a program put into a word.
pub(crate) const fn payload(word: u64) -> u64 {
    word & ((1 << PAYLOAD_BITS) - 1)
}

impl Truth {
    /// Makes room for a region that starts as zeros.
    pub(crate) fn add(&mut self, region: RegionId, pages: u64) {
        if self.regions.len() <= region.index() {
            self.regions.resize_with(region.index() + 1, Vec::new);
        }
        if self.regions[region.index()].is_empty() {
            let zero = PageTruth { latest: [0; WORDS], previous: [0; WORDS], touched: false, in_flight: 0 };
            self.regions[region.index()] = vec![zero; pages as usize];
        }
    }

    pub(crate) fn page(&self, page: PageAddress) -> Option<&PageTruth> {
        self.regions.get(page.region.index())?.get(page.page as usize)
    }

    pub(crate) fn page_mut(&mut self, page: PageAddress) -> Option<&mut PageTruth> {
        self.regions.get_mut(page.region.index())?.get_mut(page.page as usize)
    }

    /// A value that nobody wrote before and that carries `payload`.
    pub(crate) fn fresh_value(&mut self, payload: u64) -> u64 {
        debug_assert!(payload >> PAYLOAD_BITS == 0, "it fits");
        self.values += 1;
        self.values << PAYLOAD_BITS | payload
    }

    /// All pages of all regions that were ever proposed.
    pub(crate) fn pages(&self) -> impl Iterator<Item = PageAddress> + use<> {
        let sizes: Vec<u64> = self.regions.iter().map(|pages| pages.len() as u64).collect();
        sizes.into_iter().enumerate().flat_map(|(region, pages)| {
            (0..pages).map(move |page| PageAddress::new(RegionId(region as u16), page))
        })
    }
}
