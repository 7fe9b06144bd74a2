//! The page tables: for every mapped region, this node's copies, its part of the directory, and what it knows of homes.

use super::coherence::NO_SUCH_PAGE;
use super::directory::Directory;
use super::hints::Doubt;
use super::notices::PageRun;
use super::tracking::PageBits;
use crate::ids::{NodeId, NodeSet, PageAddress, PageState, RegionId};
use crate::limits;
use crate::placement::{Placement, Protocol};
use crate::region::{RegionSpec, Unit};
use crate::sparse::Sparse;

/// What the home knows of a page's copies.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum DirectoryState {
    /// Nobody has a copy and nobody ever had: the page is zero.
    Untouched,
    /// The holders have equal copies for reading; this one answers for the page.
    Shared(NodeId),
    /// This node has the only copy and may write.
    Modified(NodeId),
    /// The only copy went with this node.
    Lost(NodeId),
}

/// A directory entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DirectoryEntry {
    /// What is known.
    pub state: DirectoryState,
    /// Who has a copy (the copyset), the owner among them.
    pub holders: NodeSet,
    /// The transaction that is under way on the page, as an index of the protocol's own table.
    pub busy: Option<u32>,
}

/// This node's copy of a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct LocalPage {
    pub(super) state: PageState,
    /// The request of this node that is under way, as an index of the protocol's own table.
    pub(super) pending: Option<u32>,
}

impl LocalPage {
    fn pack(self) -> u32 {
        let state = match self.state {
            PageState::Invalid => 0,
            PageState::Shared => 1,
            PageState::Modified => 2,
        };
        state | self.pending.map_or(0, |index| index + 1) << 2
    }

