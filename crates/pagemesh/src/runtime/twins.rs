//! The twins of the pages that this node is writing in release regions, and the marks in those that it has lent to others.

use pagemesh_memory::diff::patch;
use pagemesh_memory::{
    DIFF_MOST, Diff, DiffBytes, DiffScratch, PAGE_BYTES, PageBytes, ServiceView, Twin, TwinArea, TwinPool,
};
use pagemesh_protocol::{PageAddress, RegionId, limits};
use std::collections::HashMap;

/// Pages that are pinned for writing keep their twins beyond those that the engine counts. Any page that is lent may have marks.
const MOST: usize = limits::TWINS + limits::PINS + limits::LENT;

/// Where twins and diffs are. Not on the stack: a fault handler may have as little as 8 KiB of it (sigaltstack(2)), and what a write
/// fault begins may end an interval.
#[derive(Debug)]
struct Room {
    pool: TwinPool,
    scratch: DiffScratch,
    diff: DiffBytes,
    page: PageBytes,
}

/// The twins; nothing is set aside before the first is made.
#[derive(Debug, Default)]
pub(super) struct Twins {
    room: Option<Box<Room>>,
    /// The twins and, of pages that are lent, the marks: a byte for each byte of the page, 1 where others wrote. No page has both.
    of: HashMap<PageAddress, Twin>,
    /// Of regions in which every copy has a twin, because the kernel notes which pages are written: all of them. The engine knows
    /// which there are.
    areas: Vec<Option<TwinArea>>,
}

impl Twins {
    /// Reserves the room, before the first fault that needs it: a thread in a fault handler should not. False when there is none.
    pub(super) fn prepare(&mut self) -> bool {
        if self.room.is_none() {
            self.of.reserve(MOST);
            self.room = TwinPool::new(MOST * PAGE_BYTES)
                .inspect_err(|error| tracing::error!(%error, "no place for twins"))
                .ok()
                .map(|pool| {
                    Box::new(Room {
                        pool,
                        scratch: DiffScratch::new(),
                        diff: [0; DIFF_MOST],
                        page: [0; PAGE_BYTES],
                    })
                });
        }
        self.room.is_some()
    }

    /// Reserves room for a twin of every page of `region`. False when there is none.
    pub(super) fn prepare_area(&mut self, region: RegionId, pages: u64) -> bool {
        let area = TwinArea::new(pages)
            .inspect_err(|error| tracing::warn!(region = region.0, %error, "its writes are found by faults"))
            .ok();
        if self.areas.len() <= region.index() {
            self.areas.resize_with(region.index() + 1, || None);
        }
        self.areas[region.index()] = area;
        self.has_area(region)
    }

    pub(super) fn has_area(&self, region: RegionId) -> bool {
        self.areas.get(region.index()).is_some_and(Option::is_some)
    }

    pub(super) fn forget_area(&mut self, region: RegionId) {
        if let Some(area) = self.areas.get_mut(region.index()) {
            *area = None;
        }
    }

    fn area(&mut self, page: PageAddress) -> Option<&mut TwinArea> {
        self.areas.get_mut(page.region.index())?.as_mut()
    }

    /// Keeps a copy of `page`. False when there is no memory for it.
    pub(super) fn make(&mut self, page: PageAddress, service: &ServiceView) -> bool {
        if let Some(area) = self.area(page) {
            service.read_page(page.page, area.bytes_mut(page.page));
            return true;
        }
        let Some(Room { pool, .. }) = self.room.as_deref_mut() else { return false };
        let Ok(twin) = pool.take() else { return false };
        service.read_page(page.page, pool.bytes_mut(&twin));
        if let Some(old) = self.of.insert(page, twin) {
            pool.put(old);
        }
        true
    }

    /// What differs between `page` and its twin, which ends; or, to keep it, becomes what was sent.
    ///
    /// # Panics
    /// When the page has no twin: what was written to it would be lost without a word.
    pub(super) fn take_diff(&mut self, page: PageAddress, keep: bool, service: &ServiceView) -> &[u8] {
        if let Some(area) = self.areas.get_mut(page.region.index()).and_then(Option::as_mut) {
            let Room { scratch, diff: out, .. } = self.room.as_deref_mut().expect("its region is mapped");
            let length = service.diff_page_with(page.page, area.bytes(page.page), scratch, out);
            if keep && length > 0 {
                patch(area.bytes_mut(page.page), &out[..length]).expect("the diff was just made");
            }
            return &out[..length];
        }
        let (Room { pool, scratch, diff: out, .. }, twin) =
            self.room.as_deref_mut().zip(self.of.remove(&page)).expect("a page that is written has a twin");
        let length = service.diff_page_with(page.page, pool.bytes(&twin), scratch, out);
        if keep {
            if length > 0 {
                patch(pool.bytes_mut(&twin), &out[..length]).expect("the diff was just made");
            }
            self.of.insert(page, twin);
        } else {
            pool.put(twin);
        }
        &out[..length]
    }

