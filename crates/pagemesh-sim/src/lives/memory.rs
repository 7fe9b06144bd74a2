//! What a node has mapped: one value a page, its twin and its mark.

use pagemesh_protocol::{PageAddress, RegionId, RegionSpec};
use std::collections::BTreeMap;
use std::ops::Range;

/// What an application may do with a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rights {
    #[default]
    None,
    Read,
    Write,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Copy {
    pub(super) value: u64,
    pub(super) rights: Rights,
    pub(super) twin: Option<u64>,
    pub(super) marked: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Mapped {
    pub(super) spec: RegionSpec,
    pages: Vec<Copy>,
}

/// The regions of one node, by their numbers; those that are gone too, until their addresses are free.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    regions: BTreeMap<RegionId, Mapped>,
    pub(super) forgotten: Vec<(RegionId, Range<u64>)>,
}

fn addresses(spec: &RegionSpec) -> Range<u64> {
    spec.address..spec.address + spec.pages * 4096
}

impl Memory {
    /// Maps a region; false when something is there.
    pub(super) fn map(&mut self, region: RegionId, spec: RegionSpec) -> bool {
        let wanted = addresses(&spec);
        let free = |other: &Range<u64>| other.end <= wanted.start || wanted.end <= other.start;
        let is_free = self.regions.values().all(|mapped| free(&addresses(&mapped.spec)))
            && self.forgotten.iter().all(|(_, other)| free(other));
        if is_free {
            let pages = vec![Copy::default(); spec.pages as usize];
            self.regions.insert(region, Mapped { spec, pages });
        }
        is_free
    }

    pub(super) fn unmap(&mut self, region: RegionId) {
        self.regions.remove(&region);
    }

    /// The region is gone, and its addresses are free later.
    pub(super) fn forget(&mut self, region: RegionId) -> Result<(), String> {
        let mapped = self.regions.remove(&region).ok_or_else(|| format!("{region:?} was not mapped"))?;
        self.forgotten.push((region, addresses(&mapped.spec)));
        Ok(())
    }

    pub(super) fn spec(&self, region: RegionId) -> Option<RegionSpec> {
        Some(self.regions.get(&region)?.spec)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.regions.is_empty() && self.forgotten.is_empty()
    }

    pub(super) fn page(&mut self, page: PageAddress) -> Result<&mut Copy, String> {
        let mapped = self.regions.get_mut(&page.region);
        let found = mapped.and_then(|mapped| mapped.pages.get_mut(page.page as usize));
        found.ok_or_else(|| format!("{page:?} is not mapped"))
    }
}