    fn unpack(word: u32) -> LocalPage {
        let state = match word & 3 {
            0 => PageState::Invalid,
            1 => PageState::Shared,
            _ => PageState::Modified,
        };
        LocalPage { state, pending: (word >> 2).checked_sub(1) }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Region {
    pub(super) id: RegionId,
    pub(super) spec: RegionSpec,
    local: Sparse<u32>,
    directory: Directory,
    /// Where homes are given by first touch, those that this node knows: 0 none, else the node and 1. At a page's anchor
    /// this is what was settled.
    homes: Sparse<u16>,
    /// With write-invalidate, where hints are kept: who is likely to own a page, 0 nobody, else the node and 1; `hints.rs` says how.
    owners: Sparse<u16>,
    /// Whether these were of use.
    pub(super) doubt: Doubt,
    /// Wrong hints in a row after which none is used for a while; 0 where none are kept.
    patience: u8,
    /// With the release protocol, who has written the pages of this home lately; `lending.rs` says how.
    habits: Sparse<u32>,
    /// With the release protocol, what is expected of this node's threads; `foresight.rs` says how.
    expected: Sparse<u32>,
    /// Where the caller can tell which pages were written: those that were not when it looked last; `tracking.rs` says how.
    pub(super) clean: Option<PageBits>,
    /// Someone has relied on it: the application was given it, or a page was asked for. From then on it stays.
    relied_on: bool,
    /// Its pages exist here. At the coordinator they do only when all have mapped the region: nobody was given it before, and what
    /// was relied on could not be given up.
    is_open: bool,
    /// How often the application was given it and has not closed it since.
    openings: u32,
}

#[derive(Clone, Debug)]
pub(super) struct Pages {
    node: NodeId,
    nodes: u16,
    /// For how many wrong hints in a row this node has patience in a new region.
    patience: u8,
    pub(super) regions: Vec<Option<Region>>,
    /// Pages that have to be looked at, of all regions.
    pub(super) clean: u64,
}

impl Pages {
    pub(super) fn new(node: NodeId, nodes: u16, patience: u8) -> Pages {
        Pages { node, nodes, patience, regions: Vec::with_capacity(limits::REGIONS), clean: 0 }
    }

    pub(super) fn add(&mut self, region: RegionId, spec: RegionSpec, is_open: bool) {
        if self.regions.len() <= region.index() {
            self.regions.resize_with(region.index() + 1, || None);
        }
        let entries = spec.placement.entries(spec.pages, self.nodes);
        let settled_late = spec.placement == Placement::FirstTouch;
        let release_pages = if spec.protocol == Protocol::Release { spec.pages } else { 0 };
        let patience = if self.can_hint(&spec) { self.patience } else { 0 };
        self.regions[region.index()] = Some(Region {
            id: region,
            spec,
            local: Sparse::new(spec.pages),
            directory: Directory::new(entries),
            homes: Sparse::new(if settled_late { spec.pages } else { 0 }),
            owners: Sparse::new(if patience > 0 { spec.pages } else { 0 }),
            doubt: Doubt::default(),
            patience,
            habits: Sparse::new(release_pages),
            expected: Sparse::new(release_pages),
            clean: None,
            relied_on: false,
            is_open,
            openings: 0,
        });
    }

    pub(super) fn remove(&mut self, region: RegionId) {
        if let Some(slot) = self.regions.get_mut(region.index()) {
            let gone = slot.take();
            self.clean -= gone.and_then(|gone| gone.clean).map_or(0, |clean| clean.count());
        }
    }

    /// The region that is mapped here in the place of `region`, if it is another.
    pub(super) fn in_place_of(&self, region: RegionId) -> Option<RegionId> {
        let found = self.regions.get(region.index())?.as_ref()?;
        (found.id != region).then_some(found.id)
    }

    fn numbered(&self, region: RegionId) -> Option<&Region> {
        self.regions.get(region.index())?.as_ref().filter(|found| found.id == region)
    }

    fn numbered_mut(&mut self, region: RegionId) -> Option<&mut Region> {
        self.regions.get_mut(region.index())?.as_mut().filter(|found| found.id == region)
    }

    fn region(&self, page: PageAddress) -> Option<&Region> {
        self.numbered(page.region).filter(|region| region.is_open && page.page < region.spec.pages)
    }

    /// The region of `page`, to be changed: something about the page is to be kept in mind.
    fn region_mut(&mut self, page: PageAddress) -> &mut Region {
        let region = self.numbered_mut(page.region);
        let region = region.expect("the region was checked when the event came in");
        region.relied_on = true;
        region
    }

    /// All have mapped the region.
    pub(super) fn open(&mut self, region: RegionId) {
        if let Some(region) = self.numbered_mut(region) {
            region.is_open = true;
        }
    }

    /// Others were given the region.
    pub(super) fn rely_on(&mut self, region: RegionId) {
        if let Some(region) = self.numbered_mut(region) {
            region.relied_on = true;
        }
    }

    /// The application was given the region, once more.
    pub(super) fn opened(&mut self, region: RegionId) {
        if let Some(region) = self.numbered_mut(region) {
            region.openings += 1;
        }
    }

    /// The application has closed the region once; false when it did not have it.
    pub(super) fn closed(&mut self, region: RegionId) -> bool {
        let openings = self.numbered_mut(region).map(|region| &mut region.openings);
        let Some(openings) = openings.filter(|openings| **openings > 0) else { return false };
        *openings -= 1;
        true
    }

    /// Whether the application has the region.
    pub(super) fn has_opened(&self, region: RegionId) -> bool {
        self.numbered(region).is_some_and(|region| region.openings > 0)
    }

    /// Whether something would be lost with the region.
    pub(super) fn is_relied_on(&self, region: RegionId) -> bool {
        self.numbered(region).is_some_and(|region| region.relied_on)
    }

    pub(super) fn spec(&self, region: RegionId) -> Option<RegionSpec> {
        Some(self.numbered(region)?.spec)
    }

    /// How much a miss brings of a region that is mapped here.
    pub(super) fn unit(&self, region: RegionId) -> Option<Unit> {
        Some(self.numbered(region)?.spec.unit)
    }

    /// The protocol of a region that is mapped here.
    pub(super) fn protocol_of(&self, region: RegionId) -> Option<Protocol> {
        Some(self.numbered(region)?.spec.protocol)
    }

    /// The protocol of a page that exists here.
    pub(super) fn protocol(&self, page: PageAddress) -> Protocol {
        self.region(page).expect("the page was checked when the event came in").spec.protocol
    }

    /// The home of `page`; `None` when this node has not been told.
    pub(super) fn home(&self, page: PageAddress) -> Result<Option<NodeId>, &'static str> {
        let region = self.region(page).ok_or(NO_SUCH_PAGE)?;
        let RegionSpec { placement, pages, .. } = region.spec;
        let told = || region.homes.get(page.page).checked_sub(1).map(NodeId::new);
        Ok(match placement {
            Placement::FirstTouch => told(),
            _ => placement.home(page.page, pages, self.nodes),
        })
    }

    /// The node that settles the home of `page` by its first touch; `None` where that is settled otherwise.
    pub(super) fn anchor(&self, page: PageAddress) -> Result<Option<NodeId>, &'static str> {
        let region = self.region(page).ok_or(NO_SUCH_PAGE)?;
        let settled_late = region.spec.placement == Placement::FirstTouch;
        Ok(settled_late.then(|| Placement::anchor(page.page, self.nodes)))
    }

