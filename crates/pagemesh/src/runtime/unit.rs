//! What a miss brings with it in a region whose unit is larger than a page: the other pages of the unit.
//!
//! They are asked for by requests that nobody waits for, right behind the one for the page that was missed, and mapped as they come. A
//! thread that touches one before it is here waits for the request that is under way. So a unit is no promise: where calls run short, or a page
//! is taken away again at once, its pages are missed one by one, as those of any region are.

use super::Runtime;
use super::shard::{ACTIONS, ACTIONS_OF_ONE_REQUEST, Load};
use pagemesh_protocol::{Access, PageAddress, Protocol, RegionId, RegionSpec};
use std::ops::Range;
use std::sync::atomic::Ordering;

/// Pages that are asked for before the shard's lock is given to others for a moment.
const AT_A_TIME: usize = 32;

/// A page that was missed, and what is to come with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UnitMiss {
    missed: PageAddress,
    first: u64,
    end: u64,
    access: Access,
}

impl UnitMiss {
    pub(super) fn of(spec: &RegionSpec, missed: PageAddress, access: Access) -> UnitMiss {
        let pages = spec.unit.pages();
        let first = missed.page - missed.page % pages;
        // A twin for each page, only because one is written, would cost more than the writes that are to come.
        let access = if spec.protocol == Protocol::Release { Access::Read } else { access };
        UnitMiss { missed, first, end: (first + pages).min(spec.pages), access }
    }

    /// Those behind the missed page first: most go on upwards.
    fn parts(self) -> [Range<u64>; 2] {
        [self.missed.page + 1..self.end, self.first..self.missed.page]
    }
}

impl Runtime {
    /// Asks for the pages of a unit that are not here yet, but for the one that somebody waits for.
    pub(super) fn ask_for_unit(&self, miss: UnitMiss) {
        for mut pages in miss.parts() {
            while !pages.is_empty() {
                if !self.ask_for_some(miss.missed.region, &mut pages, miss.access) {
                    return;
                }
            }
        }
    }

    /// Takes some of `pages` and asks for them. False when no more can be asked for now.
    fn ask_for_some(&self, region: RegionId, pages: &mut Range<u64>, access: Access) -> bool {
        // A unit is of one shard.
        let mut shard = self.shards.of(PageAddress::new(region, pages.start));
        if shard.is_closed() {
            return false;
        }
        let (mut asked, mut all) = (0, true);
        shard.run(self, Load::Nothing, |engine, out| {
            for _ in 0..AT_A_TIME {
                // A thread in a fault handler must not have the buffer grow.
                if out.len() + ACTIONS_OF_ONE_REQUEST > ACTIONS {
                    break;
                }
                let Some(page) = pages.next() else { break };
                let page = PageAddress::new(region, page);
                if engine.page_state(page).allows(access) {
                    continue;
                }
                let Some(ticket) = self.calls.detach() else {
                    all = false;
                    break;
                };
                engine.on_prefetch(ticket, page, access, out);
                asked += 1;
            }
        });
        self.counters.pages_prefetched.fetch_add(asked, Ordering::Relaxed);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pagemesh_protocol::{Placement, RegionName, Unit};

    fn spec(unit: Unit, protocol: Protocol) -> RegionSpec {
        let name = RegionName::new("streamed").unwrap();
        RegionSpec { name, pages: 1000, placement: Placement::Cyclic, protocol, unit, address: 0 }
    }

    fn parts(unit: Unit, page: u64) -> [Range<u64>; 2] {
        let page = PageAddress::new(RegionId(0), page);
        UnitMiss::of(&spec(unit, Protocol::WriteInvalidate), page, Access::Read).parts()
    }

    #[test]
    fn a_unit_begins_at_a_multiple_of_its_size_and_ends_with_the_region() {
        assert_eq!(parts(Unit::KiB16, 6), [7..8, 4..6]);
        assert_eq!(parts(Unit::KiB64, 16), [17..32, 16..16]);
        assert_eq!(parts(Unit::MiB2, 700), [701..1000, 512..700]);
        assert_eq!(parts(Unit::KiB64, 999), [1000..1000, 992..999]);
    }

    #[test]
    fn a_write_brings_what_can_be_written_but_for_twins() {
        let page = PageAddress::new(RegionId(0), 3);
        let of = |protocol| UnitMiss::of(&spec(Unit::KiB16, protocol), page, Access::Write).access;
        assert_eq!(of(Protocol::WriteInvalidate), Access::Write);
        assert_eq!(of(Protocol::Migration), Access::Write);
        assert_eq!(of(Protocol::Release), Access::Read);
    }
}
