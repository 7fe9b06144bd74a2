//! What a miss brings with it in a region whose unit is larger than a page: the other pages of the unit.
//!
//! They are asked for by requests that nobody waits for, in the order of their addresses, so that what is asked for, and what comes, is one run with the
//! page that was missed; of a unit of more pages than a run has, the run with that page comes first. They are mapped as they come, and the thread goes on
//! when its run is there: to let it go before the rest of the run was mapped costs a call more, and gained nothing. A thread that touches a page before it
//! is here waits for the request that is under way. So a unit is no promise: where calls run short, or a page is taken away again at once, its pages are
//! missed one by one, as those of any region are.

use super::Runtime;
use super::shard::{ACTIONS, ACTIONS_OF_ONE_REQUEST, Load};
use pagemesh_protocol::limits::RUN_PAGES;
use pagemesh_protocol::{Access, Actions, Engine, PageAddress, Protocol, RegionId, RegionSpec, Ticket};
use std::ops::Range;
use std::sync::atomic::Ordering;

/// Pages that are asked for before the shard's lock is given to others for a moment.
const AT_A_TIME: usize = RUN_PAGES as usize;

/// A page that was missed, and what is to come with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UnitMiss {
    missed: PageAddress,
    first: u64,
    end: u64,
    access: Access,
}

/// What is still to be asked for of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RestOfUnit {
    region: RegionId,
    parts: [Range<u64>; 3],
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

    /// What is asked for to do with the pages.
    pub(super) fn access(&self) -> Access {
        self.access
    }

    /// What is asked for with the missed page, in the order of addresses: then it is asked for by one message, and sent as one run.
    fn piece(&self) -> Range<u64> {
        let pages = u64::from(RUN_PAGES);
        let start = self.missed.page - self.missed.page % pages;
        start.max(self.first)..(start + pages).min(self.end)
    }

    /// Gives the engine the fault of a thread that waits for the missed page with `ticket`, and asks for the pages next to it. Returns how many these
    /// were, and what is left of the unit: what is behind first, since most go on upwards.
    pub(super) fn ask(
        &self,
        runtime: &Runtime,
        engine: &mut Engine,
        (ticket, access): (Ticket, Access),
        out: &mut Actions,
    ) -> (u64, Option<RestOfUnit>) {
        let Range { start, end } = self.piece();
        let (missed, region) = (self.missed.page, self.missed.region);
        let mut before = start..missed;
        // There is room for the fault itself in any case.
        let mut asked = ask_for(runtime, engine, region, &mut before, self.access, out, 2);
        engine.on_fault(ticket, self.missed, access, out);
        let mut after = missed + 1..end;
        asked += ask_for(runtime, engine, region, &mut after, self.access, out, 1);
        let behind = after.start..self.end;
        let parts = [behind, before, self.first..start];
        let is_left = parts.iter().any(|part| !part.is_empty());
        (asked, is_left.then_some(RestOfUnit { region, parts, access: self.access }))
    }
}

/// Asks for those of `pages` that are neither here nor on their way, as long as what `requests` more may send has room, and there are
/// tickets. `pages` are what is left then. Returns how many were asked for.
fn ask_for(
    runtime: &Runtime,
    engine: &mut Engine,
    region: RegionId,
    pages: &mut Range<u64>,
    access: Access,
    out: &mut Actions,
    requests: usize,
) -> u64 {
    let mut asked = 0;
    while let Some(page) = (!pages.is_empty()).then(|| PageAddress::new(region, pages.start)) {
        if !engine.page_state(page).allows(access) && !engine.is_asked_for(page) {
            // A thread in a fault handler must not have the buffer grow.
            if out.len() + requests * ACTIONS_OF_ONE_REQUEST > ACTIONS {
                break;
            }
            let Some(ticket) = runtime.calls.detach() else { break };
            engine.on_prefetch(ticket, page, access, out);
            asked += 1;
        }
        pages.start += 1;
    }
    asked
}

impl Runtime {
    /// Asks for the pages of a unit that are not here yet and not on their way.
    pub(super) fn ask_for_unit(&self, rest: RestOfUnit) {
        let RestOfUnit { region, parts, access } = rest;
        for mut pages in parts {
            while !pages.is_empty() {
                if !self.ask_for_some(region, &mut pages, access) {
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
        let mut some = pages.start..pages.end.min(pages.start + AT_A_TIME as u64);
        let asked = shard
            .run(self, Load::Nothing, |engine, out| ask_for(self, engine, region, &mut some, access, out, 1));
        self.counters.pages_prefetched.fetch_add(asked, Ordering::Relaxed);
        let goes_on = some.start > pages.start;
        pages.start = some.start;
        goes_on
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

    /// What is asked for with a page, and all of its unit.
    fn pieces(unit: Unit, page: u64) -> [Range<u64>; 2] {
        let page = PageAddress::new(RegionId(0), page);
        let miss = UnitMiss::of(&spec(unit, Protocol::WriteInvalidate), page, Access::Read);
        [miss.piece(), miss.first..miss.end]
    }

    #[test]
    fn a_unit_begins_at_a_multiple_of_its_size_and_ends_with_the_region() {
        assert_eq!(pieces(Unit::KiB16, 6), [4..8, 4..8]);
        assert_eq!(pieces(Unit::KiB64, 16), [16..32, 16..32]);
        assert_eq!(pieces(Unit::MiB2, 700), [640..704, 512..1000]);
        assert_eq!(pieces(Unit::MiB2, 999), [960..1000, 512..1000]);
        assert_eq!(pieces(Unit::KiB64, 999), [992..1000, 992..1000]);
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