    /// Keeps in mind, for ever, who is the home of `page`.
    pub(super) fn settle_home(&mut self, page: PageAddress, home: NodeId) {
        self.region_mut(page).homes.set(page.page, home.get() + 1);
    }

    /// Whether hints can be of use in such a region: a home, an owner and a reader are three, and where a miss brings several pages, not all
    /// have one owner.
    fn can_hint(&self, spec: &RegionSpec) -> bool {
        self.nodes > 2 && spec.protocol == Protocol::WriteInvalidate && spec.unit == Unit::Page
    }

    /// From now on this node has patience for so many wrong hints in a row in `region`, if hints can be of use there.
    pub(super) fn set_hint_patience(&mut self, region: RegionId, patience: u8) {
        let Some(spec) = self.spec(region).filter(|spec| self.can_hint(spec)) else { return };
        let region = self.numbered_mut(region).expect("it was just found");
        if (region.patience == 0) != (patience == 0) {
            region.owners = Sparse::new(if patience > 0 { spec.pages } else { 0 });
        }
        (region.patience, region.doubt) = (patience, Doubt::default());
    }

    /// Whether this node keeps in mind who is likely to own `page`, which exists here.
    pub(super) fn keeps_hints(&self, page: PageAddress) -> bool {
        self.hint_patience(page) > 0
    }

    /// For how many wrong hints in a row this node has patience in the region of `page`.
    pub(super) fn hint_patience(&self, page: PageAddress) -> u8 {
        self.region(page).expect("the page was checked when the event came in").patience
    }

    /// Who is likely to own `page`, where that is kept in mind.
    pub(super) fn owner_hint(&self, page: PageAddress) -> Option<NodeId> {
        let region = self.region(page).expect("the page was checked when the event came in");
        region.owners.get(page.page).checked_sub(1).map(NodeId::new)
    }

    pub(super) fn set_owner_hint(&mut self, page: PageAddress, owner: Option<NodeId>) {
        self.region_mut(page).owners.set(page.page, owner.map_or(0, |owner| owner.get() + 1));
    }

    /// How far hints of the region of `page` are trusted.
    pub(super) fn doubt(&mut self, page: PageAddress) -> &mut Doubt {
        &mut self.region_mut(page).doubt
    }

    /// Who has written `page`, of which this node is the home, lately.
    pub(super) fn habit(&self, page: PageAddress) -> u32 {
        self.region(page).expect("the page was checked when the event came in").habits.get(page.page)
    }

    pub(super) fn set_habit(&mut self, page: PageAddress, habit: u32) {
        self.region_mut(page).habits.set(page.page, habit);
    }

    /// What is expected of this node's threads about `page`.
    pub(super) fn expected(&self, page: PageAddress) -> u32 {
        self.region(page).expect("the page was checked when the event came in").expected.get(page.page)
    }

    pub(super) fn set_expected(&mut self, page: PageAddress, expected: u32) {
        self.region_mut(page).expected.set(page.page, expected);
    }