    /// Whether `page` is as its twin; one without a twin is not.
    pub(super) fn is_equal(&mut self, page: PageAddress, service: &ServiceView) -> bool {
        let Some(Room { pool, scratch, diff: out, .. }) = self.room.as_deref_mut() else { return false };
        let area = self.areas.get(page.region.index()).and_then(Option::as_ref);
        let twin = match area {
            Some(area) => Some(area.bytes(page.page)),
            None => self.of.get(&page).map(|twin| pool.bytes(twin)),
        };
        twin.is_some_and(|twin| service.diff_page_with(page.page, twin, scratch, out) == 0)
    }

    pub(super) fn drop_twin(&mut self, page: PageAddress) {
        if let Some((room, twin)) = self.room.as_mut().zip(self.of.remove(&page)) {
            room.pool.put(twin);
        }
    }

    /// The region is gone: its twins and marks are over.
    pub(super) fn forget_region(&mut self, region: RegionId) {
        self.forget_area(region);
        let Some(Room { pool, .. }) = self.room.as_deref_mut() else { return };
        self.of.extract_if(|page, _| page.region == region).for_each(|(_, twin)| pool.put(twin));
    }

    /// Stores what `diff` has to a page that is lent, and marks it.
    ///
    /// # Panics
    /// When more pages are lent than [`limits::LENT`]: to go on would lose what was written.
    pub(super) fn apply_marked(&mut self, page: PageAddress, diff: &Diff<'_>, service: &ServiceView) {
        let room = self.room.as_deref_mut().expect("its region is mapped");
        let marks = self.of.entry(page).or_insert_with(|| {
            let marks = room.pool.take().expect("there is room for marks in every page that may be lent");
            room.pool.bytes_mut(&marks).fill(0);
            marks
        });
        diff.mark(room.pool.bytes_mut(marks));
        service.apply_checked(page.page, diff);
    }

    /// A page that was lent is back, as `bytes`: stores those that are not marked.
    pub(super) fn fill_around(&mut self, page: PageAddress, bytes: &PageBytes, service: &ServiceView) {
        let Some((room, marks)) = self.room.as_deref_mut().zip(self.of.remove(&page)) else {
            return service.write_page(page.page, bytes);
        };
        service.read_page(page.page, &mut room.page);
        let marked = room.pool.bytes(&marks);
        for ((byte, new), mark) in room.page.iter_mut().zip(bytes).zip(marked) {
            if *mark == 0 {
                *byte = *new;
            }
        }
        service.write_page(page.page, &room.page);
        room.pool.put(marks);
    }

    /// Stores what others changed in `page`, which is `bytes` to them: what differs from the twin, which ends. Without one nobody
    /// is writing the page.
    pub(super) fn adopt(&mut self, page: PageAddress, bytes: &PageBytes, service: &ServiceView) {
        if let Some(area) = self.area(page) {
            return store_changed(page, bytes, area.bytes_mut(page.page), service);
        }
        let Some((room, twin)) = self.room.as_deref_mut().zip(self.of.remove(&page)) else {
            return service.write_page(page.page, bytes);
        };
        store_changed(page, bytes, room.pool.bytes_mut(&twin), service);
        room.pool.put(twin);
    }

    /// As `adopt`, but the twin stays, brought to what others know.
    pub(super) fn update(&mut self, page: PageAddress, bytes: &PageBytes, service: &ServiceView) {
        if let Some(area) = self.area(page) {
            return store_changed(page, bytes, area.bytes_mut(page.page), service);
        }
        match self.room.as_deref_mut().zip(self.of.get(&page)) {
            None => service.write_page(page.page, bytes),
            Some((room, twin)) => store_changed(page, bytes, room.pool.bytes_mut(twin), service),
        }
    }
}

/// Stores those of `bytes` that are not `known`, byte for byte, and makes them known: threads may be writing those between them.
fn store_changed(page: PageAddress, bytes: &PageBytes, known: &mut PageBytes, service: &ServiceView) {
    let start = page.page as usize * PAGE_BYTES;
    let mut place = 0;
    while place < PAGE_BYTES {
        let changed = bytes[place..].iter().zip(&known[place..]).take_while(|(new, old)| new != old).count();
        if changed > 0 {
            let run = place..place + changed;
            service.write(start + place, &bytes[run.clone()]);
            known[run.clone()].copy_from_slice(&bytes[run]);
        }
        place += changed.max(1);
    }
}