    /// Pages of `run` that this node has a copy of or has asked for.
    pub(super) fn in_use(&self, run: PageRun) -> impl Iterator<Item = PageAddress> + '_ {
        let PageRun { first, count } = run;
        let local = self.region(first).map(|region| region.local.written(first.page, count));
        let used = local.into_iter().flatten().filter(|(_, word)| *word != 0);
        used.map(move |(page, _)| PageAddress::new(first.region, page))
    }

    /// `None` when the page does not exist here.
    pub(super) fn local(&self, page: PageAddress) -> Option<LocalPage> {
        Some(LocalPage::unpack(self.region(page)?.local.get(page.page)))
    }

    pub(super) fn set_local(&mut self, page: PageAddress, local: LocalPage) {
        let region = self.region_mut(page);
        region.local.set(page.page, local.pack());
        if let Some(clean) = &mut region.clean {
            let change = clean.set(page.page, local.state == PageState::Shared);
            self.clean = self.clean.wrapping_add_signed(change);
        }
    }

    /// The caller can tell which pages of this region were written.
    pub(super) fn track_writes(&mut self, region: RegionId) {
        let region = self.numbered_mut(region).filter(|region| region.spec.protocol == Protocol::Release);
        if let Some(region) = region.filter(|region| region.clean.is_none()) {
            region.clean = Some(PageBits::new(region.spec.pages));
        }
    }

    pub(super) fn tracks_writes(&self, region: RegionId) -> bool {
        self.numbered(region).is_some_and(|region| region.clean.is_some())
    }

    /// The first page of `region` from `from` on that has to be looked at.
    pub(super) fn next_clean(&self, region: RegionId, from: u64) -> Option<u64> {
        self.numbered(region)?.clean.as_ref()?.next(from)
    }

    /// Where this node is the home of `page` and the only one to have a copy, for reading, with nothing under way: makes it one for writing.
    /// False, and nothing changed, everywhere else. One look at each table: this is most of what such a fault costs here.
    pub(super) fn own_alone(&mut self, page: PageAddress) -> bool {
        let (node, nodes) = (self.node, self.nodes);
        let region = self.regions.get_mut(page.region.index()).and_then(Option::as_mut);
        let Some(region) = region.filter(|region| region.id == page.region && region.is_open) else {
            return false;
        };
        let RegionSpec { placement, pages, protocol, .. } = region.spec;
        if protocol != Protocol::WriteInvalidate || page.page >= pages {
            return false;
        }
        let readable = LocalPage { state: PageState::Shared, pending: None };
        if region.local.get(page.page) != readable.pack() {
            return false;
        }
        let home = match placement {
            Placement::FirstTouch => region.homes.get(page.page).checked_sub(1).map(NodeId::new),
            _ => placement.home(page.page, pages, nodes),
        };
        if home != Some(node) || !region.directory.own_alone(placement.entry(page.page, pages, nodes), node) {
            return false;
        }
        region.local.set(page.page, LocalPage { state: PageState::Modified, pending: None }.pack());
        true
    }

    /// The directory entry of a page whose home is, or is about to be, this node.
    pub(super) fn entry(&self, page: PageAddress) -> DirectoryEntry {
        let region = self.region(page).expect("the page was checked when the event came in");
        let RegionSpec { placement, pages, .. } = region.spec;
        debug_assert!(self.home(page).is_ok_and(|home| home.is_none_or(|home| home == self.node)));
        region.directory.get(placement.entry(page.page, pages, self.nodes))
    }

    /// As [`Directory::add_reader`], for a page whose home is this node.
    pub(super) fn add_reader(&mut self, page: PageAddress, reader: NodeId, live: &NodeSet) -> bool {
        let (node, nodes) = (self.node, self.nodes);
        let Some(region) = self.numbered_mut(page.region) else { return false };
        let RegionSpec { placement, pages, .. } = region.spec;
        region.directory.add_reader(placement.entry(page.page, pages, nodes), node, reader, live)
    }

    /// The transaction under way on a page whose home is, or is about to be, this node.
    pub(super) fn busy(&self, page: PageAddress) -> Option<u32> {
        let region = self.region(page).expect("the page was checked when the event came in");
        let RegionSpec { placement, pages, .. } = region.spec;
        region.directory.busy(placement.entry(page.page, pages, self.nodes))
    }

    pub(super) fn set_entry(&mut self, page: PageAddress, entry: DirectoryEntry) {
        let nodes = self.nodes;
        let region = self.region_mut(page);
        let RegionSpec { placement, pages, .. } = region.spec;
        region.directory.set(placement.entry(page.page, pages, nodes), entry);
    }

    /// Bytes of the directory entry of a page whose home is this node.
    pub(super) fn entry_bytes(&self, page: PageAddress) -> Option<usize> {
        let region = self.region(page)?;
        let RegionSpec { placement, pages, .. } = region.spec;
        Some(region.directory.entry_bytes(placement.entry(page.page, pages, self.nodes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_survive_packing() {
        for state in [PageState::Invalid, PageState::Shared, PageState::Modified] {
            for pending in [None, Some(0), Some(1 << 20)] {
                let local = LocalPage { state, pending };
                assert_eq!(LocalPage::unpack(local.pack()), local);
            }
        }
    }
}
